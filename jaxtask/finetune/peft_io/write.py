"""A trained task as a folder in PEFT's format."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.adapters.write import PREFIX, check_free, write_folder
from jaxtask.errors import TrainingError
from jaxtask.finetune.models.architectures import DECODERS, ENCODERS
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.parameters import Tree
from jaxtask.patterns import ends_with

# Linear layers of the supported models that no LoRA is put on. PEFT matches targets against all.
_UNTARGETED = {row.names["head"] for row in DECODERS.values()} | {
    name for row in ENCODERS.values() for name in (row.pooler, *row.head) if name
}


@dataclass(frozen=True)
class AdapterForm:
    """Everything about one task's adapter but its numbers.

    Attributes:
        ranks: Module → its rank in each layer [L]; 0 where there is no LoRA.
        layer_name: The name of a layer in the Hugging Face model, such as ``model.layers.3``.
        head: The layers of a classifier's head: (in, out); empty for a language model.

    """

    base: str
    lora: Lora
    ranks: Mapping[str, np.ndarray]
    layer_name: Callable[[int], str]
    head: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def modules(self) -> list[tuple[str, int, str, int]]:
        """(module, layer, full name, rank) wherever there is LoRA."""
        return [
            (module, layer, f"{self.layer_name(layer)}.{module}", int(rank))
            for module, row in self.ranks.items()
            for layer, rank in enumerate(row)
            if rank
        ]


def write_adapter(
    folder: str | os.PathLike[str],
    parameters: Tree,
    form: AdapterForm,
    provenance: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write one task's adapter; an error leaves nothing behind.

    Args:
        folder: Where to. An adapter that is there is replaced if `overwrite`; anything else never.
        parameters: Parameters of one task: A [L, in, r] and B [L, r, out] of every module,
            ``kernel`` [in, out] and ``bias`` [out] of every layer of the head. What lies beyond the
            ranks and widths of `form` is left out. Written as float32, with ΔW = s·B·A as in
            training.
        form: What they are.
        provenance: JSON-able; goes to ``jaxtask.json`` beside the version.
        overwrite: See `folder`.

    Raises:
        AdapterError: The folder is taken or cannot be written.
        TrainingError: A value is not finite.

    """
    folder = Path(folder)
    check_free(folder, overwrite)
    write_folder(folder, adapter_tensors(parameters, form), adapter_config(form), provenance)


def adapter_tensors(parameters: Tree, form: AdapterForm) -> dict[str, np.ndarray]:
    """The tensors of the file: PEFT's names, and its orientation (lora_A [r, in], …)."""
    tensors: dict[str, np.ndarray] = {}
    for module, layer, name, rank in form.modules():
        A, B = parameters[module]["A"][layer], parameters[module]["B"][layer]
        tensors[f"{PREFIX}{name}.lora_A.weight"] = A[:, :rank].T
        tensors[f"{PREFIX}{name}.lora_B.weight"] = B[:rank].T
    for name, (d_in, d_out) in form.head.items():
        tensors[f"{PREFIX}{name}.weight"] = parameters[name]["kernel"][:d_in, :d_out].T
        tensors[f"{PREFIX}{name}.bias"] = parameters[name]["bias"][:d_out]
    for name, tensor in tensors.items():
        tensors[name] = np.ascontiguousarray(tensor, np.float32)
        if not np.isfinite(tensors[name]).all():
            raise TrainingError(f"'{name}' holds values that are not finite: training diverged")
    return tensors


def adapter_config(form: AdapterForm) -> dict[str, Any]:
    """The fields of `adapter_config.json`."""
    lora = form.lora
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if form.head else "CAUSAL_LM",
        "base_model_name_or_path": form.base,
        "inference_mode": True,
        "r": lora.r,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "use_rslora": lora.rslora,
        "lora_dropout": lora.dropout,
        "rank_pattern": dict(lora.rank_pattern),
        "alpha_pattern": dict(lora.alpha_pattern),
        "target_modules": _targets(form),
        "modules_to_save": sorted({name.split(".")[0] for name in form.head}) or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def _targets(form: AdapterForm) -> list[str]:
    """The targets as they were given, or full names where PEFT would understand them otherwise.

    That is a regular expression, and a name such as ``dense`` that the head has too.
    """
    given = form.lora.targets
    if isinstance(given, str) or any(
        ends_with(name, target) for name in _UNTARGETED for target in given
    ):
        return [name for _, _, name, _ in form.modules()]
    return list(given)

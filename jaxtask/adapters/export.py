"""An adapter of any format that is read, written in PEFT's or in mlx-lm's.

PEFT's config has an α for every module (``alpha_pattern``), so factors are written as they are
stored, bit for bit. mlx-lm has one scale for all: the most frequent one; what a module's own scale
is beside it is multiplied into its B, in float64 and rounded once.

Both formats name modules of a model as transformers does. Modules that they have no form for are
refused, by their path.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.adapters.adapter import Adapter
from jaxtask.adapters.bank import AdapterBank
from jaxtask.adapters.factors import ModuleEntry
from jaxtask.adapters.find import MLX_WEIGHTS
from jaxtask.adapters.formats.diffusers import COMPONENTS
from jaxtask.adapters.formats.mlx import EMBEDDINGS
from jaxtask.adapters.keys import strip_wrappers
from jaxtask.adapters.load import load_adapters
from jaxtask.adapters.write import PREFIX, WEIGHTS, check_free, write_folder
from jaxtask.errors import AdapterError, shown

FORMATS = ("peft", "mlx")
_STORED = {"float16": np.dtype("float16"), "bfloat16": np.dtype("bfloat16")}
# The module within its layer: what mlx-lm's `keys` name.
_IN_LAYER = re.compile(r".+?\.(?:0|[1-9][0-9]*)\.(.+)")
# Fields of PEFT's config that hold in its format alone, whatever the modules are.
_CARRIED = ("task_type", "revision", "fan_in_fan_out")


def export_adapter(
    source: Adapter | AdapterBank | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    format: str = "peft",
    overwrite: bool = False,
    command: str = "",
) -> Adapter:
    """Write one adapter to a folder in another format; an error leaves nothing behind.

    Args:
        source: What `load_adapters` takes or returns, of one adapter.
        folder: Folder for ``adapter_config.json``, ``adapter_model.safetensors`` (mlx:
            ``adapters.safetensors``) and ``jaxtask.json``, which says where it comes from.
        format: ``"peft"`` or ``"mlx"`` (mlx-lm).
        overwrite: Replace an adapter in `folder` that was written here.
        command: The command line that asks for it, for ``jaxtask.json``.

    Returns:
        The adapter as read from `folder`. What of the source is not in it, such as heads that were
        trained in full, is in its ``provenance["excluded"]``, and what was changed in its
        ``provenance["notes"]``. ΔW of each module is that of the source: exactly, but for one
        rounding to float32 where mlx-lm needs it, and α/r·r in float64.

    Raises:
        AdapterError: The source is no single adapter, has a module that the format has no form
            for, or is not read whole (directional); or the folder is taken or cannot be written.

    """
    folder = Path(folder)
    if format not in FORMATS:
        raise AdapterError(f"format is {shown(format, 60)}, expected {' or '.join(FORMATS)}")
    check_free(folder, overwrite)
    adapter = _single(source)
    extracted = adapter.provenance.get("extracted")
    if adapter.provenance.get("approximate") and extracted is None:
        raise AdapterError(
            f"adapter '{adapter.name}' is not exported: {adapter.provenance['approximate']}"
        )
    modules = _modules(adapter, format)
    notes: list[str] = []
    if format == "peft":
        tensors, config = _peft(adapter, modules)
    else:
        tensors, config = _mlx(adapter, modules, notes)
    known = {name: adapter.provenance[name] for name in ("excluded", "notes", "approximate")}
    exported = {
        "source": adapter.provenance["source"],
        "format": adapter.provenance["format"],
        "excluded": known["excluded"],
        "notes": [*(_of_source(note) for note in known["notes"]), *notes],
    }
    about: dict[str, Any] = {"task": adapter.name, "command": command, "exported": exported}
    if extracted is not None:  # which then tells all that was known before
        exported |= {"excluded": {}, "notes": notes}
        about["extracted"] = extracted | known
    write_folder(folder, tensors, config, about, WEIGHTS if format == "peft" else MLX_WEIGHTS)
    (written,) = load_adapters({adapter.name: folder}).adapters
    return written


def _of_source(note: str) -> str:
    return note if note.startswith("source: ") else f"source: {note}"


def _single(source: Adapter | AdapterBank | str | os.PathLike[str]) -> Adapter:
    if isinstance(source, Adapter):
        return source
    bank = source if isinstance(source, AdapterBank) else load_adapters(source)
    if len(bank.adapters) != 1:
        raise AdapterError(
            f"expected one adapter, found {len(bank.adapters)} ({', '.join(bank.tasks[:3])}"
            f"{', …' if len(bank.adapters) > 3 else ''}): export them one by one"
        )
    return bank.adapters[0]


def _modules(adapter: Adapter, format: str) -> dict[str, ModuleEntry]:
    """The modules by their paths in a model; raises for what the format has no form for."""
    where = f"adapter '{adapter.name}'"
    if adapter.provenance["format"] == "kohya":
        first = adapter.path(next(iter(adapter.modules)))
        raise AdapterError(
            f"{where} is kohya's: the name {first!r} is flattened, which module of a model it "
            "means is not known"
        )
    modules: dict[str, ModuleEntry] = {}
    for key in adapter.modules:
        entry = _with_kind(adapter, adapter.entry(key))
        path = strip_wrappers(entry.path)
        why = _unwritable(entry, path, format)
        if why:
            raise AdapterError(f"{where}: module {entry.path!r} cannot be written: {why}")
        modules[path] = entry
    if adapter.provenance["format"] == "diffusers":
        modules = _one_component(where, modules, format)
    return modules


def _with_kind(adapter: Adapter, entry: ModuleEntry) -> ModuleEntry:
    """The entry with what the module is, where it does not come from a file that tells it."""
    extracted = adapter.provenance.get("extracted", {}).get("modules", {}).get(entry.path)
    if extracted is not None:
        embedding = extracted["kind"] == "embedding"
    else:
        embedding = adapter.provenance["format"] == "memory" and _named_embedding(entry.path)
    return dataclasses.replace(entry, kind="embedding") if embedding else entry


def _named_embedding(path: str) -> bool:
    return path.rpartition(".")[2] in EMBEDDINGS


def _unwritable(entry: ModuleEntry, path: str, format: str) -> str:
    """Why a module has no form in a format; empty if it has one."""
    if entry.kind == "convolution":
        return "it is a convolution, of which only the flattened kernels are known"
    if entry.kind == "expert":
        return "it is one of several experts, or a parameter, in a stack"
    if ":" in path:
        return "its path in the model is not known, only its layer and name"
    if ".base_layer" in path:
        return "it is within a layer that PEFT wraps as a whole"
    if format == "mlx" and re.search(r"\.experts\.[0-9]+\.", f".{path}."):
        return "it is an expert, which mlx-lm stacks in one module"
    if format == "mlx" and _named_embedding(path) != (entry.kind == "embedding"):
        return "mlx-lm's format tells embeddings by their names alone, and this one misleads"
    return ""


def _one_component(
    where: str, modules: dict[str, ModuleEntry], format: str
) -> dict[str, ModuleEntry]:
    """The modules of a pipeline's only component, by their paths in it."""
    if format == "mlx":
        raise AdapterError(f"{where}: {next(iter(modules))!r} is of no model that mlx-lm has")
    components = {path.partition(".")[0] for path in modules}
    if not components <= COMPONENTS:  # a file of one model has none
        return modules
    if len(components) > 1:
        raise AdapterError(
            f"{where} is of several models ({', '.join(sorted(components))}), PEFT's is of one"
        )
    return {path.partition(".")[2]: entry for path, entry in modules.items()}


def _peft(
    adapter: Adapter, modules: dict[str, ModuleEntry]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and config in PEFT's format."""
    tensors: dict[str, np.ndarray] = {}
    ranks, alphas = {}, {}
    for path, entry in modules.items():
        B, A = _factors(entry)
        if entry.kind == "embedding":  # PEFT's update of an embedding is (BA)ᵀ
            tensors[f"{PREFIX}{path}.lora_embedding_A"] = np.ascontiguousarray(B.T)
            tensors[f"{PREFIX}{path}.lora_embedding_B"] = np.ascontiguousarray(A.T)
        else:
            tensors[f"{PREFIX}{path}.lora_A.weight"] = A
            tensors[f"{PREFIX}{path}.lora_B.weight"] = B
        ranks[path] = A.shape[0]
        alphas[path] = _alpha(entry.scale, A.shape[0])
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    fields = adapter.provenance["config"] if adapter.provenance["format"] == "peft" else {}
    extracted = adapter.provenance.get("extracted", {}).get("modules", {})
    if any(module["kind"] == "conv1d" for module in extracted.values()):
        fields = {**fields, "fan_in_fan_out": True}
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": adapter.base_model,
        **{name: fields[name] for name in _CARRIED if name in fields},
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "rank_pattern": _others(ranks, rank),
        "alpha_pattern": _others(alphas, alpha),
        "target_modules": list(modules),
        "bias": "none",
        "init_lora_weights": True,
    }
    return tensors, config


def _mlx(
    adapter: Adapter, modules: dict[str, ModuleEntry], notes: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and config in mlx-lm's format. Notes what had to be rounded."""
    scale = _commonest([entry.scale for entry in modules.values()]) or 1.0
    tensors: dict[str, np.ndarray] = {}
    narrowed = folded = 0
    for path, entry in modules.items():
        B, A = _factors(entry)
        if entry.scale != scale:
            with np.errstate(all="ignore"):  # what is no number is refused below
                B = B.astype(np.float64) * np.divide(entry.scale, scale)
            folded += 1
        narrowed += entry.dtype == np.float64
        B, A = (_single_precision(path, factor) for factor in (B, A))
        first, second = (B, A) if entry.kind == "embedding" else (A.T, B.T)
        tensors[f"{path}.lora_a"] = np.ascontiguousarray(first)
        tensors[f"{path}.lora_b"] = np.ascontiguousarray(second)
    if folded:
        notes.append(
            f"{folded} module(s) of another scaling than {scale:g}: the ratio is multiplied into B."
        )
    if narrowed:
        notes.append(f"{narrowed} module(s) in float64 rounded to float32, as mlx computes.")
    inside = {path: _IN_LAYER.fullmatch(path) for path in modules}
    parameters = {
        "rank": _commonest([entry.A.shape[0] for entry in modules.values()]),
        "scale": scale,
        "dropout": 0.0,
        "keys": sorted({path if m is None else m[1] for path, m in inside.items()}),
    }
    config = {
        "fine_tune_type": "lora",
        "model": adapter.base_model,
        "num_layers": -1,  # all; those without tensors stay as they are
        "lora_parameters": parameters,
    }
    return tensors, config


def _factors(entry: ModuleEntry) -> tuple[np.ndarray, np.ndarray]:
    """B and A in the types that they are stored in, where these hold them exactly."""
    update = entry.load()
    return _narrow(update.B, entry.B.stored_as), _narrow(update.A, entry.A.stored_as)


def _narrow(factor: np.ndarray, stored_as: str) -> np.ndarray:
    if stored_as in _STORED:
        with np.errstate(over="ignore"):
            narrow = factor.astype(_STORED[stored_as])
        if np.array_equal(narrow.astype(factor.dtype), factor):
            return narrow
    return np.ascontiguousarray(factor)


def _single_precision(path: str, factor: np.ndarray) -> np.ndarray:
    """The factor in at most float32; raises where that holds none of its values."""
    if factor.dtype != np.float64:
        return factor
    with np.errstate(all="ignore"):
        single = factor.astype(np.float32)
    largest = np.abs(single).max()
    if not np.isfinite(largest) or (factor.any() and largest < np.finfo(np.float32).tiny):
        raise AdapterError(
            f"module {path!r} cannot be written: its values of about {np.abs(factor).max():.3g}, "
            "with its scaling, are beyond float32"
        )
    return single


def _alpha(scale: float, rank: int) -> float | int:
    """α with α/rank = scale; whole numbers as such, which some readers insist on."""
    alpha = scale * rank
    return int(alpha) if alpha.is_integer() else alpha


def _commonest(values: Sequence[Any] | Any) -> Any:
    return Counter(values).most_common(1)[0][0]


def _others(values: dict[str, Any], usual: Any) -> dict[str, Any]:
    """A pattern of PEFT for the modules that have another value than the usual one."""
    return {f"^{re.escape(path)}": value for path, value in values.items() if value != usual}

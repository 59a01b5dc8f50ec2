"""An extracted task vector as a folder in PEFT's format."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.adapters import Adapter
from jaxtask.adapters.write import PREFIX, check_free, write_folder
from jaxtask.errors import AdapterError


def write_difference(
    adapter: Adapter,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    command: str = "",
) -> None:
    """Write what `from_checkpoints` returned; an error leaves nothing behind.

    The factors are float32, each with √s, and lora_alpha = r, so that ΔW = B·A. PEFT loads the
    folder onto the base model, which is then the fine-tuned one but for what is left out.

    Raises:
        AdapterError: The adapter is another, or the folder is taken or cannot be written.

    """
    folder = Path(folder)
    check_free(folder, overwrite)
    extracted = adapter.provenance.get("extracted")
    if extracted is None:
        raise AdapterError(f"adapter '{adapter.name}' was not made from checkpoints")
    modules = extracted["modules"]
    tensors: dict[str, np.ndarray] = {}
    for key in adapter.modules:
        path, update = adapter.path(key), adapter.load(key)
        if modules[path]["kind"] == "embedding":  # PEFT's update of an embedding is (BA)ᵀ
            tensors[f"{PREFIX}{path}.lora_embedding_A"] = np.ascontiguousarray(update.B.T)
            tensors[f"{PREFIX}{path}.lora_embedding_B"] = np.ascontiguousarray(update.A.T)
        else:
            tensors[f"{PREFIX}{path}.lora_A.weight"] = update.A
            tensors[f"{PREFIX}{path}.lora_B.weight"] = update.B
    about = {name: adapter.provenance[name] for name in ("excluded", "notes", "approximate")}
    told = {"task": adapter.name, "command": command, "extracted": extracted | about}
    write_folder(folder, tensors, _config(adapter.base_model, modules), told)


def _config(base: str | None, modules: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fields of ``adapter_config.json``: every module by its full name, with its own rank."""
    rank = max(module["rank"] for module in modules.values())
    others = {f"^{re.escape(p)}": m["rank"] for p, m in modules.items() if m["rank"] != rank}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": list(modules),
        "bias": "none",
        "fan_in_fan_out": any(module["kind"] == "conv1d" for module in modules.values()),
        "init_lora_weights": True,
    }

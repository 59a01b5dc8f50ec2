"""An adapter as a folder in PEFT's or mlx-lm's format: whole, or not there at all.

A folder has ``adapter_config.json`` and ``adapter_model.safetensors``, which PEFT loads, or
``adapters.safetensors``, which mlx-lm loads, and ``jaxtask.json``, which says how the adapter came
about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.adapters.find import MLX_WEIGHTS, WEIGHT_NAMES
from jaxtask.adapters.formats.peft_config import CONFIG_NAME
from jaxtask.adapters.origin import ORIGIN
from jaxtask.errors import AdapterError
from jaxtask.folders import check_replaceable, new_folder
from jaxtask.version import __version__

CONFIG, WEIGHTS = CONFIG_NAME, WEIGHT_NAMES[0]
PREFIX = "base_model.model."
FILES = (CONFIG, WEIGHTS, MLX_WEIGHTS, ORIGIN)
"""All that a folder of an adapter may hold."""


def check_free(folder: Path, overwrite: bool) -> None:
    """Check that an adapter may be written to `folder`, without touching it.

    What is there may be replaced if it is one that was written here, and nothing else.

    Raises:
        AdapterError: It may not.

    """
    marks = CONFIG, ORIGIN
    check_replaceable(
        folder, "an adapter", AdapterError, ours=FILES, marks=marks, overwrite=overwrite
    )


def write_folder(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    weights: str = WEIGHTS,
) -> None:
    """Write the three files; an error leaves nothing behind, and what was there as it was.

    Args:
        folder: Replaced if it exists: see `check_free`.
        tensors: Tensors by the format's names, contiguous.
        config: The fields of ``adapter_config.json``.
        provenance: JSON-able; goes to ``jaxtask.json`` beside the version.
        weights: The file that they go to, which says the format: PEFT's or mlx-lm's.

    Raises:
        AdapterError: The folder cannot be written.

    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    about = {"format": "jaxtask adapter 1", "version": __version__, **provenance}
    try:
        with new_folder(folder, FILES) as draft:
            made_for = "mlx" if weights == MLX_WEIGHTS else "pt"
            save_file(dict(tensors), draft / weights, metadata={"format": made_for})
            (draft / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            (draft / ORIGIN).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{folder}: cannot be written: {error}") from error

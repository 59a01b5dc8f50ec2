"""The tensors of a Hugging Face folder, read one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes  # noqa: F401  (safetensors then knows bfloat16)
import numpy as np

from jaxtask.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_FLOATS = {"F64", "F32", "F16", "BF16"}


class Weights(Protocol):
    """Named tensors in the layout of Hugging Face files."""

    @property
    def source(self) -> str:
        """The file or folder, for messages."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, known without reading it."""

    def read(self, name: str) -> np.ndarray:
        """One tensor."""


class FolderWeights:
    """The tensors of `model.safetensors`, or of the files that its index names.

    A file is mapped while one of its tensors is read and no longer: what stays mapped counts as
    memory in use.
    """

    def __init__(self, folder: Path) -> None:
        self.source = str(folder)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._stored: dict[str, tuple[Path, str]] = {}
        for file, expected in _files(folder).items():
            for name, (dtype, shape) in _header(file).items():
                if expected is None or name in expected:
                    self.shapes[name], self._stored[name] = shape, (file, dtype)
            lacking = (expected or set()) - self.shapes.keys()
            if lacking:
                raise ModelError(
                    f"{file}: lacks tensor '{min(lacking)}', which {INDEX} puts there."
                )

    def read(self, name: str) -> np.ndarray:
        """See `Weights.read`; a copy in the stored type."""
        from safetensors import SafetensorError, safe_open

        file, dtype = self._stored[name]
        if dtype not in _FLOATS:
            raise ModelError(
                f"{file}: tensor '{name}' is stored as {dtype}, expected a floating-point type "
                "(quantised weights are read from GGUF files)."
            )
        try:
            with safe_open(file, framework="numpy") as opened:
                return opened.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file}: tensor '{name}' cannot be read: {error}.") from error


def _files(folder: Path) -> dict[Path, set[str] | None]:
    """The weight files, each with the tensors that the index puts there (None: all of them)."""
    if (folder / SINGLE).exists():
        return {folder / SINGLE: None}
    index = folder / INDEX
    if not index.exists():
        raise ModelError(f"{folder}: holds neither {SINGLE} nor {INDEX}.")
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files: dict[Path, set[str] | None] = {}
        for name, file in sorted(places.items()):
            held = files.setdefault(folder / file, set())
            assert held is not None
            held.add(name)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{index}: expected a JSON object whose 'weight_map' gives every tensor's "
            f"file: {error!r}."
        ) from error
    return files


def _header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    try:
        with safe_open(file, framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118  (the handle is no dictionary)
                stored: Any = opened.get_slice(name)
                found[name] = stored.get_dtype(), tuple(stored.get_shape())
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{file}: is missing, truncated or no safetensors file: {error}."
        ) from error
    return found

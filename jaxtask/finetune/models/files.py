"""The tensors of a Hugging Face folder, read one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import ml_dtypes  # noqa: F401  (safetensors then knows bfloat16)
import numpy as np

from jaxtask.adapters.weight_files import INDEX, weight_files
from jaxtask.errors import ModelError, shown
from jaxtask.finetune.foreign import said

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
        for file, expected in weight_files(folder).items():
            for name, (dtype, shape) in _header(file).items():
                if expected is None or name in expected:
                    self.shapes[name], self._stored[name] = shape, (file, dtype)
            lacking = (expected or set()) - self.shapes.keys()
            if lacking:
                raise ModelError(
                    f"{file}: lacks tensor {shown(min(lacking), 100)}, which {INDEX} puts there"
                )

    def read(self, name: str) -> np.ndarray:
        """See `Weights.read`; a copy in the stored type."""
        from safetensors import SafetensorError, safe_open

        file, dtype = self._stored[name]
        if dtype not in _FLOATS:
            raise ModelError(
                f"{file}: tensor '{name}' is stored as {dtype}, expected a floating-point type "
                "(quantised weights are read from GGUF files)"
            )
        try:
            with safe_open(file, framework="numpy") as opened:
                return opened.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file}: tensor '{name}' cannot be read: {error}") from error


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
            f"{file}: is missing, truncated or no safetensors file: {said(error)}"
        ) from error
    return found

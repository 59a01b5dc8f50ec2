"""The tensors of a safetensors file, through the `safetensors` library.

A file stays open as long as one of its tensors is in use: the library has then parsed the header
and mapped the data, and holds no file descriptor. Reading a tensor copies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import stat_result
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxtask.adapters._stored import StoredTensor, first_look, reading_again
from jaxtask.errors import AdapterError, shown


class _OpenFile:
    """A file that stays open: one for all its tensors."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._opened: tuple[int, ...] = ()
        self._handle: Any = None  # the library's stubs have no type for its slices

    def handle(self, state: stat_result) -> Any:
        """The library's handle, made anew if the file was replaced or written to since."""
        now = state.st_dev, state.st_ino, state.st_mtime_ns
        if now != self._opened:
            self._handle, self._opened = safe_open(self.path, framework="numpy"), now
        return self._handle


@dataclass(frozen=True)
class SafeTensor(StoredTensor):
    """One tensor of a safetensors file."""

    file: _OpenFile

    def raw(self, *index: slice) -> np.ndarray:
        """See `StoredTensor.raw`."""
        with reading_again(self.path, self.file.size) as state:
            handle = self.file.handle(state)
            stored = handle.get_slice(self.name)
            dtype, shape = stored.get_dtype(), tuple(stored.get_shape())
            if (dtype, shape) != (self.dtype, self.shape):
                raise AdapterError(
                    f"{self.path}: the file changed after it was opened: tensor '{self.name}' was "
                    f"{self.dtype} {self.shape} and is {dtype} {shape}."
                )
            # No steps in `index`: before its version 0.8 the library ignores them.
            return stored[index] if index else handle.get_tensor(self.name)


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of `path` by name, and its free-text metadata. Reads the header only.

    Raises `AdapterError` for anything that is not a complete, consistent safetensors file.
    """
    state, _ = first_look(path)
    file = _OpenFile(path, state.st_size)
    try:
        handle = file.handle(state)
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"{path}: is not a safetensors file, or is truncated or damaged: it has "
            f"{state.st_size} bytes, and the safetensors library says {shown(str(error), 300)}."
        ) from error
    tensors: dict[str, StoredTensor] = {}
    for name in handle.keys():  # noqa: SIM118  (the handle is no dictionary)
        stored = handle.get_slice(name)
        dtype, shape = stored.get_dtype(), tuple(stored.get_shape())
        tensors[name] = SafeTensor(path, name, dtype, shape, file)
    return tensors, handle.metadata() or {}

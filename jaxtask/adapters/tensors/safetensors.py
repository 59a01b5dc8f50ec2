"""The tensors of a safetensors file, through the `safetensors` library.

A file stays open as long as one of its tensors is in use: the library has then parsed the header
and mapped the data, and holds no file descriptor. Reading a tensor copies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from os import stat_result
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxtask.adapters.tensors.stored import EXPECTED, StoredTensor, first_look, reading_again
from jaxtask.errors import AdapterError, shown
from jaxtask.text_files import MAX_BYTES, parse_json

# Bytes of a value of the types that all versions of the library know.
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2}
_BYTES |= {"I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
_MOST_DIMENSIONS = 16
_MOST_TENSORS = 150_000  # a pair for each of three matrices of 25,000 experts; read in seconds


class _OpenFile:
    """A file that stays open: one for all its tensors."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._opened: tuple[int, ...] = ()
        self._handle: Any = None  # the library's stubs have no type for its slices

    def handle(self, state: stat_result) -> Any:
        """The library's handle, opened again if the file was replaced or written to since."""
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
                    f"{self.dtype} {self.shape} and is {dtype} {shape}"
                )
            # No steps in `index`: before its version 0.8 the library ignores them.
            return stored[index] if index else handle.get_tensor(self.name)


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of `path` by name, and its free-text metadata. Reads the header only.

    Raises:
        AdapterError: For anything that is not a complete, consistent safetensors file.

    """
    state, start = first_look(path)
    if start[:2] == b"PK":
        raise AdapterError(
            f"{path}: is a ZIP archive, as torch.save writes it, and no safetensors file: its name "
            "should end with .bin"
        )
    file = _OpenFile(path, state.st_size)
    try:
        handle = file.handle(state)
    except (OSError, SafetensorError) as error:
        if isinstance(error, SafetensorError) and (fault := _fault(path, state.st_size)):
            raise AdapterError(f"{path}: {fault}") from error
        raise AdapterError(
            f"{path}: is not a safetensors file, or is truncated or damaged: it has "
            f"{state.st_size} bytes, and the safetensors library says {shown(str(error), 300)}"
        ) from error
    tensors: dict[str, StoredTensor] = {}
    names = handle.keys()
    if len(names) > _MOST_TENSORS:
        raise AdapterError(
            f"{path}: holds {len(names):,} tensors, expected {_MOST_TENSORS:,} at most"
        )
    for name in names:
        stored = handle.get_slice(name)
        dtype, shape = stored.get_dtype(), tuple(stored.get_shape())
        if len(shape) > _MOST_DIMENSIONS:
            raise AdapterError(f"{path}: tensor {shown(name)} has {len(shape)} dimensions")
        tensors[name] = SafeTensor(path, name, dtype, shape, file)
    return tensors, handle.metadata() or {}


def _fault(path: Path, size: int) -> str | None:
    """Which tensor is to blame that the library refuses a file, where one of the header is."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not length <= min(size - 8, MAX_BYTES):
            return None
        try:
            header = parse_json(file.read(length), str(path), AdapterError)
        except AdapterError:  # the library has said so
            return None
    if not isinstance(header, dict):
        return None
    for name, told in header.items():
        if name == "__metadata__" or not isinstance(told, dict):
            continue
        dtype, shape, at = told.get("dtype"), told.get("shape"), told.get("data_offsets")
        what = f"tensor {shown(name)}"
        if not isinstance(dtype, str) or dtype not in _BYTES:
            return f"{what} is stored as {shown(dtype)}, expected {EXPECTED}"
        if not _are_sizes(shape) or not _are_sizes(at):
            return f"{what} has the shape {shown(shape)} at {shown(at)}, expected whole numbers"
        if len(shape) > _MOST_DIMENSIONS:
            return f"{what} has {len(shape)} dimensions"
        if len(at) != 2 or prod(shape) * _BYTES[dtype] != at[1] - at[0]:
            return f"{what} of shape {shown(shape)} and type {dtype} does not take {shown(at)}"
    return None


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)

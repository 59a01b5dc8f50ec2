"""Tensors of a `.bin` file as torch.save writes it, read without torch and without executing.

The file is a ZIP archive: ``<name>/data.pkl`` is a pickle whose tensors refer to storages, and
``<name>/data/<key>`` holds the bytes of storage `key`, uncompressed. A pickle is a program. The
reader below runs it in an unpickler that knows exactly the few names a dictionary of tensors needs
and stands in its own inert records for them, so no code of the file's choosing can run; every
other name is refused before anything is called.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtask.adapters._stored import StoredTensor, dtype_name, first_look, reading_again
from jaxtask.errors import AdapterError

_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
_ITEM_BYTES |= {"U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "Float8_e4m3fnStorage": "F8_E4M3",
    "Float8_e5m2Storage": "F8_E5M2",
}
# What a damaged pickle makes the unpickler raise; the first four are in its documentation.
_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class ZippedTensor(StoredTensor):
    """One tensor of a `.bin` file, mapped while it is copied."""

    file_size: int  # bytes, when the file was opened
    offset: int  # bytes from the start of the file to the first element
    strides: tuple[int, ...]  # bytes

    def raw(self, *index: slice) -> np.ndarray:
        """See `StoredTensor.raw`."""
        dtype = np.dtype(dtype_name(self.dtype))
        if 0 in self.shape:
            return np.zeros(self.shape, dtype)[index]
        with reading_again(self.path, self.file_size):
            mapped = np.memmap(self.path, np.uint8, "r")
        return np.ndarray(self.shape, dtype, mapped, self.offset, self.strides)[index].copy()


class _StorageType(NamedTuple):
    dtype: str


class _Storage(NamedTuple):
    dtype: str
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int  # elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *_gradients_and_hooks: Any
) -> _Tensor:
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise ValueError("a tensor record is malformed")
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor record has a size that is not a non-negative integer")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *_gradient_and_hooks: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise ValueError("a parameter record holds no tensor")
    return tensor


_ALLOWED: dict[tuple[str, str], Callable[..., Any] | _StorageType] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(data))
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise AdapterError(
                f"{self._path}: the pickle asks for '{module}.{name}', which a dictionary of "
                "tensors never needs; the file is refused and nothing of it was executed."
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _location, _count = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"an unknown kind of reference, {kind!r}")
        return _Storage(storage_type.dtype, str(key))


def read_torch_zip(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file written by ``torch.save(state_dict)``, by name.

    Reads the pickle, not the tensor data. Raises `AdapterError` for the format of torch before
    1.6, for damaged files, and for a pickle that holds anything but a dictionary of tensors.
    """
    state, start = first_look(path)
    if start[:1] == b"\x80":
        raise AdapterError(
            f"{path}: is a bare pickle (torch.save before torch 1.6 wrote such files), which is "
            "not read; load it in torch and save it again as safetensors."
        )
    if start[:2] != b"PK":
        raise AdapterError(f"{path}: is not a file that torch.save wrote: it is no ZIP archive.")
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = {info.filename: info for info in archive.infolist()}
            root, pickled = _open_pickle(path, archive, members)
            starts: dict[str, tuple[int, int]] = {}
            for name, info in members.items():
                if name.startswith(f"{root}/data/"):
                    starts[name.removeprefix(f"{root}/data/")] = _data_start(path, file, info)
    except (zipfile.BadZipFile, OSError, EOFError, struct.error, NotImplementedError) as error:
        raise AdapterError(f"{path}: the archive is damaged or truncated: {error}.") from error
    try:
        loaded = _Unpickler(pickled, path).load()
    except AdapterError:
        raise
    except _PICKLE_ERRORS as error:
        raise AdapterError(f"{path}: the pickle in it is damaged: {error}.") from error
    if not isinstance(loaded, dict):
        raise AdapterError(
            f"{path}: holds a {type(loaded).__name__}, expected a dictionary of tensors."
        )
    return {str(name): _stored(path, state.st_size, name, t, starts) for name, t in loaded.items()}


def _open_pickle(
    path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]
) -> tuple[str, bytes]:
    """The archive's root folder and the bytes of its pickle."""
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise AdapterError(f"{path}: holds {len(pickles)} entries '*/data.pkl', expected one.")
    root = pickles[0].removesuffix("/data.pkl")
    order = members.get(f"{root}/byteorder")
    if order is not None and archive.read(order) != b"little":
        raise AdapterError(f"{path}: was written on a big-endian machine, which is not read.")
    # A stored entry cannot be larger than the file, so no archive can blow up in memory.
    if members[pickles[0]].compress_type != zipfile.ZIP_STORED:
        raise AdapterError(f"{path}: '{pickles[0]}' is compressed; torch.save never does that.")
    return root, archive.read(pickles[0])


def _data_start(path: Path, file: io.BufferedReader, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of an uncompressed entry start in the file, and how many they are.

    The local header is 30 bytes, then the name and the padding, whose lengths it gives.
    """
    if info.compress_type != zipfile.ZIP_STORED:
        raise AdapterError(f"{path}: '{info.filename}' is compressed; torch.save never does that.")
    file.seek(info.header_offset)
    name_length, extra_length = struct.unpack("<26xHH", file.read(30))
    return info.header_offset + 30 + name_length + extra_length, info.file_size


def _stored(
    path: Path, size: int, name: object, tensor: object, starts: dict[str, tuple[int, int]]
) -> StoredTensor:
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
        raise AdapterError(
            f"{path}: entry {name!r} is a {type(tensor).__name__}, expected names with tensors."
        )
    dtype, key = tensor.storage
    if key not in starts:
        raise AdapterError(f"{path}: tensor '{name}' needs storage '{key}', which is missing.")
    start, available = starts[key]
    item = _ITEM_BYTES[dtype]
    reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    last = tensor.offset + (0 if 0 in tensor.shape else reach + 1)
    if last * item > available or start + available > size:
        raise AdapterError(
            f"{path}: tensor '{name}' of shape {tensor.shape} needs {last * item} bytes of storage "
            f"'{key}', which has {available}."
        )
    offset = start + tensor.offset * item
    strides = tuple(s * item for s in tensor.strides)
    return ZippedTensor(path, name, dtype, tensor.shape, size, offset, strides)

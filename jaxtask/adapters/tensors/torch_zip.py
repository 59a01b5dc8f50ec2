"""Tensors of a `.bin` file as torch.save writes it, read without torch and without executing.

The file is a ZIP archive: ``<name>/data.pkl`` is a pickle whose tensors refer to storages, and
``<name>/data/<key>`` holds the bytes of storage `key`, uncompressed. A pickle is a program.
Python's own unpickler can be made to import, call, or hash for ever, so it is not used: `_load`
follows the few instructions that a dictionary of tensors needs, each in bounded time and memory,
with inert records in the place of tensors. Every other instruction and name is refused.
"""

from __future__ import annotations

import io
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtask.adapters.tensors.stored import StoredTensor, dtype_name, first_look, reading_again
from jaxtask.errors import AdapterError, shown

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
# What a pair for each expert of a large model takes. The tensors themselves lie elsewhere. All is
# read in a few seconds, also where each step takes as long as steps can.
_MAX_TENSORS = 40_000
_MAX_PICKLE = 12 << 20
_MAX_STEPS = 1_300_000
_MAX_DIRECTORY = 4 << 20  # of the archive, at its end
_MAX_DIMENSIONS = 8
_MAX_ARGUMENTS = 16
_MAX_KEY = 1000  # characters of a name


@dataclass(frozen=True)
class ZippedTensor(StoredTensor):
    """One tensor of a `.bin` file, mapped while it is copied.

    Attributes:
        file_size: Bytes, when the file was opened.
        offset: Bytes from the start of the file to the first element.
        strides: Strides in bytes.

    """

    file_size: int
    offset: int
    strides: tuple[int, ...]

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


class _Damaged(ValueError):
    """The pickle is not what torch.save writes of a dictionary of tensors."""


def _tensor(*given: Any) -> _Tensor:
    storage, offset, shape, strides = given[:4] if len(given) >= 4 else (None,) * 4
    sizes = isinstance(shape, tuple) and isinstance(strides, tuple)
    if not isinstance(storage, _Storage) or not sizes or len(shape) != len(strides):
        raise _Damaged("a tensor record is malformed")
    if len(shape) > _MAX_DIMENSIONS:
        raise _Damaged(f"a tensor has {len(shape)} dimensions")
    if not all(type(n) is int and 0 <= n < 2**63 for n in (offset, *shape, *strides)):
        raise _Damaged("a tensor record has a size that is not a non-negative integer")
    return _Tensor(storage, offset, shape, strides)


def _parameter(*given: Any) -> _Tensor:
    if not given or not isinstance(given[0], _Tensor):
        raise _Damaged("a parameter record holds no tensor")
    return given[0]


def _ordered(*given: Any) -> dict[str, Any]:
    if given:
        raise _Damaged("an OrderedDict record is malformed")
    return {}


_ALLOWED: dict[tuple[str, str], Callable[..., Any] | _StorageType] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
}
_VALUES = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _load(data: bytes, path: Path) -> Any:
    """What a pickle of torch.save makes, of dicts, lists, tuples, plain values and our records.

    Raises:
        AdapterError: For a name that no dictionary of tensors needs.
        ValueError: For all else.

    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def popped(count: int) -> list[Any]:
        if count > len(stack) - (marks[-1] if marks else 0):
            raise _Damaged("its stack runs out")
        if not count:
            return []
        found = stack[-count:]
        del stack[-count:]
        return found

    def since_mark() -> list[Any]:
        if not marks:
            raise _Damaged("it has a mark too few")
        found = popped(len(stack) - marks[-1])
        marks.pop()
        return found

    for step, (op, argument, _) in enumerate(pickletools.genops(data)):
        name = op.name
        if step > _MAX_STEPS:
            raise _Damaged(f"it has over {_MAX_STEPS:,} instructions")
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = _top(stack)
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise _Damaged(f"it asks for the value {argument}, which it does not have")
            stack.append(memo[argument])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(popped(int(name[-1]))))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("SETITEM", "SETITEMS"):
            _set(since_mark() if name == "SETITEMS" else popped(2), _top(stack))
        elif name in ("APPEND", "APPENDS"):
            items = since_mark() if name == "APPENDS" else popped(1)
            if not isinstance(_top(stack), list):
                raise _Damaged("it appends to what is no list")
            stack[-1].extend(items)
        elif name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            stack.append(_named(module, attribute, path))
        elif name == "STACK_GLOBAL":
            module, attribute = popped(2)
            stack.append(_named(module, attribute, path))
        elif name == "REDUCE":
            function, arguments = popped(2)
            if (
                not callable(function)
                or not isinstance(arguments, tuple)
                or len(arguments) > _MAX_ARGUMENTS
            ):
                raise _Damaged("it calls what cannot be called")
            stack.append(function(*arguments))
        elif name == "BUILD":
            popped(1)  # attributes, such as the versions of modules, which tensors do not need
        elif name == "BINPERSID":
            stack.append(_storage(*popped(1)))
        elif name == "STOP":
            (result,) = popped(1)
            return result
        elif name not in ("PROTO", "FRAME"):
            raise _Damaged(f"the instruction {name} is in no dictionary of tensors")
    raise _Damaged("it has no end")


def _top(stack: list[Any]) -> Any:
    if not stack:
        raise _Damaged("its stack runs out")
    return stack[-1]


def _set(items: list[Any], target: Any) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise _Damaged("it sets items of what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Nothing but text is hashed: what a structure refers to twice has no end.
        if not isinstance(key, str) or len(key) > _MAX_KEY:
            raise _Damaged(f"a key is a {type(key).__name__}, expected a name")
        if key in target:
            raise _Damaged(f"the name {key[:100]!r} is given twice")
        target[key] = value


def _named(module: Any, name: Any, path: Path) -> Any:
    if not isinstance(module, str) or not isinstance(name, str):
        raise _Damaged("a name in it is no text")
    try:
        return _ALLOWED[module, name]
    except KeyError:
        raise AdapterError(
            f"{path}: the pickle asks for {f'{module}.{name}'[:100]!r}, which a dictionary of "
            "tensors never needs; the file is refused and nothing of it was executed"
        ) from None


def _storage(pid: Any) -> _Storage:
    if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
        raise _Damaged("an unknown kind of reference")
    _, kind, key, _, _ = pid
    if not isinstance(kind, _StorageType) or not isinstance(key, str) or len(key) > _MAX_KEY:
        raise _Damaged("a reference names no storage")
    return _Storage(kind.dtype, str(key))


class _Bounded(io.FileIO):
    """A file of which no more than `most` bytes are read at once: `zipfile` reads all entries."""

    most = _MAX_DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        """As a file's, within the bound."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > self.most:
            raise zipfile.BadZipFile("it has too many entries")
        return super().read(size) or b""


def read_torch_zip(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file written by ``torch.save(state_dict)``, by name.

    Reads the pickle, not the tensor data.

    Raises:
        AdapterError: For the format of torch before 1.6, for damaged files, and for a pickle that
            holds anything but a dictionary of tensors.

    """
    state, start = first_look(path)
    if start[:1] == b"\x80":
        raise AdapterError(
            f"{path}: is a bare pickle (torch.save before torch 1.6 wrote such files), which is "
            "not read; load it in torch and save it again as safetensors"
        )
    if start[8:9] == b"{":
        raise AdapterError(
            f"{path}: is a safetensors file: its name should end with .safetensors, not "
            f"{path.suffix}"
        )
    if start[:2] != b"PK":
        raise AdapterError(f"{path}: is not a file that torch.save wrote: it is no ZIP archive")
    try:
        with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
            file.most = _MAX_PICKLE
            members = _members(path, archive)
            root, pickled = _open_pickle(path, archive, members)
            starts: dict[str, tuple[int, int]] = {}
            for name, info in members.items():
                if name.startswith(f"{root}/data/"):
                    starts[name.removeprefix(f"{root}/data/")] = _data_start(file, info)
    except (
        zipfile.BadZipFile, OSError, EOFError, struct.error, NotImplementedError, ValueError,
    ) as error:  # fmt: skip
        if isinstance(error, AdapterError):
            raise
        raise AdapterError(
            f"{path}: the archive is damaged or truncated: {shown(str(error), 300)}"
        ) from error
    try:
        loaded = _load(pickled, path)
    except AdapterError:
        raise
    except ValueError as error:
        said = " ".join(str(error).split())
        raise AdapterError(f"{path}: the pickle in it is damaged: {said:.200}") from error
    if not isinstance(loaded, dict):
        raise AdapterError(
            f"{path}: holds a {type(loaded).__name__}, expected a dictionary of tensors"
        )
    if len(loaded) > _MAX_TENSORS:
        raise AdapterError(
            f"{path}: holds {len(loaded):,} tensors, expected {_MAX_TENSORS:,} at most: save it as "
            "safetensors"
        )
    return {str(name): _stored(path, state.st_size, name, t, starts) for name, t in loaded.items()}


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries by name. A stored entry is no larger than the file, so none can blow up."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if info.flag_bits & 1:
            raise AdapterError(f"{path}: {name[:100]!r} in it is encrypted")
        if info.compress_type != zipfile.ZIP_STORED:
            raise AdapterError(f"{path}: {name[:100]!r} is compressed; torch.save never does that")
        if name in members:
            raise AdapterError(f"{path}: {name[:100]!r} is in it twice")
        members[name] = info
    return members


def _open_pickle(
    path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]
) -> tuple[str, bytes]:
    """The archive's root folder and the bytes of its pickle."""
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise AdapterError(f"{path}: holds {len(pickles)} entries '*/data.pkl', expected one")
    root = pickles[0].removesuffix("/data.pkl")
    if members[pickles[0]].file_size > _MAX_PICKLE:
        raise AdapterError(
            f"{path}: {pickles[0][:100]!r} has {members[pickles[0]].file_size:,} bytes, expected "
            f"{_MAX_PICKLE:,} at most: tensors lie beside it"
        )
    order = members.get(f"{root}/byteorder")
    if order is not None and (order.file_size > 16 or archive.read(order) != b"little"):
        raise AdapterError(f"{path}: was written on a big-endian machine, which is not read")
    return root, archive.read(pickles[0])


def _data_start(file: io.FileIO, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of an uncompressed entry start in the file, and how many they are.

    The local header is 30 bytes, then the name and the padding, whose lengths it gives.
    """
    file.seek(info.header_offset)
    name_length, extra_length = struct.unpack("<26xHH", file.read(30))
    return info.header_offset + 30 + name_length + extra_length, info.file_size


def _stored(
    path: Path, size: int, name: object, tensor: object, starts: dict[str, tuple[int, int]]
) -> StoredTensor:
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
        raise AdapterError(
            f"{path}: entry {name!r} is a {type(tensor).__name__}, expected names with tensors"
        )
    dtype, key = tensor.storage
    if key not in starts:
        raise AdapterError(f"{path}: tensor '{name}' needs storage {key[:60]!r}, which is missing")
    start, available = starts[key]
    item = _ITEM_BYTES[dtype]
    reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    last = tensor.offset + (0 if 0 in tensor.shape else reach + 1)
    # Strides of 0 would make much of little, and reading copies it.
    if max(last, prod(tensor.shape)) * item > available or start + available > size:
        raise AdapterError(
            f"{path}: tensor '{name}' of shape {tensor.shape} needs {last * item} bytes of storage "
            f"{key[:60]!r}, which has {available}"
        )
    offset = start + tensor.offset * item
    strides = tuple(s * item for s in tensor.strides)
    return ZippedTensor(path, name, dtype, tensor.shape, size, offset, strides)

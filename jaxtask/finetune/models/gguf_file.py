"""What is in a GGUF file: its fields and its tensors' places, every number checked before its use.

Written here rather than read by the `gguf` package, which trusts the numbers of a file.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxtask.errors import JaxtaskError

_VERSIONS = (2, 3)
# Types of values: how many bytes each has, and how they are unpacked.
_PLAIN = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
# Far above the files there are (a vocabulary of 256,000 tokens, with scores and merges).
_MOST_VALUES = 1 << 22
_MOST_BYTES = 1 << 28
_MOST_TENSORS = 1 << 16
_MOST_FIELDS = 1 << 12


@dataclass(frozen=True)
class Stored:
    """Where a tensor is in the file.

    Attributes:
        shape: Shape, from the slowest dimension to the fastest, as in NumPy.
        kind: Number of the type that its values are stored as.
        size: Size in bytes.

    """

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True)
class GgufFile:
    """The header of a GGUF file.

    Attributes:
        fields: Numbers, texts, and lists of them.

    """

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, Stored]

    def bytes_of(self, name: str) -> np.ndarray:
        """A tensor as it is stored, [bytes] uint8."""
        tensor = self.tensors[name]
        return np.fromfile(self.path, np.uint8, tensor.size, offset=tensor.start)


def read_gguf(path: Path, error: type[JaxtaskError], sizes: dict[int, tuple[int, int]]) -> GgufFile:
    """The fields and tensors of a file.

    Args:
        path: A file in version 2 or 3, of little-endian numbers.
        error: What is raised.
        sizes: By type of tensor: values in a block, and bytes of a block.

    Raises:
        error: It is no such file, is cut off, or has an impossible header. Names the file.

    """
    try:
        if path.exists() and not path.is_file():
            raise error(f"{path}: is not a regular file")
        with path.open("rb") as file:
            return _Reader(path, file).whole(sizes)
    except OSError as found:
        raise error(f"{path}: is missing, cut off or no GGUF file: {found.strerror}") from found
    except _Bad as found:
        raise error(f"{path}: is missing, cut off or no GGUF file: {found}") from None


class _Bad(Exception):
    """Why it cannot be read."""


class _Reader:
    """The file from its start to the end of its header."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.size = path.stat().st_size
        self.left = self.size
        self.values = _MOST_VALUES
        self.texts = _MOST_BYTES

    def whole(self, sizes: dict[int, tuple[int, int]]) -> GgufFile:
        if self.take(4) != b"GGUF":
            raise _Bad("it does not begin with GGUF")
        version = self.number("<I")
        if version not in _VERSIONS:
            raise _Bad(f"it has version {version}, expected 2 or 3 in little-endian numbers")
        tensors = self.count("tensors", _MOST_TENSORS)
        fields: dict[str, Any] = {}
        for _ in range(self.count("fields", _MOST_FIELDS)):
            name = self.text()
            if name in fields:
                raise _Bad(f"the field {name!r:.80} is there twice")
            fields[name] = self.value(self.number("<I"))
        infos: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(tensors):
            name = self.text()
            if name in infos:
                raise _Bad(f"the tensor {name!r:.80} is there twice")
            shape = tuple(self.number("<Q") for _ in range(self.count("dimensions", 4, "<I")))
            infos[name] = shape[::-1], self.number("<I"), self.number("<Q")
        unit = fields.get("general.alignment", 32)
        if type(unit) is not int or not 0 < unit <= 1 << 20:
            raise _Bad(f"general.alignment is {unit!r:.80}")
        start = -(-(self.size - self.left) // unit) * unit
        return GgufFile(
            self.path,
            fields,
            {name: self.place(name, start, *info, sizes) for name, info in infos.items()},
        )

    def place(
        self,
        name: str,
        start: int,
        shape: tuple[int, ...],
        kind: int,
        offset: int,
        sizes: dict[int, tuple[int, int]],
    ) -> Stored:
        """Where a tensor is; it must end before the file does."""
        if kind not in sizes:
            raise _Bad(f"the tensor {name!r:.80} is of an unknown type, {kind}")
        block, width = sizes[kind]
        values = math.prod(shape)
        if not shape or shape[-1] % block:
            raise _Bad(f"the tensor {name!r:.80} has the shape {shape}, no blocks of {block}")
        size = values // block * width
        if start + offset + size > self.size:
            raise _Bad(f"the tensor {name!r:.80} reaches over the end of the file")
        return Stored(shape, kind, start + offset, size)

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise _Bad("it ends before its header does")
        self.left -= size
        found = self.file.read(size)
        if len(found) != size:
            raise _Bad("it ends before its header does")
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, what: str, most: int, form: str = "<Q") -> int:
        found = self.number(form)
        if found > most:
            raise _Bad(f"it says that there are {found:,} {what}, expected {most:,} at most")
        return found

    def text(self) -> str:
        size = self.number("<Q")
        if size > self.texts:
            raise _Bad(f"it has texts of over {_MOST_BYTES:,} bytes")
        self.texts -= size
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise _Bad("a text in it is not UTF-8") from None

    def value(self, kind: int) -> Any:
        if kind in _PLAIN:
            return self.number(_PLAIN[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise _Bad(f"a field is of an unknown type, {kind}")
        kind, size = self.number("<I"), self.count("values in one list", self.values)
        self.values -= size
        if kind in _PLAIN:
            form = _PLAIN[kind]
            content = self.take(size * struct.calcsize(form))
            return [value for (value,) in struct.iter_unpack(form, content)]
        if kind != _STRING:
            raise _Bad("a field is a list of lists or of an unknown type")
        return [self.text() for _ in range(size)]

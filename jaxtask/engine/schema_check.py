"""Whether a folder or zip file has the layout of our results, before anything in it is opened.

Zarr opens far more than we write: other versions, codecs that run code or call for plug-ins, chunks
that expand without end. So the metadata of every array is held against what we write, and every
chunk must be a regular file that says to expand to just its shape.
"""

import os
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from jaxtask.errors import ResultError
from jaxtask.text_files import parse_json

_MAX_METADATA = 64 << 20
_MAX_TEXT = 256 << 20
_MAX_LENGTH = 1_000_000
_SIZES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4,
    "int64": 8, "uint64": 8, "float16": 2, "float32": 4, "float64": 8,
}  # fmt: skip
_ARRAY = frozenset(
    {"attributes", "chunk_grid", "chunk_key_encoding", "codecs", "data_type", "dimension_names"}
    | {"fill_value", "node_type", "shape", "storage_transformers", "zarr_format"}
)
_GROUP = frozenset({"attributes", "node_type", "zarr_format", "consolidated_metadata"})
_FIRST = {"name": "default", "configuration": {"separator": "/"}}
_PART = re.compile(r"zarr\.json|(?P<array>[^/]+)/(?:zarr\.json|c(?:/\d+)*)")
# Zarr writes to a file of a random name beside the right one, and renames it.
_HALF = re.compile(r"(?:[^/]+/)?(?:zarr|c|c(?:/\d+)+)\.[0-9a-f]{32}\.partial")
_ZSTD = b"\x28\xb5\x2f\xfd"
_OLDER = (".zarray", ".zgroup", ".zattrs", ".zmetadata")
# Attributes of ours that hold JSON as text, and of what type it is.
_JSON = {"adapters": dict, "metrics": dict, "versions": dict, "digests": dict}
_TEXT = (
    "format", "device", "native", "kernels", "dtype", "sides", "keep", "padding", "convention",
    "command",
)  # fmt: skip


class Files(Protocol):
    """The files of a result, by their paths below it."""

    def names(self) -> list[str]:
        """All of them.

        Raises:
            ValueError: For what is no regular file.

        """

    def size(self, name: str) -> int:
        """How many bytes one has."""

    def head(self, name: str, most: int) -> bytes:
        """Its first bytes."""


@dataclass(frozen=True)
class Folder:
    """See `Files`."""

    path: Path

    def names(self) -> list[str]:
        """All of them.

        Raises:
            ValueError: For what is no regular file.

        """
        return sorted(self._below(self.path, ""))

    def _below(self, folder: Path, prefix: str) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name.count("/") > 8:
                        raise ValueError(f"{name[:80]!r} lies deeper than any array of a result")
                    yield from self._below(Path(entry.path), name + "/")
                elif stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                    yield name
                else:
                    raise ValueError(f"{name[:80]!r} is not a regular file")

    def size(self, name: str) -> int:
        """How many bytes one has."""
        return (self.path / name).stat().st_size

    def head(self, name: str, most: int) -> bytes:
        """Its first bytes."""
        with (self.path / name).open("rb") as file:
            return file.read(most)


@dataclass(frozen=True)
class Zipped:
    """See `Files`."""

    file: zipfile.ZipFile

    def names(self) -> list[str]:
        """All of them.

        Raises:
            ValueError: For what is no regular file.

        """
        if not all(entry.filename for entry in self.file.infolist()):
            raise ValueError("an entry in it has no name")
        entries = [entry for entry in self.file.infolist() if not entry.is_dir()]
        for entry in entries:
            if entry.flag_bits & 1:
                raise ValueError(f"{entry.filename[:80]!r} in it is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{entry.filename[:80]!r} in it is neither stored nor deflated")
        names = [entry.filename for entry in entries]
        if len(set(names)) < len(names):
            raise ValueError("a file is twice in it")
        return names

    def size(self, name: str) -> int:
        """How many bytes one has."""
        return self.file.getinfo(name).file_size

    def head(self, name: str, most: int) -> bytes:
        """Its first bytes."""
        with self.file.open(name) as file:
            return file.read(most)


def check_layout(files: Files, form: str) -> None:
    """Raise `ValueError` or `ResultError`, in one line, unless the files are a result of `form`."""
    names = files.names()
    for name in names:
        parts = name.split("/")
        if parts[-1] in _OLDER:
            raise ValueError(f"{name[:80]!r} is of Zarr version 2, and jaxtask writes version 3")
        if ".." in parts or name.startswith("/"):
            raise ValueError(f"{name[:80]!r} leads out of it")
    if "zarr.json" not in names:
        raise ValueError("it has no zarr.json (of a zip file: zip what is in the folder)")
    _check_group(_metadata(files, "zarr.json", _GROUP, "group"), form)
    arrays = {}
    for name in names:
        if name.endswith("/zarr.json"):
            node = name.removesuffix("/zarr.json")
            if "/" in node:
                raise ValueError(f"{name[:80]!r} is deeper than any array of a result")
            arrays[node] = _metadata(files, name, _ARRAY, "array")
            _check_array(node, arrays[node])
    _check_lengths(arrays)
    for name in names:
        node, chunk, _ = name.partition("/c/") if "/c/" in name else (name, "", "")
        if chunk and node in arrays:
            _check_chunk(files, name, arrays[node])


def foreign(folder: Path, *, draft: bool = False) -> str | None:
    """The first path below a result's folder that is no part of a result, or None.

    A draft may also hold what a kill has left: arrays without metadata, and files half written.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
    arrays = {name.removesuffix("/zarr.json") for name in names if name.endswith("/zarr.json")}
    for name in names:
        path = folder / name
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            return name
        if path.is_dir():
            continue
        whole = _PART.fullmatch(name)
        if draft and (whole or _HALF.fullmatch(name)):
            continue
        if whole is None or (whole["array"] and whole["array"] not in arrays):
            return name
    return None


def _metadata(files: Files, name: str, known: frozenset[str], kind: str) -> dict[str, Any]:
    if files.size(name) > _MAX_METADATA:
        raise ValueError(f"{name} has {files.size(name):,} bytes")
    found = parse_json(files.head(name, _MAX_METADATA), name, ResultError)
    if not isinstance(found, dict):
        raise ValueError(f"{name} holds a {type(found).__name__}, expected names with values")
    if found.get("zarr_format") != 3 or found.get("node_type") != kind:
        raise ValueError(f"{name}: expected a Zarr {kind} of version 3")
    if unknown := set(found) - known:
        raise ValueError(f"{name}: {min(unknown)[:60]!r} is not what jaxtask writes")
    if not isinstance(found.get("attributes", {}), dict):
        raise ValueError(f"{name}: attributes are no names with values")
    return found


def _check_group(group: Mapping[str, Any], form: str) -> None:
    if group.get("consolidated_metadata") is not None:
        raise ValueError("zarr.json: consolidated metadata is not what jaxtask writes")
    attributes = group.get("attributes", {})
    if attributes.get("format") != form:
        found = attributes.get("format", "none")
        raise ValueError(f"expected the attribute format={form!r}, found {found!r:.60}")
    for name in (*_TEXT, *_JSON):
        if not isinstance(attributes.get(name, ""), str):
            raise ValueError(f"zarr.json: the attribute {name} is no text")
    if not isinstance(attributes.get("rank_rtol", ""), str | int | float):
        raise ValueError("zarr.json: the attribute rank_rtol is neither text nor a number")
    for name, kind in _JSON.items():
        if name in attributes:
            value = parse_json(attributes[name], f"zarr.json: attribute {name}", ResultError)
            if not isinstance(value, kind):
                raise ValueError(
                    f"zarr.json: the attribute {name} is not of the form that jaxtask writes"
                )
    about = parse_json(attributes.get("adapters", "{}"), "zarr.json", ResultError)
    adapters = about.get("adapters", [])
    if not isinstance(adapters, list) or not all(
        isinstance(a, dict) and isinstance(a.get("name"), str) for a in adapters
    ):
        raise ValueError("zarr.json: the attribute adapters is not of the form that jaxtask writes")
    variables = attributes.get("variables", [])
    if not isinstance(variables, list) or not all(isinstance(v, str) for v in variables):
        raise ValueError("zarr.json: the attribute variables is no list of names")


def _check_array(node: str, array: Mapping[str, Any]) -> None:
    shape, names = array.get("shape"), array.get("dimension_names")
    if not _is_shape(shape) or not isinstance(names, list) or len(names) != len(shape):
        raise ValueError(f"{node}: shape and dimension_names do not fit")
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f"{node}: dimension_names are no different names")
    grid = array.get("chunk_grid")
    chunks = grid.get("configuration", {}) if isinstance(grid, dict) else None
    chunk = chunks.get("chunk_shape") if isinstance(chunks, dict) else None
    if (
        not _is_shape(chunk)
        or len(chunk) != len(shape)
        or not all(0 < c <= max(n, 1) for c, n in zip(chunk, shape, strict=True))
    ):
        raise ValueError(f"{node}: the chunks do not fit the shape")
    if grid != {"name": "regular", "configuration": {"chunk_shape": chunk}}:
        raise ValueError(f"{node}: the grid of chunks is not one that jaxtask writes")
    if array.get("chunk_key_encoding") != _FIRST or array.get("storage_transformers", []):
        raise ValueError(f"{node}: the places of its chunks are not those that jaxtask writes")
    kind = array.get("data_type")
    if kind != "string" and (not isinstance(kind, str) or kind not in _SIZES):
        raise ValueError(f"{node}: data_type is {kind!r:.60}, which jaxtask does not write")
    fill = array.get("fill_value")
    if not isinstance(fill, str | bool | int | float):
        raise ValueError(f"{node}: fill_value is no plain value")
    _check_codecs(node, array.get("codecs"), kind)


def _is_shape(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= _MAX_LENGTH for n in value)


def _check_codecs(node: str, codecs: Any, kind: str) -> None:
    first = (
        [{"name": "vlen-utf8"}, {"name": "vlen-utf8", "configuration": {}}]
        if kind == "string"
        else [{"name": "bytes"}, {"name": "bytes", "configuration": {"endian": "little"}}]
    )
    plain = isinstance(codecs, list) and all(isinstance(codec, dict) for codec in codecs)
    if not plain or len(codecs) != 2 or codecs[0] not in first or codecs[1].get("name") != "zstd":
        told = [c.get("name") for c in codecs] if plain else codecs
        raise ValueError(f"{node}: codecs are {told!r:.100}, which jaxtask does not write")


def _check_lengths(arrays: Mapping[str, Mapping[str, Any]]) -> None:
    """One length for each dimension, which its coordinate has."""
    lengths: dict[str, tuple[int, str]] = {}
    for node, array in arrays.items():
        for name, length in zip(array["dimension_names"], array["shape"], strict=True):
            known = lengths.setdefault(name, (length, node))
            if known[0] != length:
                raise ValueError(
                    f"{node}: {name[:40]!r} has the length {length}, but {known[0]} in {known[1]}"
                )
    for name in ("layer", "module", "source", "target"):
        own = arrays.get(name)
        if own is None or own["dimension_names"] != [name]:
            raise ValueError(f"it has no coordinate {name!r}")


def _check_chunk(files: Files, name: str, array: Mapping[str, Any]) -> None:
    expected = prod(array["chunk_grid"]["configuration"]["chunk_shape"])
    text = array["data_type"] == "string"
    expected *= 1 if text else _SIZES[array["data_type"]]
    stored = files.size(name)
    expanded = _expands_to(files.head(name, 18))
    if expanded is None:
        raise ValueError(
            f"{name} is no chunk that jaxtask writes: it does not say how far it expands"
        )
    if expanded > _MAX_TEXT if text else expanded != expected:
        raise ValueError(f"{name} expands to {expanded:,} bytes, where its shape has {expected:,}")
    if stored > expanded + expanded // 128 + 1024:
        raise ValueError(f"{name} has {stored:,} bytes, but expands to {expanded:,}")


def _expands_to(head: bytes) -> int | None:
    """What a Zstandard frame says of its content's size (RFC 8878, section 3.1.1.1), if it does."""
    if len(head) < 6 or head[:4] != _ZSTD:
        return None
    descriptor = head[4]
    single = bool(descriptor & 0x20)
    width = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    content = head[start : start + width]
    if width == 0 or len(content) < width:
        return None
    return int.from_bytes(content, "little") + (256 if width == 2 else 0)

"""The header of a safetensors file.

A file is eight bytes with the header's length (little endian), the header as JSON, then the data:
https://github.com/huggingface/safetensors#format. The header is parsed here, once, rather than
through the `safetensors` package: a bank touches one module of every file at a time, and the
package parses the whole header again at each opening; its NumPy reader also has no bfloat16 of
its own. The checks are the ones the format demands.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from jaxtask.adapters._stored import StoredTensor
from jaxtask.errors import AdapterError

_MAX_HEADER = 100_000_000  # the format's own limit
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
_ITEM_BYTES |= {"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8}
_ITEM_BYTES |= {"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1}
LFS_POINTER = b"version https://git-lfs"


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of `path` by name, and its free-text metadata. Reads the header only.

    Raises `AdapterError` for anything that is not a complete, consistent safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
            if start == LFS_POINTER:
                raise AdapterError(
                    f"{path}: is a Git LFS pointer, not the weights: run `git lfs pull` there."
                )
            length = int.from_bytes(start[:8], "little")
            if size < 8 or length > min(_MAX_HEADER, size - 8):
                raise AdapterError(
                    f"{path}: is not a safetensors file, or is truncated: it has {size} bytes, and "
                    f"its first eight announce a header of {length}."
                )
            file.seek(8)
            text = file.read(length)
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror}.") from error
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: the safetensors header is not valid JSON: {error}.") from error
    if not isinstance(header, dict):
        raise AdapterError(f"{path}: the safetensors header is not a JSON object.")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise AdapterError(f"{path}: the safetensors metadata is not a JSON object.")
    tensors: dict[str, StoredTensor] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(path, name, entry)
        spans.append((begin, end, name))
        tensors[name] = StoredTensor(path, size, name, dtype, shape, 8 + length + begin)
    _check_spans(path, sorted(spans), size - 8 - length)
    return tensors, {str(k): str(v) for k, v in metadata.items()}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape, begin and end of one header entry, checked against each other."""
    try:
        dtype, shape = entry["dtype"], entry["shape"]
        begin, end = entry["data_offsets"]
        numbers = [*shape, begin, end]
        if not all(type(n) is int and n >= 0 for n in numbers) or not isinstance(dtype, str):
            raise TypeError
    except (TypeError, KeyError, ValueError) as error:
        raise AdapterError(
            f"{path}: the safetensors header of tensor '{name}' has no valid dtype, shape and "
            "data_offsets."
        ) from error
    if dtype in _ITEM_BYTES and end - begin != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise AdapterError(
            f"{path}: tensor '{name}' of shape {tuple(shape)} and type {dtype} needs "
            f"{math.prod(shape) * _ITEM_BYTES[dtype]} bytes, the header gives it {end - begin}."
        )
    return dtype, tuple(shape), begin, end


def _check_spans(path: Path, spans: list[tuple[int, int, str]], available: int) -> None:
    """The tensors must tile the data exactly, as the format demands."""
    position = 0
    for begin, end, name in spans:
        if begin != position or end < begin:
            raise AdapterError(
                f"{path}: tensor '{name}' starts at byte {begin} of the data, expected {position}: "
                "the header leaves a hole or lets tensors overlap."
            )
        position = end
    if position != available:
        raise AdapterError(
            f"{path}: the header announces {position} bytes of data and the file holds "
            f"{available}: it is {'truncated' if available < position else 'too long'}."
        )

"""What an adapter's numbers are, in few characters: to tell whether they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from google_crc32c import extend, value

from jaxtask.adapters.factors import ArrayFactor, ModuleEntry
from jaxtask.adapters.keys import ModuleKey
from jaxtask.errors import AdapterError

_PIECE = 1 << 22


def digest(entries: Iterable[tuple[ModuleKey, ModuleEntry]]) -> str:
    """A digest of all that enters a comparison: keys, shapes, types, scalings, stored numbers.

    Files are read whole, so that one changed layer in a file of the same size and date is found.
    CRC-32C runs at the rate of memory, and misses one accidental change in 2³².
    """
    told = hashlib.sha256()
    files: set[Path] = set()
    for key, entry in entries:
        told.update(repr((*key, entry.scale, entry.parameter)).encode())
        for factor in (entry.B, entry.A):
            told.update(repr((factor.shape, factor.stored_as)).encode())
            if isinstance(factor, ArrayFactor):
                told.update(b"%d" % value(factor.array.tobytes()))
            files |= set(factor.files)
    for path in sorted(files):
        told.update(b"%d" % _crc(path))
    return told.hexdigest()


def _crc(path: Path) -> int:
    crc = 0
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                crc = extend(crc, piece)
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read any more: {error.strerror}") from error
    return crc

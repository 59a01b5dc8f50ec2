"""A tensor in a file: what the header says, and how its bytes are read when they are wanted."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxtask.errors import AdapterError

# Names as in the safetensors format. bfloat16 is read as its 16 bits: they are the upper half of
# the float32 with the same value, so widening is a shift and needs no extra package.
RAW_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def dtype_name(dtype: str) -> str:
    """The usual name of a stored type: ``"BF16"`` → ``"bfloat16"``; unknown ones as they are."""
    return _NAMES.get(dtype, dtype)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of one file. Nothing but the file's header has been read to make it."""

    path: Path
    file_size: int  # bytes, when the header was read
    name: str
    dtype: str  # as in RAW_DTYPES, or another name that is refused where a factor is read
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file to the first element
    strides: tuple[int, ...] | None = None  # in elements; None: row-major

    @property
    def widened(self) -> np.dtype:
        """float64 for a float64 tensor, float32 for float32, float16 and bfloat16 (all exact).

        Raises `AdapterError` for any other type, by its name.
        """
        if self.dtype not in RAW_DTYPES:
            raise AdapterError(
                f"{self.path}: tensor '{self.name}' is stored as {self.dtype}, expected float64, "
                "float32, float16 or bfloat16 (the true values of a quantised factor need scales "
                "that are not part of the format)."
            )
        return np.dtype(np.float64) if self.dtype == "F64" else np.dtype(np.float32)

    def view(self) -> np.ndarray:
        """The raw elements (bfloat16 as uint16), memory-mapped, not copied, shape `shape`."""
        self.widened  # noqa: B018  (refuses a type that cannot be read)
        raw = RAW_DTYPES[self.dtype]
        if 0 in self.shape:
            return np.zeros(self.shape, raw)
        try:
            with self.path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise AdapterError(f"{self.path}: cannot be read any more: {error}.") from error
        if len(mapped) != self.file_size:
            raise AdapterError(
                f"{self.path}: the file changed after it was opened: it had {self.file_size} bytes "
                f"and has {len(mapped)}."
            )
        strides = None if self.strides is None else [s * raw.itemsize for s in self.strides]
        return np.ndarray(self.shape, raw, buffer=mapped, offset=self.offset, strides=strides)

    def widen(self, raw: np.ndarray) -> np.ndarray:
        """A contiguous copy of (part of) `view()` in the type `widened`. Raises if not finite."""
        if self.dtype == "BF16":
            wide = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            wide = raw.astype(self.widened, order="C")
        wide = np.ascontiguousarray(wide)
        if not np.isfinite(wide).all():
            bad = int(np.size(wide) - np.isfinite(wide).sum())
            raise AdapterError(
                f"{self.path}: tensor '{self.name}' holds {bad} value(s) that are not finite "
                "(NaN or infinity)."
            )
        return wide

    def read(self) -> np.ndarray:
        """The whole tensor, widened and checked to be finite."""
        return self.widen(self.view())

"""A tensor in a file: what the file says of it, and how its values are read when they are wanted.

A kind of file adds one method, `StoredTensor.raw`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import stat_result
from pathlib import Path

import ml_dtypes  # noqa: F401  (NumPy, and safetensors through it, then know "bfloat16" by name)
import numpy as np
from safetensors import SafetensorError

from jaxtask.adapters.formats.other_kinds import FIRST_BYTES, file_kind
from jaxtask.errors import AdapterError

_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
EXPECTED = "float64, float32, float16 or bfloat16"


def dtype_name(dtype: str) -> str:
    """The usual name of a stored type: ``"BF16"`` → ``"bfloat16"``; unknown ones as they are."""
    return _NAMES.get(dtype, dtype)


@dataclass(frozen=True)
class StoredTensor(ABC):
    """One tensor of one file. No data has been read to make it.

    Attributes:
        dtype: Type as in the safetensors format; any but four is refused where a factor is read.

    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def widened(self) -> np.dtype:
        """float64 for a float64 tensor, float32 for float32, float16 and bfloat16 (all exact).

        Raises:
            AdapterError: For any other type, by its name.

        """
        if self.dtype not in _NAMES:
            raise AdapterError(
                f"{self.path}: tensor '{self.name}' is stored as {self.dtype}, expected "
                f"{EXPECTED} (the true values of a quantised factor need scales that are not part "
                "of the format)"
            )
        return np.dtype(np.float64) if self.dtype == "F64" else np.dtype(np.float32)

    @abstractmethod
    def raw(self, *index: slice) -> np.ndarray:
        """A copy of the tensor, or of the part at `index` (steps of 1 only), in the stored type."""

    def widen(self, raw: np.ndarray) -> np.ndarray:
        """The values of `raw` in the type `widened`, contiguous.

        Raises:
            AdapterError: A value is not finite.

        """
        wide = np.asarray(raw, self.widened, order="C")
        bad = wide.size - np.count_nonzero(np.isfinite(wide))
        if bad:
            raise AdapterError(
                f"{self.path}: tensor '{self.name}' holds {bad} value(s) that are not finite "
                "(NaN or infinity)"
            )
        return wide

    def read(self) -> np.ndarray:
        """The whole tensor, widened and checked to be finite."""
        self.widened  # noqa: B018  (refuses a type that cannot be read)
        return self.widen(self.raw())


def first_look(path: Path) -> tuple[stat_result, bytes]:
    """The state of a weights file and its first bytes.

    Raises:
        AdapterError: It cannot be read, or is of another kind.

    """
    try:
        with path.open("rb") as file:
            start = file.read(FIRST_BYTES)
        state = path.stat()
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror}") from error
    if kind := file_kind(start):
        raise AdapterError(f"{path}: is {kind}")
    return state, start


@contextmanager
def reading_again(path: Path, size: int) -> Iterator[stat_result]:
    """Stands around every read after the first.

    A mapped file that was cut must not be touched: the system would end the process.

    Raises:
        AdapterError: The file vanished or changed its size.

    """
    try:
        state = path.stat()
        if state.st_size != size:
            raise AdapterError(
                f"{path}: the file changed after it was opened: it had {size} bytes and has "
                f"{state.st_size}"
            )
        yield state
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path}: cannot be read any more: {error}") from error

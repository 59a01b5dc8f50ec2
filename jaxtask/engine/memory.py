"""Main memory that is used again: fresh pages cost more than what is computed on them."""

import math
from collections import deque
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from jaxtask_kernels.native import aligned_empty

# Smaller arrays are the allocator's, which uses their memory again by itself.
_LEAST_BYTES = 1 << 16


class Memory:
    """Hands out arrays, and has their memory back when nobody refers to them any more.

    It never holds more than was in use at once at some time.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        # A loan may end anywhere, also in a garbage collection below, while the lock is held: so
        # its end is only noted, which takes no lock.
        self._ended: deque[np.ndarray] = deque()
        self._lent, self._most_lent = 0, 0
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An uninitialised array that XLA can read where it lies."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < _LEAST_BYTES:
            return aligned_empty(shape, dtype)
        return np.asarray(_Loan(self, self._piece(size)))[:size].view(dtype).reshape(shape)

    def _piece(self, size: int) -> np.ndarray:
        with self._lock:
            while self._ended:
                self._free.append(self._ended.popleft())
                self._lent -= self._free[-1].size
            fitting = [piece for piece in self._free if piece.size >= size]
            if fitting:
                piece = min(fitting, key=lambda piece: piece.size)
                self._free = [other for other in self._free if other is not piece]
            else:
                piece = aligned_empty((size,), np.uint8)
            self._lent += piece.size
            self._most_lent = max(self._most_lent, self._lent)
            while self._lent + sum(other.size for other in self._free) > self._most_lent:
                self._free.pop(0)
            return piece

    def take_back(self, piece: np.ndarray) -> None:
        """What a loan calls at its end."""
        self._ended.append(piece)


class _Loan:
    """What the arrays of one piece refer to, so that its end is the end of them all."""

    def __init__(self, memory: Memory, piece: np.ndarray) -> None:
        self._memory, self._piece = memory, piece
        self.__array_interface__: dict[str, Any] = piece.__array_interface__

    def __del__(self) -> None:
        self._memory.take_back(self._piece)

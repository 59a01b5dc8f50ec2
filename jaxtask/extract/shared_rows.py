"""Products of one large matrix with thin ones, its rows shared among threads.

BLAS's own threads wait for each other in every product, which takes many times as long where other
processes want the cores, and thin products do not fill them anyway. So BLAS gets one thread here,
and each of ours a part of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np

_CACHED_BYTES = 1 << 20
_T = TypeVar("_T")


class SharedRows:
    """A float32 matrix M [m, n] whose rows are worked on side by side."""

    def __init__(self, matrix: np.ndarray, threads: int, pool: ThreadPoolExecutor) -> None:
        self._matrix, self._pool = matrix, pool
        self.shape = matrix.shape
        self._parts = row_blocks(matrix, -(-matrix.nbytes // threads))

    def times(self, Z: np.ndarray) -> np.ndarray:
        """M @ Z."""
        out = np.empty((self.shape[0], Z.shape[1]), np.float32)
        self._each(lambda rows: np.matmul(self._matrix[rows], Z, out=out[rows]))
        return out

    def transposed_times(self, Y: np.ndarray) -> np.ndarray:
        """M.T @ Y, in the order that OpenBLAS does a quarter faster."""
        return np.sum(self._each(lambda rows: Y[rows].T @ self._matrix[rows]), axis=0).T

    def subtract(self, B: np.ndarray, A: np.ndarray) -> float:
        """M becomes M − B @ A, whose squared Frobenius norm is returned."""
        return sum(self._each(lambda rows: _subtract(self._matrix[rows], B[rows], A)))

    def _each(self, work: Callable[[slice], _T]) -> list[_T]:
        return list(self._pool.map(work, self._parts))


@contextmanager
def shared_rows(matrix: np.ndarray) -> Iterator[SharedRows]:
    """`matrix` for products, with as many threads as BLAS may use (OMP_NUM_THREADS limits them)."""
    blas, threads = _blas()
    with blas.limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        yield SharedRows(matrix, threads, pool)


def row_blocks(matrix: np.ndarray, size: int) -> list[slice]:
    """Slices of rows of so many bytes each."""
    rows, columns = matrix.shape
    step = max(1, size // (matrix.itemsize * columns))
    return [slice(at, min(at + step, rows)) for at in range(0, rows, step)]


def square_of(matrix: np.ndarray) -> float:
    """‖matrix‖_F²: rows in float32, their sum in float64."""
    return float(np.vecdot(matrix, matrix).sum(dtype=np.float64))


def _subtract(E: np.ndarray, B: np.ndarray, A: np.ndarray) -> float:
    square = 0.0
    for rows in row_blocks(E, _CACHED_BYTES):
        E[rows] -= B[rows] @ A
        square += square_of(E[rows])
    return square


@cache
def _blas() -> tuple[Any, int]:
    """What sets the threads of the BLAS libraries (SciPy has its own), and how many they have."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    return blas, max((library["num_threads"] for library in blas.info()), default=1)

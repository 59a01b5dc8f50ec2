"""The best approximation of low rank to one matrix, and how much of the matrix it leaves out.

Randomised block Krylov iteration (Halko, Martinsson, Shkolnisky and Tygert, SIAM J. Sci. Comput.
33, 2011; Musco and Musco, NeurIPS 2015): products with thin matrices only, all of whose results are
used. At the cost of plain power iteration (Halko, Martinsson and Tropp, SIAM Review 53, 2011) it
finds the later directions of a slowly falling spectrum, which is what full fine-tuning leaves, many
times as closely. What is left out is measured on the factors themselves, so these numbers hold
however well the iteration went.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jaxtask.extract.shared_rows import SharedRows, shared_rows, square_of

# A basis of three times the rank, in six blocks: wider ones are quicker by column, more are closer.
# Of small ranks the columns cost nothing beside the passes over the matrix, so they get fewer.
_BASIS, _BLOCKS, _LEAST_BLOCKS, _LEAST_WIDTH = 3, 6, 4, 16
# Of a norm, in float32.
_ROUNDING = 1e-6
# Of the bound on the spectral norm: it fails with probability 10⁻⁶.
_PROBES = 6
_POWER = 2


@dataclass(frozen=True, eq=False)
class LowRank:
    """M ≈ B·A with B = U√S and A = √S Vᵀ, for the k largest singular triplets of M.

    Attributes:
        B: [m, k] float32.
        A: [k, n] float32.
        norm: ‖M‖_F.
        residual: ‖M − B·A‖_F, of the factors as they are stored.
        following: The first singular value that is left out: an estimate from below, 0 if there is
            none.
        bound: ‖M − B·A‖₂ is at most this, but with probability 10⁻⁶.

    """

    B: np.ndarray
    A: np.ndarray
    norm: float
    residual: float
    following: float
    bound: float

    @property
    def kept(self) -> float:
        """The share of ‖M‖² that B·A holds."""
        return 1 - (self.residual / self.norm) ** 2


def low_rank(
    matrix: np.ndarray, rank: int, energy: float | None, rng: np.random.Generator
) -> LowRank | None:
    """The largest singular triplets of a float32 `matrix` [m, n], which is used up; None if all 0.

    Args:
        matrix: Finite. It holds the scaled remainder afterwards: a second one of its size is never
            made.
        rank: The largest rank. Singular values below 4√k·eps of the largest are rounding, and left
            out whatever is asked for.
        energy: Take the smallest rank that holds this share of ‖M‖², if `rank` of them do; None for
            `rank`.
        rng: Random generator for the sketches.

    """
    largest = max(float(matrix.max()), -float(matrix.min()))
    if largest == 0:
        return None
    # Scaled by a power of 4, which rounds neither entries nor roots, so that no square overflows.
    half = 2.0 ** -(-int(np.frexp(largest)[1]) // 2)
    unit = half * half
    matrix /= np.float32(unit)
    square = square_of(matrix)
    with shared_rows(matrix) as products:
        U, s, Vt = _triplets(products, math.sqrt(square), rank, rng)
        k = _choose(s, rank, energy, square)
        root = np.sqrt(s[:k])
        # With the roots on both sides neither factor is conditioned worse than it has to be.
        B, A = (U[:, :k] * root).astype(np.float32), (root[:, None] * Vt[:k]).astype(np.float32)
        residual, bound = _remainder(products, B, A, rng)
    return LowRank(
        B=B * np.float32(half),
        A=A * np.float32(half),
        norm=math.sqrt(square) * unit,
        residual=residual * unit,
        following=float(s[k]) * unit if k < len(s) else 0.0,
        bound=bound * unit,
    )


def _choose(s: np.ndarray, rank: int, energy: float | None, square: float) -> int:
    """How many of the singular values `s` are kept; at least one."""
    rank = min(rank, len(s))
    rounding = 4 * math.sqrt(rank) * np.finfo(np.float32).eps * s[0]
    k = min(rank, int(np.count_nonzero(s > rounding)))
    if energy is not None:
        k = min(k, int(np.searchsorted(np.cumsum(s**2), energy * square)) + 1)
    return k


def _triplets(
    M: SharedRows, size: float, rank: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, s (float64) and Vᵀ of QQᵀM, where Q is an orthonormal basis of the Krylov space.

    `size` is ‖M‖_F.
    """
    width = max(_LEAST_WIDTH, -(-_BASIS * rank // _BLOCKS))
    blocks = max(_LEAST_BLOCKS, -(-_BASIS * rank // width))
    Z = rng.standard_normal((M.shape[1], width), dtype=np.float32)
    if width * blocks >= min(M.shape):  # all of the range, so that nothing is approximated
        width, blocks = min(M.shape), 1
        Z = np.eye(M.shape[1], width, dtype=np.float32)
    Q = np.empty((M.shape[0], width * blocks), np.float32)
    W = np.empty((M.shape[1], width * blocks), np.float32)
    for at in range(0, width * blocks, width):
        new, known = slice(at, at + width), Q[:, :at]
        Y = M.times(Z)
        Y, R = _qr(Y - known @ (known.T @ Y))
        # Where M has no further direction, Y is rounding, whose QR may return what Q has already.
        lacking = np.abs(np.diag(R)) <= _ROUNDING * size
        Y[:, lacking] = rng.standard_normal((len(Y), lacking.sum()), dtype=np.float32)
        for _ in range(1 + lacking.any()):
            Y, _ = _qr(Y - known @ (known.T @ Y))
        Q[:, new] = Y
        W[:, new] = M.transposed_times(Y)
        Z, _ = _qr(W[:, new])
    Z, R = _qr(W)
    X, s, Yt = np.linalg.svd(R.T.astype(np.float64))
    return Q @ X.astype(np.float32), s, Yt.astype(np.float32) @ Z.T


def _remainder(
    M: SharedRows, B: np.ndarray, A: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """‖E‖_F and more than ‖E‖₂ of E = M − B·A, which takes the place of M.

    The bound is lemma 4.1 of Halko et al. on (EᵀE)^_POWER: with so many Gaussian ω, ‖H‖₂ is at most
    10·√(2/π)·max‖Hω‖ but with probability 10^−_PROBES.
    """
    X = rng.standard_normal((M.shape[1], _PROBES), dtype=np.float32)
    square, logs = M.subtract(B, A), np.zeros(_PROBES)
    for _ in range(_POWER):
        Y = M.transposed_times(M.times(X))
        norms = np.linalg.norm(Y, axis=0)
        if not norms.all():  # of Gaussian probes only where E is as good as 0
            return math.sqrt(square), math.sqrt(square)
        logs += np.log(norms)
        X = Y / norms
    bound = (10 * math.sqrt(2 / math.pi) * math.exp(logs.max())) ** (1 / (2 * _POWER))
    return math.sqrt(square), min(bound, math.sqrt(square))


def _qr(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thin QR in float32 (NumPy's own goes through float64)."""
    from scipy.linalg import qr

    return qr(X, mode="economic", check_finite=False)

"""Spot checks of the kernels on whatever device JAX has, against NumPy in float64.

Not the tests: those run where there is no accelerator. These find what only a device can get wrong,
such as products at reduced precision.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np

from benchmarks.problem import principal_angles as right_angles
from jaxtask_kernels import gram_blocks, orthonormal_basis, principal_angles, singular_values
from jaxtask_kernels.factor_rows import factor_rows

_EPS = float(np.finfo(np.float32).eps)
_PRESCRIBED = np.array([1e-6, 1e-4, 1e-3, 0.03, 0.3, 0.9, 1.4, np.pi / 2])


def check_kernels(d: int) -> list[dict[str, Any]]:
    """Each check's name, error, what is allowed, and whether it holds."""
    rng = np.random.default_rng(1)
    return [
        {"check": name, "error": error, "allowed": allowed, "holds": bool(error <= allowed)}
        for check in (_gram, _singular_values, _angles, _factors, _refined)
        for name, error, allowed in check(rng, d)
    ]


def wide() -> AbstractContextManager[Any]:
    """float64 as the engine allows it: not on TPUs, which have no decompositions for it."""
    return nullcontext() if jax.default_backend() == "tpu" else jax.enable_x64(True)


def orthonormal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal(shape))[0]


_Found = Iterator[tuple[str, float, float]]


def _gram(rng: np.random.Generator, d: int) -> _Found:
    X = orthonormal(rng, 8, d, 16).astype(np.float32)
    exact = X.astype(np.float64)
    right = np.einsum("sdk,tdl->stkl", exact, exact, optimize=True)
    # Products in TF32 are off by about 1e-4.
    yield "gram_blocks", _worst(gram_blocks(X), right), 32 * _EPS


def _singular_values(rng: np.random.Generator, d: int) -> _Found:
    for n in (8, 16, 32, 64):
        clustered = np.repeat([1.0, 1 - 1e-6, 0.5, 0.0], n // 4)
        makers: dict[str, Callable[[], np.ndarray]] = {
            "gaussian": lambda n=n: rng.standard_normal((64, n, n)),
            "clustered": lambda n=n, s=clustered: (
                orthonormal(rng, 64, n, n) * s @ orthonormal(rng, 64, n, n)
            ),
        }
        for name, make in makers.items():
            G = make().astype(np.float32)
            right = np.linalg.svd(G.astype(np.float64), compute_uv=False)
            error = _worst(singular_values(G) / right[:, :1], right / right[:, :1])
            yield f"singular_values of {name} {n}×{n}, relative to the largest", error, 64 * _EPS


def _angles(rng: np.random.Generator, d: int) -> _Found:
    r = _PRESCRIBED.size
    Q = orthonormal(rng, d, 2 * r)
    X = Q[:, :r].astype(np.float32)
    Y = (Q[:, :r] * np.cos(_PRESCRIBED) + Q[:, r:] * np.sin(_PRESCRIBED)).astype(np.float32)
    # Rounding to float32 has moved the angles: the truth is that of the stored bits.
    right = right_angles(*(np.linalg.qr(x.astype(np.float64))[0] for x in (X, Y)))
    yield "principal_angles from 1e-6 to π/2", _worst(principal_angles(X, Y), right), 5e-6


def _factors(rng: np.random.Generator, d: int) -> _Found:
    B = rng.standard_normal((4, d, 16), dtype=np.float32)
    A = rng.standard_normal((4, 16, d), dtype=np.float32)
    with wide():
        found = factor_rows(
            B, A, np.ones(4), np.full(4, 16 * _EPS), dtype=np.dtype(np.float32), chunk=4
        )
    U, V, s = (np.asarray(x, np.float64) for x in (found.U, found.V, found.s))
    for name, rows in (("U", U), ("V", V)):
        error = _worst(rows @ rows.mT, np.broadcast_to(np.eye(16), (4, 16, 16)))
        yield f"factor_rows: {name} orthonormal", error, 8 * _EPS
    # ΔW V = U S, with ΔW never formed.
    left = B.astype(np.float64) @ (A.astype(np.float64) @ V.mT)
    error = _worst(left / s[:, None, :1], U.mT * s[:, None] / s[:, None, :1])
    yield "factor_rows: ΔW V − U S, relative to the largest", error, 16 * _EPS


def _refined(rng: np.random.Generator, d: int) -> _Found:
    """The basis of columns with condition number 1e4, which is refined, in float64."""
    if jax.default_backend() == "tpu":
        return
    r = 24
    B = orthonormal(rng, d, r) * np.geomspace(1, 1e-4, r) @ orthonormal(rng, r, r)
    with wide():
        Q = np.asarray(orthonormal_basis(B)[0], np.longdouble)
    outside = Q.T
    for _ in range(2):
        for row in _orthonormal_rows(B.T.astype(np.longdouble)):
            outside = outside - np.outer(outside @ row, row)
    error = float(np.linalg.norm(outside.astype(np.float64), 2))
    yield "orthonormal_basis in float64: span", error, float(8 * np.sqrt(r) * np.finfo(float).eps)


def _orthonormal_rows(rows: np.ndarray) -> np.ndarray:
    """Gram-Schmidt, each row twice."""
    done = rows[:0]
    for row in rows:
        for _ in range(2):
            row = row - done.T @ (done @ row)
        done = np.append(done, [row / np.sqrt(row @ row)], axis=0)
    return done


def _worst(found: Any, right: np.ndarray) -> float:
    return float(np.max(np.abs(np.asarray(found, np.float64) - right)))

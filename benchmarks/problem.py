"""The inputs that every peer gets, and the right answers in float64."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

_FAMILY = 4
"""Tasks per family; a family shares part of its spaces."""
_STRONGEST_SHARE = 1.6
_NEAR_COPY = 1e-3


@dataclass(frozen=True)
class Shape:
    """Sizes of a bank whose modules are all alike: square d × d updates of rank r."""

    d: int
    r: int
    tasks: int
    modules: int

    @property
    def cells(self) -> int:
        """Unordered pairs of different tasks × modules."""
        return self.modules * self.tasks * (self.tasks - 1) // 2


@dataclass(frozen=True)
class Problem:
    """Factors as they come out of files: one pair of row-major arrays per task and module."""

    shape: Shape
    B: list[list[np.ndarray]]
    """[modules][tasks] of [d, r] float32"""
    A: list[list[np.ndarray]]
    """[modules][tasks] of [r, d] float32"""


@dataclass(frozen=True)
class Sample:
    """The cells that a peer computes."""

    modules: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def cells(self) -> int:
        return len(self.modules) * len(self.pairs)


def all_pairs(tasks: int) -> tuple[tuple[int, int], ...]:
    """(0, 1), (0, 2), … in the order of `numpy.triu_indices(tasks, 1)`."""
    return tuple(combinations(range(tasks), 2))


def module_path(module: int) -> str:
    return f"layers.{module}.self_attn.q_proj"


def make_problem(shape: Shape, seed: int = 0) -> Problem:
    """Gaussian factors with something in common.

    Within a family the principal angles spread from about 0.75 rad to π/2; across families they are
    those of random spaces. Task 1 is a near copy of task 0, with angles of about 1e-3, which
    cosines in float32 cannot resolve.
    """
    rng = np.random.default_rng(seed)
    families = -(-shape.tasks // _FAMILY)
    share = np.linspace(0, _STRONGEST_SHARE, shape.r, dtype=np.float32)

    def one_module() -> list[np.ndarray]:
        common = share * rng.standard_normal((families, shape.d, shape.r), dtype=np.float32)
        own = rng.standard_normal((shape.tasks, shape.d, shape.r), dtype=np.float32)
        factors = (common[np.arange(shape.tasks) // _FAMILY] + own) / np.float32(np.sqrt(shape.d))
        factors[1] = factors[0] + np.float32(_NEAR_COPY) * factors[1]
        # Copies, so that each array is an allocation of its own, as from separate files.
        return [factor.copy() for factor in factors]

    B = [one_module() for _ in range(shape.modules)]
    A = [[np.ascontiguousarray(x.T) for x in one_module()] for _ in range(shape.modules)]
    return Problem(shape, B, A)


def truth(problem: Problem, module: int) -> dict[str, np.ndarray]:
    """Right answers for all pairs of one module, in float64: {quantity: [pairs]}."""
    B = np.stack(problem.B[module]).astype(np.float64)
    A = np.stack(problem.A[module]).astype(np.float64)
    bases = np.linalg.qr(B)[0]
    norms = np.sqrt(np.sum((B.mT @ B) * (A @ A.mT), axis=(1, 2)))
    angles, cosines = [], []
    for i, j in all_pairs(problem.shape.tasks):
        angles.append(principal_angles(bases[i], bases[j]))
        inner = np.sum((B[i].T @ B[j]) * (A[i] @ A[j].T))
        cosines.append(inner / (norms[i] * norms[j]))
    return {
        "grassmann": np.sum(angles, axis=1),
        "geodesic": np.linalg.norm(angles, axis=1),
        "cosine": np.array(cosines),
    }


def principal_angles(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Principal angles of two orthonormal bases from cosines and sines both.

    Not `scipy.linalg.subspace_angles`, which mixes up tiny and large angles of one pair.
    """
    G = X.T @ Y
    cosines = np.linalg.svd(G, compute_uv=False)
    sines = np.linalg.svd(Y - X @ G, compute_uv=False)[::-1]
    return np.arctan2(sines, cosines)

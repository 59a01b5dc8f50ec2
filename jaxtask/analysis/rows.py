"""Nulls of the cells of one module, wherever they come from."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

IDENTICAL = {
    **{"cosine": 1.0, "rec": 1.0, "residual": 0.0, "negative_mass": 0.0, "l2": 0.0},
    **{"spectral_l1": 0.0, "spectral_l2": 0.0},
    **{"energy_diag": 1.0, "energy_core": 1.0, "energy_out": 1.0, "energy_in": 1.0},
}
"""Values of a pair of equal updates, where they do not depend on the update."""


@dataclass(frozen=True)
class Rows:
    """Nulls of one module, N of them."""

    values: np.ndarray
    """[N, draws]"""
    mean: np.ndarray | None
    """[N] the closed form of their means, where there is one."""
    identical: np.ndarray | None
    """[N] the value of identical (for spaces of unequal dimensions: nested) updates, or None."""


class Null(Protocol):
    """What a pair variable comes to by chance."""

    @property
    def metric(self) -> str:
        """Name of the package's metric that the variable is of."""

    def labels(self, at: tuple[int, int], i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """[P] which null the pairs (i, j) have in the module `at`; −1 where there is none."""

    def rows(self, at: tuple[int, int], labels: np.ndarray) -> Rows:
        """The nulls of these labels [N] in the module `at`."""

"""Chance values that the engine has kept: output spaces at random, input sides as they are."""

from dataclasses import dataclass

import numpy as np

from jaxtask.analysis.rows import IDENTICAL, Rows

# Of all nulls of a module together, and the least and most that each of them gets.
_DRAWS, _FEWEST, _MOST = 1_000_000, 250, 10_000


@dataclass(frozen=True)
class Kept:
    """What a metric of both sides comes to by chance, as `compare` has kept it.

    Its draws are summed up as mean and standard deviation; a normal distribution stands for them.
    """

    metric: str
    mean: np.ndarray
    """[L, M, T, T]"""
    sd: np.ndarray
    """[L, M, T, T]"""

    def labels(self, at: tuple[int, int], i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """[P] which null the pairs (i, j) have in the module `at`; −1 where there is none.

        None is where an update is missing or zero, and where the output side changes nothing.
        """
        there = self.sd[at][i, j] > 0
        return np.where(there, i * self.mean.shape[-1] + j, -1)

    def rows(self, at: tuple[int, int], labels: np.ndarray) -> Rows:
        """The nulls of these labels [N] in the module `at`."""
        T = self.mean.shape[-1]
        i, j = np.divmod(labels, T)
        mean, sd = self.mean[at][i, j], self.sd[at][i, j]
        draws = int(np.clip(_DRAWS // T**2, _FEWEST, _MOST))
        standard = np.random.default_rng(at).standard_normal(draws)
        values = mean[:, None] + sd[:, None] * standard
        identical = IDENTICAL.get(self.metric)
        return Rows(values, mean, None if identical is None else np.full(len(labels), identical))

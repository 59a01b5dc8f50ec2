"""What random updates come to, for each metric: which way is similar, chance values, draws.

Every metric of the package is here; those of users have no chance level, since nothing is known of
what they read.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxtask.analysis.dimensions import Updates
from jaxtask.analysis.null import space_null, spectrum_null, update_null
from jaxtask.metrics import METRICS, Metric

LARGER = frozenset(
    ["overlap", "inner", "cosine", "rec", "energy_diag", "energy_core", "energy_out", "energy_in"]
)
"""Metrics that are large for similar updates; the others are small."""

UNDIRECTED = frozenset(["entropy_source", "entropy_projected"])
"""Metrics that say nothing of similarity: their p values are two-sided."""

# Values of a pair of equal updates, where they do not depend on the update.
_IDENTICAL = {
    **{"cosine": 1.0, "rec": 1.0, "residual": 0.0, "negative_mass": 0.0, "l2": 0.0},
    **{"spectral_l1": 0.0, "spectral_l2": 0.0},
    **{"energy_diag": 1.0, "energy_core": 1.0, "energy_out": 1.0, "energy_in": 1.0},
}

# How much is drawn for metrics that have a null for every source, and for every pair.
_DRAWS_A_SOURCE, _DRAWS_A_PAIR = 1000, 200

_SPECTRAL = ("rec", "spectral_l1", "spectral_l2")
_OF_NORMS = ("inner", "l2")
_SPACES = tuple(m.name for m in METRICS.values() if m.sided and m.pooled)
_UPDATES = tuple(
    name
    for name, m in METRICS.items()
    if not m.sided and name not in (*_SPECTRAL, *_OF_NORMS, "entropy_source")
)


@dataclass(frozen=True)
class Rows:
    """Nulls of one module, N of them."""

    values: np.ndarray
    """[N, draws]"""
    mean: np.ndarray | None
    """[N] the closed form of their means, where there is one."""
    identical: np.ndarray | None
    """[N] the value of identical (for spaces of unequal dimensions: nested) updates, or None."""


@dataclass(frozen=True)
class Expected:
    """What a pair variable comes to by chance."""

    variable: str
    metric: str
    updates: Updates
    padding: str

    def labels(self, at: tuple[int, int], i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """[P] which null the pairs (i, j) have in the module `at`; −1 where there is none.

        None is where an update is missing or zero, and where random updates can come to one value
        only (REC of rank 1, two spaces one of which is everything).
        """
        rank = self.updates.rank[at]
        there = (rank[i] > 0) & (rank[j] > 0)
        base = self._base
        k, l = (np.where(there, rank[x], 1).astype(int) for x in (i, j))  # noqa: E741
        if self.metric in ("spectral_l1", "spectral_l2", *_OF_NORMS):
            label = i * base + j
        elif self.metric == "rec":
            label = np.where(k > 1, i * base + l, -1)
        else:
            label = k * base + l
            for one in np.unique(label[there]):
                values = self._shared(at, *divmod(int(one), base)).values
                if np.ptp(values) <= 1e-6 * max(np.abs(values).max(), 1e-6):
                    label = np.where(label == one, -1, label)
        return np.where(there & np.isfinite(self.updates.d_out[at]), label, -1)

    def rows(self, at: tuple[int, int], labels: np.ndarray) -> Rows:
        """The nulls of these labels [N] in the module `at`."""
        one, two = np.divmod(labels, self._base)
        if self.metric in _OF_NORMS:
            return self._from_cosine(at, one, two)
        if self.metric == "rec":
            return self._from_spectra(at, one, two, None)
        if self.metric in _SPECTRAL:
            return self._from_spectra(at, one, self.updates.rank[at][two].astype(int), two)
        found = [self._shared(at, int(k), int(l)) for k, l in zip(one, two, strict=True)]  # noqa: E741
        return Rows(
            np.concatenate([f.values for f in found]),
            None if found[0].mean is None else np.concatenate([f.mean for f in found]),
            None if found[0].identical is None else np.concatenate([f.identical for f in found]),
        )

    @property
    def _base(self) -> int:
        return max(self.updates.widest, self.updates.rank.shape[2]) + 1

    def _dimensions(self, at: tuple[int, int]) -> tuple[int, int]:
        return int(self.updates.d_out[at]), int(self.updates.d_in[at])

    def _shared(self, at: tuple[int, int], k: int, l: int) -> Rows:  # noqa: E741
        """The null of all pairs of these ranks."""
        d_out, d_in = self._dimensions(at)
        r = self.updates.widest
        identical: float | None
        if METRICS[self.metric].sided:
            n = d_out if self.variable.endswith("_out") else d_in
            drawn, nested = space_null(_SPACES, n, k, l, r, self.padding)
            values, identical = drawn[self.metric], nested[self.metric]
        else:
            n = d_out
            values = update_null(_UPDATES, d_out, d_in, k, l, r).values[self.metric]
            identical = _IDENTICAL.get(self.metric)
        mean = closed_form(self.metric, n, d_out, d_in, k, l)
        return Rows(
            values[None],
            None if mean is None else np.array([mean]),
            None if identical is None else np.array([identical]),
        )

    def _from_cosine(self, at: tuple[int, int], i: np.ndarray, j: np.ndarray) -> Rows:
        """⟨ΔW₁, ΔW₂⟩ and ‖ΔW₁ − ΔW₂‖ follow from the cosine and the norms."""
        rank, norm = self.updates.rank[at].astype(int), self.updates.norm[at]
        r = self.updates.widest
        cosines = np.empty((len(i), _DRAWS_A_PAIR))
        for k, l in _combinations(rank[i], rank[j]):  # noqa: E741
            own = (rank[i] == k) & (rank[j] == l)
            null = update_null(_UPDATES, *self._dimensions(at), k, l, r).values["cosine"]
            cosines[own] = null[:_DRAWS_A_PAIR]
        a, b = norm[i, None], norm[j, None]
        zero = np.zeros(len(i))
        if self.metric == "inner":
            return Rows(a * b * cosines, zero, None)
        return Rows(np.sqrt((a - b) ** 2 + 2 * a * b * (1 - cosines)), None, zero)

    def _from_spectra(
        self,
        at: tuple[int, int],
        i: np.ndarray,
        l: np.ndarray,  # noqa: E741
        j: np.ndarray | None,
    ) -> Rows:
        """Metrics of S₁ and of the S₂ of a random target, of unit norm where that is all one."""
        spectra = self.updates.spectra
        assert spectra is not None
        rank = self.updates.rank[at].astype(int)[i]
        norm = np.ones(len(i)) if j is None else self.updates.norm[at][j]
        draws = _DRAWS_A_SOURCE if j is None else _DRAWS_A_PAIR
        r = self.updates.widest
        values = np.empty((len(i), draws))
        for k, one in _combinations(rank, l):
            own = (rank == k) & (l == one)
            null = update_null(_UPDATES, *self._dimensions(at), k, one, r)
            values[own] = spectrum_null(
                (self.metric,),
                spectra[at][i[own], :r],
                rank[own],
                norm[own],
                null.diagonal[:draws],
            )[self.metric]
        return Rows(values, None, np.full(len(i), _IDENTICAL[self.metric]))


def expected(ds: Any, variable: str, updates: Updates) -> Expected | str:
    """What `variable` comes to by chance, or why that is not known."""
    metric = metric_of(ds, variable)
    if metric is None:
        return "it is a metric of your own, of which no chance level is known"
    if metric.name == "entropy_source":
        return "it does not depend on the target"
    if not np.isfinite(updates.d_out).any():
        return "the result does not tell the dimensions of its modules: run `jaxtask compare` again"
    if metric.name in _SPECTRAL and updates.spectra is None:
        return "it needs the spectra: `jaxtask compare … --keep spectra`"
    return Expected(variable, metric.name, updates, str(ds.attrs.get("padding", "pi/2")))


def metric_of(ds: Any, variable: str) -> Metric | None:
    """The package's metric that a variable of a result is of, None for one of the user's."""
    stem = variable.removesuffix("_out").removesuffix("_in")
    name = variable if variable in METRICS else stem
    made = json.loads(ds.attrs.get("metrics", "{}"))
    known = name in METRICS and METRICS[name].sided == (name != variable)
    return METRICS[name] if known and made.get(name, "") == "" else None


def closed_form(metric: str, n: int, d_out: int, d_in: int, k: int, l: int) -> float | None:  # noqa: E741
    """The expectation between random updates where there is a formula, else None.

    E‖U₁ᵀU₂‖² = kl/n for random spans of Rⁿ; the projections on the two sides are independent.
    """
    formulas = {
        "overlap": max(k, l) / n,
        "cosine": 0.0,
        "energy_out": k / d_out,
        "energy_in": k / d_in,
        "energy_core": k * k / (d_out * d_in),
        "energy_diag": k / (d_out * d_in),
    }
    return formulas.get(metric)


def _combinations(k: np.ndarray, l: np.ndarray) -> list[tuple[int, int]]:  # noqa: E741
    return sorted({(int(a), int(b)) for a, b in zip(k, l, strict=True)})

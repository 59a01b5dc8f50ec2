"""The null distribution of each metric: means, and draws for random updates.

Every metric of the package is here; those of users have no null distribution, since nothing is
known of what they read. Nulls are sampled here, or kept by the engine (`Kept`: output spaces at
random, input sides as they are).
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxtask.analysis.null_samples import (
    diagonal_null,
    energy_null,
    random_diagonals,
    random_inner,
    space_null,
    update_grams,
)
from jaxtask.analysis.result_view import Updates
from jaxtask.errors import AnalysisError
from jaxtask.metrics import METRICS, Metric
from jaxtask.text_files import parse_json


@dataclass(frozen=True)
class Rows:
    """Nulls of one module, N of them.

    Attributes:
        values: [N, draws].
        mean: [N] the closed form of their means, where there is one.
        identical: [N] the value of identical (for spaces of unequal dimensions: nested) updates, or
            None.

    """

    values: np.ndarray
    mean: np.ndarray | None
    identical: np.ndarray | None


class Null(Protocol):
    """The null distribution of a pair variable."""

    @property
    def metric(self) -> str:
        """Name of the package's metric that the variable is of."""

    def labels(self, at: tuple[int, int], i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """[P] which null the pairs (i, j) have in the module `at`; −1 where there is none."""

    def rows(self, at: tuple[int, int], labels: np.ndarray) -> Rows:
        """The nulls of these labels [N] in the module `at`."""


# Draws of all kept nulls of a module together, and the least and most that each of them gets.
_DRAWS_OF_KEPT, _FEWEST_OF_KEPT, _MOST_OF_KEPT = 1_000_000, 250, 10_000


@dataclass(frozen=True)
class Kept:
    """The null distribution of a metric of both sides, by the moments that `compare` stored.

    Its draws are summed up as mean and standard deviation; a normal distribution stands for them.

    Attributes:
        mean: [L, M, T, T].
        sd: [L, M, T, T].

    """

    metric: str
    mean: np.ndarray
    sd: np.ndarray

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
        draws = int(np.clip(_DRAWS_OF_KEPT // T**2, _FEWEST_OF_KEPT, _MOST_OF_KEPT))
        standard = np.random.default_rng(at).standard_normal(draws)
        values = mean[:, None] + sd[:, None] * standard
        identical = METRICS[self.metric].identical
        return Rows(values, mean, None if identical is None else np.full(len(labels), identical))


# How much is drawn for all nulls of a module together, of metrics that have one for every target
# or for every pair, and the least and most that each of them gets.
_DRAWS_OF_TARGETS, _DRAWS_OF_PAIRS = 25_000, 1_000_000
_FEWEST, _MOST = 100, 1_000

# Draws of a distance that differ less are one value in float32, and rounding.
_ONE_VALUE = 1e-6

_SPACES = tuple(m.name for m in METRICS.values() if m.null == "spaces")
_OF_TARGET = ("energy", "target")
"""Nulls that depend on the target's spectrum, and of the source on the rank alone."""


@dataclass(frozen=True)
class Expected:
    """The null distribution of a pair variable."""

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
        there = (rank[i] > 0) & (rank[j] > 0) & np.isfinite(self.updates.d_out[at])
        if not there.any():
            return np.full(len(i), -1)
        k, l = (np.where(there, rank[x], 1).astype(int) for x in (i, j))  # noqa: E741
        # Without spectra, all tasks of one rank are alike.
        alike = _first_alike(rank) if self.updates.flat else np.arange(len(rank))
        if self._null == "spaces":
            label = k * self._base + l
            for one in np.unique(label[there]):
                values = self._spaces(at, *divmod(int(one), self._base))[0]
                if np.ptp(values) <= _ONE_VALUE:
                    there &= label != one
        elif self._null in _OF_TARGET:
            label = k * self._base + alike[j]
        elif self._null == "cosine":
            label = alike[i] * self._base + alike[j]
        else:
            label = i * self._base + j
        d_out, d_in = self._dimensions(at)
        if METRICS[self.metric].constant_at_rank_1:
            there &= k > 1
        elif self._null == "energy":
            whole = {"energy_out": k == d_out, "energy_in": k == d_in}
            there &= ~whole.get(self.metric, (k == d_out) & (k == d_in))
        return np.where(there, label, -1)

    def rows(self, at: tuple[int, int], labels: np.ndarray) -> Rows:
        """The nulls of these labels [N] in the module `at`."""
        one, two = np.divmod(labels, self._base)
        if self._null == "spaces":
            nulls = [self._spaces(at, int(k), int(l)) for k, l in zip(one, two, strict=True)]  # noqa: E741
            values = np.stack([null for null, _ in nulls])
            identical: np.ndarray | None = np.array([nested for _, nested in nulls])
            k, l = one, two  # noqa: E741
        else:
            rank = self.updates.rank[at]
            k = one if self._null in _OF_TARGET else rank[one].astype(int)
            l = rank[two].astype(int)  # noqa: E741
            values = self._updates(at, one, two, k, l)
            equal = METRICS[self.metric].identical
            identical = None if equal is None else np.full(len(labels), equal)
        return Rows(values, self._closed_form(at, k, l), identical)

    @property
    def _null(self) -> str | None:
        return METRICS[self.metric].null

    @property
    def _base(self) -> int:
        return max(self.updates.widest, self.updates.rank.shape[2]) + 1

    def _dimensions(self, at: tuple[int, int]) -> tuple[int, int]:
        return int(self.updates.d_out[at]), int(self.updates.d_in[at])

    def _spaces(self, at: tuple[int, int], k: int, l: int) -> tuple[np.ndarray, float]:  # noqa: E741
        n = self._dimensions(at)[self.variable.endswith("_in")]
        drawn, nested = space_null(_SPACES, n, k, l, self.updates.widest, self.padding)
        return drawn[self.metric], nested[self.metric]

    def _updates(
        self,
        at: tuple[int, int],
        i: np.ndarray,
        j: np.ndarray,
        k: np.ndarray,
        l: np.ndarray,  # noqa: E741
    ) -> np.ndarray:
        """[N, draws] of metrics that read both sides."""
        rng = np.random.default_rng(at)
        parts = []
        for ranks in sorted(set(zip(k.tolist(), l.tolist(), strict=True))):
            own = (k == ranks[0]) & (l == ranks[1])
            G, H = update_grams(*self._dimensions(at), *ranks)
            if not (self.updates.flat and self._null in (*_OF_TARGET, "cosine")):
                tasks = len(self.updates.rank[at])
                of_targets = self._null in _OF_TARGET
                each = _DRAWS_OF_TARGETS // tasks if of_targets else _DRAWS_OF_PAIRS // tasks**2
                few = min(max(each, _FEWEST), _MOST, len(G))
                # Others for each module, or the errors of few draws would add up in pooled means.
                chosen = rng.choice(len(G), few, replace=False)
                G, H = G[chosen], H[chosen]
            parts.append((own, self._of_ranks(at, i[own], j[own], (G, H))))
        values = np.empty((len(i), min(part.shape[1] for _, part in parts)))
        for own, part in parts:
            values[own] = part[:, : values.shape[1]]
        return values

    def _of_ranks(
        self,
        at: tuple[int, int],
        i: np.ndarray,
        j: np.ndarray,
        grams: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray:
        k, l = grams[0].shape[1:]  # noqa: E741
        spectra, norm = self.updates.spectra[at][:, : self.updates.widest], self.updates.norm[at]
        sources, a = np.unique(i, return_inverse=True)
        targets, b = np.unique(j, return_inverse=True)
        units = spectra[targets, :l] / norm[targets, None]
        if self._null == "energy":
            return energy_null(self.metric, grams, units, spectra.shape[1])[b]
        diagonals = random_diagonals(grams, units)
        if self._null == "target":
            any_source, unit = np.ones((1, spectra.shape[1])), np.ones(len(targets))
            name = "energy_diag" if self.metric == "residual" else self.metric
            found = diagonal_null(name, any_source, k, unit, diagonals)[0, b]
            # What the diagonal does not catch.
            return np.sqrt(1 - found) if self.metric == "residual" else found
        if self._null == "source":
            return diagonal_null(self.metric, spectra[sources], k, norm[targets], diagonals)[a, b]
        cosines = random_inner(spectra[sources] / norm[sources, None], diagonals)[a, b]
        if self._null == "cosine":
            return cosines
        x, y = norm[i, None], norm[j, None]
        if self._null == "inner":
            return x * y * cosines
        if self._null == "l2":
            return np.sqrt((x - y) ** 2 + 2 * x * y * (1 - cosines))
        raise AssertionError(f"metric {self.metric}: its null {self._null!r} is not sampled here")

    def _closed_form(self, at: tuple[int, int], k: np.ndarray, l: np.ndarray) -> np.ndarray | None:  # noqa: E741
        """Expectations between random updates, where there is a formula.

        E‖U₁ᵀU₂‖² = kl/n for random spans of Rⁿ; the projections on the two sides are independent.
        """
        d_out, d_in = self._dimensions(at)
        n = d_in if self.variable.endswith("_in") else d_out
        formulas = {
            "overlap": np.maximum(k, l) / n,
            "cosine": np.zeros(len(k)),
            "inner": np.zeros(len(k)),
            "energy_out": k / d_out,
            "energy_in": k / d_in,
            "energy_core": k / d_out * k / d_in,
            "energy_diag": k / d_out / d_in,
        }
        return formulas.get(self.metric)


def expected(ds: Any, variable: str, updates: Updates) -> Expected | Kept | str:
    """The null distribution of `variable`, or why there is none."""
    metric = metric_of(ds, variable)
    if metric is None:
        return "it is a metric of your own, without a null distribution"
    if metric.null is None:
        return "none is known"
    if f"{variable}_chance" in ds:
        order = ("layer", "module", "source", "target")
        mean, sd = (
            ds[f"{variable}_chance{of}"].transpose(*order).values.astype(float)
            for of in ("", "_sd")
        )
        if np.isfinite(sd).any() and not (sd > 0).any():
            return "it does not depend on the output sides, which alone are random here"
        return Kept(metric.name, mean, sd)
    if not np.isfinite(updates.d_out).any():
        return "the result does not tell the dimensions of its modules: run `jaxtask compare` again"
    if metric.null == "source" and updates.flat:
        return "it needs the spectra: `jaxtask compare … --keep spectra`"
    return Expected(variable, metric.name, updates, str(ds.attrs.get("padding", "pi/2")))


def metric_of(ds: Any, variable: str) -> Metric | None:
    """The package's metric that a variable of a result is of, None for one of the user's."""
    stem = variable.removesuffix("_out").removesuffix("_in")
    name = variable if variable in METRICS else stem
    made = parse_json(ds.attrs.get("metrics", "{}"), "attribute metrics", AnalysisError)
    known = name in METRICS and METRICS[name].sided == (name != variable)
    return METRICS[name] if known and made.get(name, "") == "" else None


def _first_alike(rank: np.ndarray) -> np.ndarray:
    """[T] the first task of the same rank."""
    _, first, of = np.unique(rank, return_index=True, return_inverse=True)
    return first[of]

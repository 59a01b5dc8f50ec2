"""Each number beside what random updates of these dimensions come to, by cell and pooled.

A cell is one (layer, module, pair). Its null is drawn for its dimensions, ranks and, where the
metric reads them, the source's spectrum and the norms; see `expected`. The null of a pooled mean is
the mean of independent draws of its cells.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from jaxtask.analysis.null_models import Null
from jaxtask.analysis.pooling import Weights, cell_weights
from jaxtask.analysis.result_view import Updates
from jaxtask.analysis.significance import Draws, draws_of, p_values
from jaxtask.metrics import METRICS

if TYPE_CHECKING:
    import xarray as xr

Towards = Literal["small", "large"]
"""Which values say that two updates are alike."""

# Entries of the draws of pooled means, of all pairs whose nulls differ.
_POOLED_ENTRIES = 4_000_000
_FEWEST = 250


@dataclass(frozen=True)
class Pairs:
    """The pairs (i, j) that are looked at: i ≠ j, and i < j for symmetric variables.

    Attributes:
        i: [P] sources.
        j: [P] targets.

    """

    i: np.ndarray
    j: np.ndarray
    tasks: int
    symmetric: bool

    def square(self, values: np.ndarray) -> np.ndarray:
        """[.., P] as [.., T, T], NaN on the diagonal."""
        found = np.full((*values.shape[:-1], self.tasks, self.tasks), np.nan)
        found[..., self.i, self.j] = values
        if self.symmetric:
            found[..., self.j, self.i] = values
        return found


@dataclass(frozen=True)
class Calibration:
    """A pair variable, tested against its null distribution. P pairs.

    Attributes:
        towards: Which values are alike, and so the alternative of the p values; two-sided if None.
        values: [L, M, P].
        mean: [L, M, P] null mean; NaN where a cell is not tested.
        sd: [L, M, P].
        p: [L, M, P].
        pooled: [P].
        pooled_mean: [P].
        pooled_sd: [P].
        pooled_p: [P].
        calibrated_cells: [L, M, P] (null mean − value)/(null mean − value of identical updates): 0
            at the null mean, 1 if equal.
        calibrated: [P] pooled mean of that.

    """

    towards: Towards | None
    values: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    p: np.ndarray
    pooled: np.ndarray
    pooled_mean: np.ndarray
    pooled_sd: np.ndarray
    pooled_p: np.ndarray
    calibrated_cells: np.ndarray | None
    calibrated: np.ndarray | None


def pairs_of(ds: "xr.Dataset", name: str) -> Pairs:
    """The pairs to look at of one variable."""
    T = ds.sizes["source"]
    symmetric = bool(ds[name].attrs.get("symmetric", False))
    i, j = np.triu_indices(T, 1) if symmetric else np.nonzero(~np.eye(T, dtype=bool))
    return Pairs(i, j, T, symmetric)


def cells_of(ds: "xr.Dataset", name: str, pairs: Pairs) -> np.ndarray:
    """[L, M, P] float64 values of one variable."""
    values = ds[name].transpose("layer", "module", "source", "target").values
    return values[:, :, pairs.i, pairs.j].astype(float)


def norms_of(updates: Updates, pairs: Pairs, weights: Weights) -> np.ndarray | None:
    """[L, M, P] ‖ΔW_source‖·‖ΔW_target‖ if that is what cells weigh, else None."""
    if weights == "equal":
        return None
    return np.nan_to_num(updates.norm[:, :, pairs.i] * updates.norm[:, :, pairs.j])


def calibrate(
    null: Null,
    values: np.ndarray,
    pairs: Pairs,
    norms: np.ndarray | None = None,
    seed: int = 0,
) -> Calibration:
    """Test the cells of one variable, and their pooled means, against the null distribution.

    Args:
        null: The variable's null distribution.
        values: [L, M, P]
        pairs: The P pairs.
        norms: [L, M, P], of `norms_of`.
        seed: Random seed for shuffling draws among the cells of a pooled mean.

    """
    L, M, P = values.shape
    weights = cell_weights(np.isfinite(values), norms)
    sign = 1 if METRICS[null.metric].similar == "large" else -1
    labels = np.full((L, M, P), -1)
    for at in np.ndindex(L, M):
        labels[at] = null.labels(at, pairs.i, pairs.j)
    labels[~np.isfinite(values)] = -1
    mean, sd, p, best = (np.full((L, M, P), np.nan) for _ in range(4))
    pooling = _Pooling(labels, np.where(labels >= 0, weights, 0), np.random.default_rng(seed))
    for at in np.ndindex(L, M):
        tested = labels[at] >= 0
        if not tested.any():
            continue
        unique, row = np.unique(labels[at][tested], return_inverse=True)
        rows = null.rows(at, unique)
        draws = draws_of(sign * rows.values)
        if rows.mean is not None:
            draws = Draws(draws.values, sign * rows.mean, draws.sd, draws.skew)
        x = sign * values[at][tested]
        mean[at][tested], sd[at][tested] = sign * draws.mean[row], draws.sd[row]
        p[at][tested] = _p(draws, row, x, null.metric)
        if rows.identical is not None:
            best[at][tested] = rows.identical[row]
        pooling.add(at, unique, draws)
    shares = (mean - values) / np.where(mean == best, np.nan, mean - best)
    known = np.isfinite(shares)
    # Cells that are not tested have their own value as null mean.
    kept = np.sum(np.where(labels >= 0, weights * np.nan_to_num(values), 0), axis=(0, 1))
    pooled = np.sum(weights * np.nan_to_num(values), axis=(0, 1))
    total = weights.sum(axis=(0, 1))
    pooled_null, kind = pooling.null()
    any_tested = (labels >= 0).any(axis=(0, 1))
    pooled_p = np.full(P, np.nan)
    own = np.flatnonzero(any_tested)
    pooled_p[own] = _p(pooled_null, kind[own], sign * kept[own], null.metric)
    return Calibration(
        towards=towards_of(null.metric),
        values=values,
        mean=mean,
        sd=sd,
        p=p,
        pooled=np.where(total > 0, pooled, np.nan),
        pooled_mean=np.where(any_tested, sign * pooled_null.mean[kind] + pooled - kept, np.nan),
        pooled_sd=np.where(any_tested, pooled_null.sd[kind], np.nan),
        pooled_p=pooled_p,
        calibrated_cells=shares if known.any() else None,
        calibrated=_mean(shares, np.where(known, weights, 0)) if known.any() else None,
    )


def towards_of(metric: str | None) -> Towards | None:
    """Which values of a metric of the package say that two updates are alike."""
    return None if metric is None else METRICS[metric].similar


class _Pooling:
    """Draws of pooled means, one null for all pairs whose cells have equal nulls and weights."""

    def __init__(self, labels: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> None:
        P = labels.shape[-1]
        cells = np.concatenate([labels.reshape(-1, P).astype(float), weights.reshape(-1, P)])
        _, first, kind = np.unique(cells, axis=1, return_index=True, return_inverse=True)
        self.kind = kind.ravel()
        self.labels, self.weights, self.rng = labels[..., first], weights[..., first], rng
        self.draws: np.ndarray | None = None
        self.moments = np.zeros((3, len(first)))

    def add(self, at: tuple[int, int], unique: np.ndarray, null: Draws) -> None:
        """Add the cells of one module, with the nulls of the labels `unique`."""
        label, w = self.labels[at], self.weights[at]
        there = np.flatnonzero(label >= 0)
        row = np.searchsorted(unique, label[there])
        w = w[there]
        D = null.values.shape[1]
        if self.draws is None:
            most = max(_FEWEST, _POOLED_ENTRIES // len(label))
            self.draws = np.zeros((len(label), min(D, most)))
        chosen = self.rng.permutation(D)[: self.draws.shape[1]]
        self.draws[there] += w[:, None] * null.values[:, chosen][row]
        sd = null.sd[row]
        self.moments[0, there] += w * null.mean[row]
        self.moments[1, there] += (w * sd) ** 2
        self.moments[2, there] += (w * sd) ** 3 * null.skew[row]

    def null(self) -> tuple[Draws, np.ndarray]:
        """The nulls, and which of them each pair has."""
        mean, variance, third = self.moments
        sd = np.sqrt(variance)
        skew = third / np.where(sd > 0, sd, 1) ** 3
        draws = np.zeros((len(mean), 1)) if self.draws is None else self.draws
        return Draws(draws, mean, sd, skew), self.kind


def _p(null: Draws, row: np.ndarray, x: np.ndarray, metric: str) -> np.ndarray:
    p = p_values(null, row, x)
    if METRICS[metric].similar is not None:
        return p
    other = Draws(-null.values, -null.mean, null.sd, -null.skew)
    return np.minimum(1, 2 * np.minimum(p, p_values(other, row, -x)))


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means over layers and modules [P], NaN where nothing has weight."""
    total = weights.sum(axis=(0, 1))
    summed = np.sum(weights * np.nan_to_num(values), axis=(0, 1))
    return np.where(total > 0, summed / np.where(total > 0, total, 1), np.nan)

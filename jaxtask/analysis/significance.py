"""How sure a number is.

p values from draws, with a tail where the draws end, and the control of false discoveries; and how
far a pooled mean would move with other layers: percentile intervals (Efron 1979).
"""

from dataclasses import dataclass

import numpy as np

# Pairs that are resampled at a time.
_PAIRS = 2048
# With fewer layers than this, cells are resampled instead.
FEW_LAYERS = 4


def layer_interval(
    values: np.ndarray,
    norms: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of pooled means, layers drawn with replacement.

    A drawn layer brings all its modules, since modules of one layer are not independent.

    Args:
        values: [L, M, P], NaN where there is no number.
        norms: [L, M, P] weights "norm", see `pool`; None for "equal".
        resamples: How many draws of L layers.
        level: Coverage.
        seed: Random seed for the draws.

    Returns:
        Low and high [P], NaN for pairs with fewer than two layers.

    """
    L, _, P = values.shape
    rng = np.random.default_rng(seed)
    # Single precision is as much as the values have.
    counts = rng.multinomial(L, np.full(L, 1 / max(L, 1)), size=resamples).astype(np.float32)
    there = np.isfinite(values)
    weight = np.where(there, 1 if norms is None else norms, 0).astype(np.float32)
    weighted = weight * np.where(there, values, 0).astype(np.float32)
    enough = there.any(axis=1).sum(axis=0) > 1
    bounds = np.full((2, P), np.nan)
    for start in range(0, P, _PAIRS):
        own = slice(start, start + _PAIRS)
        means = _resampled(counts, weighted[..., own], weight[..., own], norms is None)
        here = bounds[:, own]
        # Draws without any layer of a pair are set aside; few pairs have such.
        whole = np.isfinite(means).all(axis=0)
        for chosen, quantile in ((whole, np.quantile), (~whole, np.nanquantile)):
            if (chosen := chosen & enough[own]).any():
                tails = [(1 - level) / 2, (1 + level) / 2]
                here[:, chosen] = quantile(means[:, chosen], tails, axis=0)
    return bounds[0], bounds[1]


def _resampled(
    counts: np.ndarray, weighted: np.ndarray, weight: np.ndarray, equal: bool
) -> np.ndarray:
    """Pooled means [resamples, P] with each layer so often, NaN where none of a pair's is drawn."""
    by_module = [(counts @ weighted[:, m], counts @ weight[:, m]) for m in range(weight.shape[1])]
    if equal:  # each module type weighs the same
        by_module = [
            (np.divide(x, w, out=np.zeros_like(w), where=w > 0), (w > 0).astype(w.dtype))
            for x, w in by_module
        ]
    total = sum(w for _, w in by_module)
    summed = sum(x for x, _ in by_module)
    return np.divide(summed, total, out=np.full_like(total, np.nan), where=total > 0)


def interval(values: np.ndarray, **options: int | float) -> tuple[np.ndarray, np.ndarray, str]:
    """`layer_interval`, over single cells where there are too few layers.

    Returns:
        Low and high [P], and what was resampled: "layers", "cells" or "nothing".

    """
    L, M, P = values.shape
    if L >= FEW_LAYERS:
        return *layer_interval(values, **options), "layers"  # type: ignore[arg-type]
    if L * M < 2:
        return np.full(P, np.nan), np.full(P, np.nan), "nothing"
    cells = values.reshape(L * M, 1, P)
    return *layer_interval(cells, **options), "cells"  # type: ignore[arg-type]


# Fewer draws than this beyond a value do not say its p value well: the tail does.
_BEYOND = 10
_LEAST_P = 1e-300


@dataclass(frozen=True)
class Draws:
    """Nulls of a statistic that is large under the alternative, a row each.

    Attributes:
        values: [N, D].
        mean: [N].
        sd: [N].
        skew: [N].

    """

    values: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    skew: np.ndarray


def draws_of(values: np.ndarray) -> Draws:
    """Nulls [N, D] with their own moments."""
    mean = values.mean(axis=1)
    off = values - mean[:, None]
    sd = np.sqrt(np.einsum("nd,nd->n", off, off) / values.shape[1])
    off /= np.where(sd > 0, sd, 1)[:, None]
    # Not off**3, which calls a power function for every entry.
    return Draws(values, mean, sd, np.einsum("nd,nd,nd->n", off, off, off) / values.shape[1])


def p_values(null: Draws, row: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How often the null is at least x: (1 + draws ≥ x)/(1 + draws), and a tail beyond the draws.

    Where fewer than ten draws reach x, the tail of a gamma distribution with the null's mean,
    variance and skewness (Pearson III; of a normal one where the skewness is not positive) goes on
    from the tenth largest draw, where it is joined continuously. That is an approximation: nulls
    with heavier tails, of updates whose spectra have one large value, get too small a p there.

    Args:
        null: N nulls.
        row: [P] which of them each value has.
        x: [P]

    Returns:
        [P] in (0, 1].

    """
    D = null.values.shape[1]
    count = _at_least(null.values, row, x)
    p = (1 + count) / (1 + D)
    far = np.flatnonzero((count < _BEYOND) & (D > _BEYOND))
    if not len(far):
        return p
    rows, own = np.unique(row[far], return_inverse=True)
    start = np.partition(null.values[rows], -_BEYOND, axis=1)[own, -_BEYOND]
    own = row[far]
    mean, sd, skew = (m[own] for m in (null.mean, null.sd, null.skew))
    safe = np.where(sd > 0, sd, 1)
    last, here = ((v - mean) / safe for v in (start, x[far]))
    share = _tail(here, skew) / np.maximum(_tail(last, skew), _LEAST_P)
    joined = (1 + _BEYOND) / (1 + D) * np.minimum(share, 1)
    p[far] = np.where(sd > 0, np.maximum(joined, _LEAST_P), p[far])
    return p


def discoveries(p: np.ndarray, level: float) -> np.ndarray:
    """Which p values stay below `level` after Benjamini and Hochberg (1995); bool like `p`."""
    return adjusted(p) <= level


def adjusted(p: np.ndarray) -> np.ndarray:
    """P values adjusted by Benjamini and Hochberg's procedure; NaN where `p` is."""
    from scipy.stats import false_discovery_control

    found = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    if tested.any():
        found[tested] = false_discovery_control(p[tested])
    return found


def _at_least(draws: np.ndarray, row: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How many draws of its null are at least x, [P]."""
    N, D = draws.shape
    count = np.empty(len(x), int)
    if len(x) // 4 < N:  # nearly every value has a null of its own
        step = max(1, 2**20 // D)
        for at in range(0, len(x), step):
            here = slice(at, at + step)
            count[here] = (draws[row[here]] >= x[here, None]).sum(axis=1)
        return count
    order = np.argsort(row, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(row[order])) + 1):
        count[own] = D - np.searchsorted(np.sort(draws[row[own[0]]]), x[own], side="left")
    return count


def _tail(z: np.ndarray, skew: np.ndarray) -> np.ndarray:
    """P(Z ≥ z) of a standardised Pearson III variable, normal where the skewness is at most 0."""
    from scipy.special import gammaincc, ndtr

    curved = skew > 1e-3
    shape = 4 / np.where(curved, skew, 1) ** 2
    gamma = gammaincc(shape, np.maximum(shape + z * np.sqrt(shape), 0))
    return np.where(curved, gamma, ndtr(-z))

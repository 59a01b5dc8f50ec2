"""How far a pooled mean would move with other layers: percentile intervals (Efron 1979)."""

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
        seed: Of the draws.

    Returns:
        Low and high [P], NaN for pairs with fewer than two layers.

    """
    L, M, P = values.shape
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(L, np.full(L, 1 / max(L, 1)), size=resamples).astype(float)
    there = np.isfinite(values)
    weight = there.astype(float) if norms is None else np.where(there, norms, 0)
    layers = there.any(axis=1).sum(axis=0)
    bounds = np.full((2, P), np.nan)
    tails = (1 - level) / 2
    for start in range(0, P, _PAIRS):
        own = slice(start, start + _PAIRS)
        summed = np.zeros((resamples, weight[0, 0, own].size))
        total = np.zeros_like(summed)
        for m in range(M):
            w = weight[:, m, own]
            numerator = counts @ np.where(there[:, m, own], w * values[:, m, own], 0)
            mass = counts @ w
            if norms is None:  # each module type weighs the same
                numerator = np.divide(numerator, mass, out=np.zeros_like(mass), where=mass > 0)
                mass = (mass > 0).astype(float)
            summed += numerator
            total += mass
        means = np.divide(summed, total, out=np.full_like(summed, np.nan), where=total > 0)
        enough = layers[own] > 1
        if enough.any():
            # Draws without any layer of a pair are set aside; few pairs have such.
            whole = np.isfinite(means).all(axis=0)
            here = bounds[:, start : start + means.shape[1]]
            for chosen, quantile in (
                (enough & whole, np.quantile),
                (enough & ~whole, np.nanquantile),
            ):
                if chosen.any():
                    here[:, chosen] = quantile(means[:, chosen], [tails, 1 - tails], axis=0)
    return bounds[0], bounds[1]


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

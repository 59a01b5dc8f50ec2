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

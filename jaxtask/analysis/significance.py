"""p values from draws, with a tail where the draws end, and the control of false discoveries."""

from dataclasses import dataclass

import numpy as np

# Fewer draws than this beyond a value do not say its p value well: the tail does.
_BEYOND = 10
_LEAST_P = 1e-300


@dataclass(frozen=True)
class Draws:
    """Nulls of a statistic that is large under the alternative, a row each."""

    values: np.ndarray
    """[N, D]"""
    mean: np.ndarray
    """[N]"""
    sd: np.ndarray
    """[N]"""
    skew: np.ndarray
    """[N]"""


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

"""Whether the adapters seem to have started from one A, which makes input sides alike.

Training moves A little, so adapters of one start keep nearly the same input spaces, whatever their
tasks. Their input-side similarity then says where they started.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxtask.analysis.chance import Chance

# What tells: the median pair is this much of the way from chance to equal spaces, and of all pairs
# this share is closer than chance at this level. Spaces of tasks trained apart stay near 0.
_ALIKE, _SHARE, _LEVEL = 0.3, 0.9, 0.01
_TELLING = ("overlap_in", "chordal_in", "grassmann_in", "geodesic_in")


@dataclass(frozen=True)
class SharedStart:
    """How alike the input sides are, pooled, over all pairs of tasks."""

    variable: str
    median: float
    """Of the values."""
    chance: float
    """Of the chance levels."""
    calibrated: float
    """Of the shares of the way from chance to equal spaces."""
    detected: bool


def shared_start(chances: Mapping[str, Chance]) -> SharedStart | None:
    """Look for a shared start; None where no input-side distance is there."""
    name = next((name for name in _TELLING if name in chances), None)
    if name is None:
        return None
    found = chances[name]
    calibrated = found.calibrated
    if calibrated is None or not np.isfinite(calibrated).any():
        return None
    beyond = np.mean(found.pooled_p[np.isfinite(found.pooled_p)] <= _LEVEL)
    median = float(np.nanmedian(calibrated))
    return SharedStart(
        variable=name,
        median=float(np.nanmedian(found.pooled)),
        chance=float(np.nanmedian(found.pooled_mean)),
        calibrated=median,
        detected=bool(median >= _ALIKE and beyond >= _SHARE),
    )


def told(start: SharedStart) -> str:
    """A detected shared start in words."""
    return (
        f"The adapters seem to have started from one A: {start.variable} of the median pair is "
        f"{start.median:.3f}, where chance is {start.chance:.3f}; that is {start.calibrated:.0%} "
        "of the way to equal input spaces. Input-side similarity then says little of the tasks."
    )

"""What a reader of findings must know of the result that they are made of.

Among it, whether the adapters share their initial A. Training moves A little, so such adapters keep
nearly the same input spaces, whatever their tasks. Their input-side similarity then says where they
started.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxtask.analysis.calibration import Calibration
from jaxtask.analysis.pooling import poolable
from jaxtask.analysis.result_view import Updates
from jaxtask.analysis.significance import FEW_LAYERS
from jaxtask.errors import AnalysisError
from jaxtask.text_files import parse_json

if TYPE_CHECKING:
    import xarray as xr


def check_result(ds: "xr.Dataset", tasks: tuple[str, ...], updates: Updates) -> list[str]:
    """Notes on what is left out of a result and on its adapters.

    Raises:
        AnalysisError: The result has nothing to analyze.

    """
    if len(tasks) < 2:
        raise AnalysisError(
            f"the result is of one adapter ({', '.join(tasks)}); findings need two or more"
        )
    if not poolable(ds):
        raise AnalysisError(
            "the result has no metric that can be pooled: "
            "`jaxtask compare … --metrics grassmann,cosine,rec,energy_core,residual` computes some"
        )
    shared = (np.isfinite(updates.rank)).sum(axis=2) > 1
    if not shared.any():
        raise AnalysisError(
            "no module is adapted in two of the adapters, so all numbers of the result are NaN"
        )
    used = np.isfinite(updates.rank).any(axis=2)
    notes = []
    if alone := _cells(ds, used & ~shared):
        notes.append(f"Left out, since only one adapter has them: {alone}.")
    zero = updates.rank == 0
    if zero.any():
        at = _cells(ds, zero.any(axis=2))
        notes.append(f"Some updates are zero and are not tested: {at}.")
    about = parse_json(ds.attrs.get("adapters", "{}"), "attribute adapters", AnalysisError)
    for adapter in about.get("adapters", []):
        if why := adapter.get("approximate"):
            notes.append(f"{adapter['name']} is approximate: {why}.")
    return notes + [f"{note}." for note in about.get("notes", [])]


def _cells(ds: "xr.Dataset", chosen: np.ndarray) -> str:
    """Layers and modules in words, the first five of them."""
    layers, modules = ds["layer"].values, ds["module"].values
    names = [f"{modules[m]} of layer {layers[l]}" for l, m in np.argwhere(chosen)]  # noqa: E741
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def few_layers(ds: "xr.Dataset", resampled: str) -> list[str]:
    """A note where there are few layers; `resampled` is what intervals of inclusion rest on."""
    count = ds.sizes["layer"]
    if count >= FEW_LAYERS:
        return []
    note = f"There are few layers ({count}), so that intervals over them say little"
    return [
        note + (f"; those of inclusion are over {resampled}." if resampled != "layers" else ".")
    ]


# A shared start is detected where the median pair is this share of the way from the null mean to
# equal spaces, and this share of all pairs is closer than the null at this level. Spaces of tasks
# trained apart stay near 0.
_ALIKE, _SHARE, _LEVEL = 0.3, 0.9, 0.01
_TELLING = ("overlap_in", "chordal_in", "grassmann_in", "geodesic_in")


@dataclass(frozen=True)
class SharedStart:
    """How alike the input sides are, pooled, over all pairs of tasks.

    Attributes:
        median: Median of the values.
        chance: Median of the null means.
        calibrated: Median of the calibrated values: 0 at the null mean, 1 for equal spaces.

    """

    variable: str
    median: float
    chance: float
    calibrated: float
    detected: bool


def shared_start(calibrations: Mapping[str, Calibration]) -> SharedStart | None:
    """Look for a shared start; None where no input-side distance is there."""
    name = next((name for name in _TELLING if name in calibrations), None)
    if name is None:
        return None
    found = calibrations[name]
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


def told(start: SharedStart, kept: bool) -> str:
    """A detected shared start in words; `kept` if the null model takes it into account."""
    caveat = (
        ""
        if kept
        else " The null model of metrics of both sides also draws input sides at random, which the "
        "shared A alone exceeds: `jaxtask compare … --keep chance` holds the input sides fixed."
    )
    return (
        f"The adapters seem to share the same initial A: {start.variable} of the median pair is "
        f"{start.median:.3f} (null mean {start.chance:.3f}), which is {start.calibrated:.0%} of "
        "the way to equal input spaces. Input-side similarity then says little about the tasks."
        f"{caveat}"
    )

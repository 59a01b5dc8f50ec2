"""One number per pair of tasks: the mean over layers, then over module types."""

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from jaxtask.errors import JaxtaskError

if TYPE_CHECKING:
    import xarray as xr

Weights = Literal["equal", "norm"]

FIRST = ("grassmann_out", "grassmann_in", "cosine", "rec", "energy_core")
"""Pair variables that a reader looks at first."""


def poolable(ds: "xr.Dataset") -> list[str]:
    """Names of the pair variables that a mean makes sense of."""
    return [
        str(name)
        for name, v in ds.data_vars.items()
        if v.dims[-2:] == ("source", "target") and v.attrs.get("pooled", False)
    ]


def pool(ds: "xr.Dataset", name: str, weights: Weights = "equal") -> "xr.DataArray":
    """T̄(source, target): one number per pair, from all layers and module types.

    Note that module types of different width have different null means.

    Args:
        ds: A result of `compare`.
        name: A pair variable, e.g. "grassmann_out".
        weights: "equal": the mean over the layers of each module type, then over module types, each
            of which weighs the same, however many layers have it. "norm": the mean over all modules
            at once, weighted by ‖ΔW_source‖·‖ΔW_target‖.

    Returns:
        [source, target], NaN where no module has both tasks.

    Raises:
        JaxtaskError: `name` is no pair variable of `ds`, or may be infinite and so has no mean;
            `weights` is none of these.

    """
    known = poolable(ds)
    if name not in known:
        why = "can be infinite, so it has no mean" if name in ds else "is not in this result"
        raise JaxtaskError(f"{name!r} {why} (there: {', '.join(known)})")
    check_weights(weights)
    if weights == "equal":
        return ds[name].mean("layer", skipna=True, keep_attrs=True).mean("module", skipna=True)
    norms = ds["frobenius"].fillna(0)
    weight = norms.rename(task="source") * norms.rename(task="target")
    total = weight.where(ds[name].notnull()).sum(("layer", "module"))
    with np.errstate(invalid="ignore"):
        pooled = (ds[name] * weight).sum(("layer", "module")) / total
    return pooled.assign_attrs(ds[name].attrs).rename(name)


def check_weights(weights: str) -> None:
    """Raise a `JaxtaskError` unless `weights` is known."""
    if weights not in get_args(Weights):
        known = ", ".join(get_args(Weights))
        raise JaxtaskError(f"unknown weights {weights!r}; expected one of {known}")


def cell_weights(there: np.ndarray, norms: np.ndarray | None = None) -> np.ndarray:
    """What each cell weighs in the pooled mean of its pair, summing to 1 over a pair's cells.

    Args:
        there: [L, M, P] bool, the cells that have a number.
        norms: [L, M, P] ‖ΔW_source‖·‖ΔW_target‖ for weights "norm", None for "equal".

    Returns:
        [L, M, P] float64, all 0 for a pair without cells.

    """
    if norms is None:
        layers = there.sum(axis=0)
        modules = (layers > 0).sum(axis=0)
        return there / np.maximum(layers * modules, 1)
    kept = np.where(there, norms, 0)
    total = kept.sum(axis=(0, 1))
    return kept / np.where(total > 0, total, 1)

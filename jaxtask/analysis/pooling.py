"""One number per pair of tasks: the mean over layers, then over module types."""

from typing import TYPE_CHECKING

from jaxtask.errors import JaxtaskError

if TYPE_CHECKING:
    import xarray as xr


def poolable(ds: "xr.Dataset") -> list[str]:
    """Names of the pair variables that a mean makes sense of."""
    return [
        str(name)
        for name, v in ds.data_vars.items()
        if v.dims[-2:] == ("source", "target") and v.attrs.get("pooled", False)
    ]


def pool(ds: "xr.Dataset", name: str) -> "xr.DataArray":
    """T̄(source, target): mean over the layers of each module type, then over module types.

    Every module type weighs the same, however many layers have it. Mind that module types of
    different width have different chance levels.

    Args:
        ds: A result of `compare`.
        name: A pair variable, e.g. "grassmann_out".

    Returns:
        [source, target], NaN where no module has both tasks.

    Raises:
        JaxtaskError: `name` is no pair variable of `ds`, or may be infinite and so has no mean.

    """
    known = poolable(ds)
    if name not in known:
        why = "can be infinite, so it has no mean" if name in ds else "is not in this result"
        raise JaxtaskError(f"{name!r} {why} (there: {', '.join(known)})")
    return ds[name].mean("layer", skipna=True, keep_attrs=True).mean("module", skipna=True)

"""`compare`: a bank in, a labelled result out."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxtask.adapters import Adapter, AdapterBank, LowRankUpdate, ModuleKey, load_adapters
from jaxtask.engine.backend import numerics
from jaxtask.engine.prepare import Comparison, prepare
from jaxtask.engine.spec import Padding
from jaxtask.engine.sweep import Counter, Progress, sweep
from jaxtask.engine.write import write
from jaxtask.engine.zarr_store import FORMAT, open_result
from jaxtask.errors import AdapterError, JaxtaskError
from jaxtask.metrics import SIDES, Metric

if TYPE_CHECKING:
    import xarray as xr


Path_ = str | PathLike[str]
Factors = Mapping[str | ModuleKey, tuple[ArrayLike, ArrayLike] | LowRankUpdate]
Bank = AdapterBank | Path_ | Sequence[Path_] | Mapping[str, Path_] | Mapping[str, Factors]
"""The adapters to compare, or what they are read or made from."""


def compare(
    bank: Bank,
    *,
    metrics: Sequence[str | Metric] | str | None = None,
    sides: Sequence[str] | str = SIDES,
    dtype: Literal["float32", "float64"] = "float32",
    padding: Padding = "pi/2",
    keep: Sequence[Literal["angles", "spectra", "chance"]] = (),
    rank_rtol: float | None = None,
    memory_budget: int | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    append: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
) -> "xr.Dataset":
    """Every metric for every layer × module × ordered pair of tasks.

    Args:
        bank: The adapters, from `load_adapters` or `AdapterBank.from_factors`; or what these take:
            a path, several, paths by task, or factors by task and module.
        metrics: Names or `Metric` objects; all of the package's by default.
        sides: "out" (spans of U, im ΔW), "in" (spans of V, im ΔWᵀ) or both.
        dtype: Type of the large products and of the result. In "float32" the bases are still
            computed in float64 where the device has it, and angles are right to about 3e-7 rad;
            "float64" is for angles below that.
        padding: What unequal ranks k ≠ l count: "pi/2", |k − l| further right angles (a metric), or
            "none".
        keep: "angles" adds every principal angle (`angles_out`, `angles_in`), "spectra" adds S₁
            (`spectra`) and S₂ (`projected`), NaN beyond each rank. "chance" adds the null mean and
            standard deviation of metrics of both sides (`rec_chance`, `rec_chance_sd`): output
            spaces of the targets are random and input sides are held fixed, which is the right null
            where adapters share the same initial A.
        rank_rtol: Singular values up to rank_rtol·σ_max count as zero; 4√r·eps of the stored
            precision by default (never narrower than float32's).
        memory_budget: Bytes of main memory for bases, tiles and reading; half of what is available
            by default. The result itself comes on top, unless `out` is given.
        out: Write the result there as Zarr, module by module, and return it opened from there. It
            is made in `<out>.partial`; after a kill, the same call resumes from there, and ends
            with the same bits. Under `jax.distributed` the processes share the modules.
        overwrite: Replace a result at `out`, and what is left of another comparison.
        append: Add to the result at `out` the tasks of `bank` that it does not have; those that it
            has must be in `bank` too. Only new pairs are computed. Until all are, the result stays
            as it was.
        command: Recorded in the result's attributes.
        progress: Called with (pairs done, pairs in all), in unordered pairs × modules.

    Returns:
        Dataset with dims (layer, module, source, target) for pairs, (layer, module, task) for
        `frobenius`, `rank` and `gap`, (layer, module) for `d_out` and `d_in`; NaN where a task
        lacks a module. `valid` is false where an update is missing or zero.

    Raises:
        JaxtaskError: An argument is not known, or the budget is too small.
        AdapterError: A file turned out to be damaged when it was read.
        ResultError: `out` cannot be written: it exists, another process is writing it, what is left
            there is of another comparison, or what is to be added to was made of other numbers or
            with other settings.

    """
    comparison = prepare(
        _bank(bank),
        metrics=metrics,
        sides=sides,
        dtype=dtype,
        padding=padding,
        keep=keep,
        rank_rtol=rank_rtol,
        memory_budget=memory_budget,
        command=command,
    )
    if out is not None:
        write(comparison, Path(out), progress, overwrite=overwrite, append=append)
        return open_result(out)
    if append or jax.process_count() > 1:
        needing = "append" if append else "a comparison by several processes"
        raise JaxtaskError(f"{needing} needs `out`, a place on disk")
    return _in_memory(comparison, progress)


def _bank(given: Any) -> AdapterBank:
    """The bank that `compare` was given, or what makes one."""
    if isinstance(given, AdapterBank):
        return given
    if isinstance(given, str | PathLike):
        return load_adapters(given)
    if isinstance(given, Mapping | Sequence) and given:
        values = list(given.values() if isinstance(given, Mapping) else given)
        if all(isinstance(value, str | PathLike) for value in values):
            return load_adapters(given)
        if isinstance(given, Mapping) and all(isinstance(value, Mapping) for value in values):
            return AdapterBank.from_factors(given)
        if not isinstance(given, Mapping) and all(isinstance(v, Adapter) for v in values):
            return AdapterBank(values)
    raise AdapterError(
        f"compare: got {type(given).__name__} {given!r:.60}; expected a path, a list of paths, "
        "{task: path}, {task: {module: (B, A)}}, or what jt.load_adapters or "
        "jt.AdapterBank.from_factors returns"
    )


def _in_memory(comparison: Comparison, progress: Progress | None) -> "xr.Dataset":
    import xarray as xr

    shape = comparison.layout
    arrays = {
        name: np.full(v.shape, False if v.dtype == bool else np.nan, v.dtype)
        for name, v in shape.variables.items()
    }
    with numerics():
        tick = Counter(progress, comparison.pairs(comparison.plans))
        for key, found in sweep(comparison, comparison.plans, tick):
            for name, value in found.items():
                arrays[name][shape.where(key)] = value
    return xr.Dataset(
        {name: (v.dims, arrays[name], dict(v.attrs)) for name, v in shape.variables.items()},
        coords={name: list(labels) for name, labels in shape.coords.items()},
        attrs={"format": FORMAT, **comparison.attributes, "variables": list(shape.variables)},
    )

"""`compare`: a bank in, a labelled result out."""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import jaxlib
import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from jaxtask.adapters import AdapterBank
from jaxtask.engine import store
from jaxtask.engine.plan import default_budget, unordered_pairs
from jaxtask.engine.program import Padding, Program
from jaxtask.engine.result import Layout, layout, values
from jaxtask.engine.sweep import sweep
from jaxtask.errors import JaxtaskError
from jaxtask.metrics import SIDES, Metric, resolve
from jaxtask.version import __version__
from jaxtask_kernels.native import native

if TYPE_CHECKING:
    import xarray as xr


def compare(
    bank: AdapterBank,
    *,
    metrics: Sequence[str | Metric] | str | None = None,
    sides: Sequence[str] | str = SIDES,
    dtype: Literal["float32", "float64"] = "float32",
    padding: Padding = "pi/2",
    keep: Sequence[Literal["angles", "spectra"]] = (),
    rank_rtol: float | None = None,
    memory_budget: int | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    command: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "xr.Dataset":
    """Every metric for every layer × module × ordered pair of tasks.

    Args:
        bank: The adapters, from `load_adapters` or `AdapterBank.from_factors`.
        metrics: Names or `Metric` objects; all of the package's by default.
        sides: "out" (spans of U, im ΔW), "in" (spans of V, im ΔWᵀ) or both.
        dtype: Of the large products and of the result. In "float32" the bases are still computed
            in float64 where the device has it, and angles are right to about 3e-7 rad; "float64" is
            for angles below that.
        padding: What unequal ranks k ≠ l count: "pi/2", |k − l| further right angles (a metric), or
            "none".
        keep: "angles" adds every principal angle (`angles_out`, `angles_in`), "spectra" adds S₁
            (`spectra`) and S₂ (`projected`), NaN beyond each rank.
        rank_rtol: Singular values up to rank_rtol·σ_max count as zero; 4√r·eps of the stored
            precision by default (never narrower than float32's).
        memory_budget: Bytes of main memory for bases, tiles and reading; half of what is available
            by default. The result itself comes on top, unless `out` is given.
        out: Write the result there as Zarr, module by module, and return it opened from there.
        overwrite: Replace a result at `out`.
        command: Recorded in the result's attributes.
        progress: Called with (pairs done, pairs in all), in unordered pairs × modules.

    Returns:
        Dataset with dims (layer, module, source, target) for pairs and (layer, module, task) for
        `frobenius`, `rank` and `gap`; NaN where a task lacks a module. `valid` is false where an
        update is missing or zero.

    Raises:
        JaxtaskError: An argument is not known, or the budget is too small.
        AdapterError: A file turned out to be damaged when it was read.
        ResultError: `out` cannot be written.

    """
    program = Program(resolve(metrics), _several(sides), dtype, padding, _several(keep))
    if not isinstance(memory_budget, int | None):
        raise JaxtaskError(f"memory_budget must be a whole number of bytes, got {memory_budget!r}")
    if rank_rtol is not None and not 0 <= rank_rtol < 1:
        raise JaxtaskError(f"rank_rtol must be in [0, 1), got {rank_rtol}")
    budget = default_budget() if memory_budget is None else memory_budget
    shape = layout(bank, program)
    attrs = _attributes(bank, program, rank_rtol, command)
    attrs["variables"] = list(shape.variables)

    def fill(sink: dict[str, Any]) -> None:
        with _numerics():
            _fill(sink, bank, program, shape, budget, rank_rtol, progress)

    if out is None:
        arrays = {
            name: np.full(v.shape, False if v.dtype == bool else np.nan, v.dtype)
            for name, v in shape.variables.items()
        }
        fill(arrays)
        return _dataset(arrays, shape, attrs)
    with store.replacing(Path(out), overwrite) as draft:
        fill(store.create(draft, shape, attrs))
    return store.open_result(out)


def _several(names: Sequence[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _fill(
    sink: dict[str, Any],
    bank: AdapterBank,
    program: Program,
    shape: Layout,
    budget: int,
    rank_rtol: float | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    counts = [len(bank.present(key)) for key in bank.modules]
    total, done = sum(map(unordered_pairs, counts)), 0

    def tick(pairs: int) -> None:
        nonlocal done
        done += pairs
        if progress is not None:
            progress(done, total)

    component = len(shape.coords.get("component", ()))
    for result in sweep(bank, program, budget, rank_rtol, tick):
        at = shape.where(result)
        for name, value in values(result, program, component).items():
            sink[name][at] = value


@contextmanager
def _numerics() -> Iterator[None]:
    """Settings of the process for the calls inside; the user's own come back after."""
    with ExitStack() as settings:
        # TPUs emulate float64 and have no decompositions for it.
        if jax.default_backend() != "tpu":
            settings.enter_context(jax.enable_x64(True))
        if jax.default_backend() == "cpu":
            # jaxlib calls LAPACK from every core at once. Where each call asks for all cores again,
            # as it does from 32 columns on, that was 10 to 20 times slower on two cores.
            settings.enter_context(_blas().limit(limits=1))
        yield


@cache
def _blas() -> Any:
    import_module("scipy.linalg.cython_lapack")  # where jaxlib has its LAPACK from
    return ThreadpoolController().select(user_api="blas")


def _dataset(arrays: dict[str, np.ndarray], shape: Layout, attrs: dict[str, Any]) -> "xr.Dataset":
    import xarray as xr

    return xr.Dataset(
        {name: (v.dims, arrays[name], dict(v.attrs)) for name, v in shape.variables.items()},
        coords={name: list(labels) for name, labels in shape.coords.items()},
        attrs={"format": store.FORMAT, **attrs},
    )


def _attributes(
    bank: AdapterBank, program: Program, rank_rtol: float | None, command: str | None
) -> dict[str, Any]:
    """What one must know to read the numbers, and to get them again."""
    return {
        "versions": json.dumps(
            {m.__name__: m.__version__ for m in (jax, jaxlib, np)}
            | {"jaxtask": __version__, "python": platform.python_version()}
        ),
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind}",
        "native": native().about,
        "dtype": program.dtype,
        "padding": program.padding,
        "rank_rtol": "4*sqrt(r)*eps" if rank_rtol is None else rank_rtol,
        "convention": "source is ΔW₁ (spaces and S₁), target is ΔW₂; angles in radians",
        "base_model": bank.base_model or "",
        "adapters": json.dumps(bank.describe()),
        "command": command or "",
    }

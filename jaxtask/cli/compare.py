"""The command that compares: arguments in, one call to the library, tables or JSON out."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import jaxtask as jt
from jaxtask.cli.shared import (
    AnyBase,
    AsJson,
    Directional,
    Download,
    Paths,
    SkipUnreadable,
    Variables,
    load,
    progress_bar,
    read_bytes,
    show_pooled,
    split,
)
from jaxtask.terminal import print_json, standard_error, standard_output


def compare(
    paths: Paths,
    out: Annotated[
        Path | None, typer.Option(help="Write the result there (a Zarr folder).")
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            show_default="all", help="Comma-separated metric names; see `jaxtask metrics`."
        ),
    ] = "",
    sides: Annotated[str, typer.Option(help="Sides of the update: out, in or out,in.")] = "out,in",
    dtype: Annotated[
        str, typer.Option(help="Precision: float32, or float64 for angles below 1e-6.")
    ] = "float32",
    padding: Annotated[
        str, typer.Option(help='Angles added for unequal ranks: "pi/2" (right angles) or "none".')
    ] = "pi/2",
    keep: Annotated[
        str, typer.Option(help="Also store: angles, spectra, chance (comma-separated).")
    ] = "",
    rank_rtol: Annotated[
        float | None,
        typer.Option(
            show_default="4·√r·eps",
            help="Singular values below this share of the largest count as zero.",
        ),
    ] = None,
    memory_budget: Annotated[
        str,
        typer.Option(
            show_default="half of what is available", help="Memory limit, such as 500MB or 4GB."
        ),
    ] = "",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing result, or an unfinished one of another comparison.",
        ),
    ] = False,
    append: Annotated[
        bool,
        typer.Option("--append", help="Add the new adapters to an existing result."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print shapes, memory and estimated time, and write nothing."
        ),
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Run as one of several processes, which divide the modules among them. "
            "jax.distributed finds the others (SLURM, Kubernetes, TPU pods), or the next three "
            "options do.",
        ),
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT of process 0, with --distributed.")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="Number of processes.")] = None,
    process: Annotated[int | None, typer.Option(help="Index of this process, from 0.")] = None,
    directional: Directional = False,
    allow_base_mismatch: AnyBase = False,
    skip_unreadable: SkipUnreadable = False,
    download: Download = False,
    show: Variables = "",
    as_json: AsJson = False,
) -> None:
    """Compare adapters.

    Computes every metric for every layer, module and ordered pair of tasks. If a run is
    interrupted, the same command resumes it.
    """
    leads = not distributed or _join(coordinator, processes, process)
    # Several processes have to hear it together, which is later.
    if out is not None and not dry_run and not distributed:
        from jaxtask.engine.zarr_store import check_target

        check_target(out, overwrite=overwrite or append)
    bank = load(paths, directional, allow_base_mismatch, skip_unreadable, download)
    options: dict[str, Any] = {
        "metrics": split(metrics) or None,
        "sides": split(sides),
        "dtype": dtype,
        "padding": padding,
        "keep": split(keep),
        "rank_rtol": rank_rtol,
        "memory_budget": read_bytes(memory_budget),
    }
    if dry_run:
        _dry_run(bank, options, out, append, as_json)
        return
    with progress_bar(visible=leads) as tick:
        ds = jt.compare(
            bank,
            **options,
            out=out,
            overwrite=overwrite,
            append=append,
            command=shlex.join(["jaxtask", *sys.argv[1:]]),
            progress=tick,
        )
    if not leads:
        return
    show_pooled(ds, show, as_json)
    for note in bank.notes:
        standard_error().print(f"note: {note}")
    for adapter in bank.adapters:
        if why := adapter.provenance.get("approximate"):
            standard_error().print(f"note: {adapter.name} is approximate: {why}")


def _join(coordinator: str | None, processes: int | None, process: int | None) -> bool:
    """Become one of several processes; whether this one leads."""
    import jax

    # The library that processes on CPUs talk through says so on standard output.
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding)
    os.dup2(2, 1)
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        raise jt.JaxtaskError(
            f"--distributed: {error}; give --coordinator, --processes and --process where no "
            "cluster manager sets them"
        ) from error
    return jax.process_index() == 0


def _dry_run(
    bank: Any, options: dict[str, Any], out: Path | None, append: bool, as_json: bool
) -> None:
    from jaxtask.cli.tables import plan_lines, plan_table
    from jaxtask.engine.estimate import estimate
    from jaxtask.engine.prepare import prepare

    plan = estimate(prepare(bank, **options), out, append=append)
    if as_json:
        print_json(plan)
        return
    console = standard_output()
    console.print(plan_table(plan))
    for line in plan_lines(plan):
        console.print(line, soft_wrap=True)

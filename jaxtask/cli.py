"""The command line: arguments in, calls to the library, tables or JSON out."""

import json
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import jaxtask as jt
from jaxtask import cli_tasks, cli_train

if TYPE_CHECKING:
    from rich.console import Console

    from jaxtask.adapters import AdapterBank

EXIT = """
Exit status: 0 done; 1 something given cannot be used (one line on standard error says what);
2 wrong usage; 130 interrupted.
"""

app = typer.Typer(
    name="jaxtask",
    help="How fine-tuning tasks relate, measured from their LoRA adapters." + EXIT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(cli_tasks.app, name="tasks")
app.command(epilog=EXIT)(cli_train.train)

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Adapters: folders, weight files, folders of adapters, patterns, or ids in the local "
        "Hugging Face cache. NAME=PATH names a task.",
    ),
]
Directional = Annotated[
    bool,
    typer.Option(
        help="Take B·A also from kinds whose update is more (DoRA, PiSSA, …), labelled so."
    ),
]
AnyBase = Annotated[
    bool, typer.Option("--allow-base-mismatch", help="Adapters may name different base models.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, no tables.")]
Variables = Annotated[
    str,
    typer.Option(
        help="Comma-separated pair variables to show (such as grassmann_out,cosine), or all."
    ),
]


@app.command(epilog=EXIT)
def compare(
    paths: Paths,
    out: Annotated[
        Path | None, typer.Option(help="Write the result there (a Zarr folder).")
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(help="Comma-separated metric names; all by default. See `jaxtask metrics`."),
    ] = "",
    sides: Annotated[str, typer.Option(help="out, in or out,in.")] = "out,in",
    dtype: Annotated[
        str, typer.Option(help="float32, or float64 for angles below 1e-6.")
    ] = "float32",
    padding: Annotated[
        str, typer.Option(help='What unequal ranks count: "pi/2" (right angles) or "none".')
    ] = "pi/2",
    keep: Annotated[str, typer.Option(help="Also keep: angles, spectra (comma-separated).")] = "",
    rank_rtol: Annotated[
        float | None, typer.Option(help="Relative size of a singular value that counts as zero.")
    ] = None,
    memory_budget: Annotated[
        str, typer.Option(help="Such as 500MB or 4GB; half of what is available by default.")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a result.")] = False,
    directional: Directional = False,
    allow_base_mismatch: AnyBase = False,
    show: Variables = "",
    as_json: AsJson = False,
) -> None:
    """Compare adapters: every metric, layer, module and ordered pair of tasks."""
    if out is not None:
        from jaxtask.engine.store import check_target

        check_target(out, overwrite=overwrite)
    bank = _load(paths, directional, allow_base_mismatch)
    budget = _bytes(memory_budget)
    with _progress() as tick:
        ds = jt.compare(
            bank,
            metrics=_split(metrics) or None,
            sides=_split(sides),
            dtype=dtype,  # type: ignore[arg-type]
            padding=padding,  # type: ignore[arg-type]
            keep=_split(keep),  # type: ignore[arg-type]
            rank_rtol=rank_rtol,
            memory_budget=budget,
            out=out,
            overwrite=overwrite,
            command=shlex.join(["jaxtask", *sys.argv[1:]]),
            progress=tick,
        )
    _show(ds, show, as_json)
    for note in bank.describe()["notes"]:
        _err().print(f"note: {note}", markup=False)
    for adapter in bank.adapters:
        if why := adapter.provenance.get("approximate"):
            _err().print(f"note: {adapter.name} is approximate: {why}", markup=False)


@app.command(epilog=EXIT)
def show(
    result: Annotated[Path, typer.Argument(help="A result of `jaxtask compare --out`.")],
    variables: Annotated[
        str, typer.Option("--show", help="Comma-separated pair variables, or all.")
    ] = "",
    layer: Annotated[int | None, typer.Option(help="This layer only.")] = None,
    module: Annotated[str | None, typer.Option(help="This module type only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print pooled tables of a result again."""
    ds = jt.open_result(result)
    for dim, label in (("layer", layer), ("module", module)):
        if label is not None:
            known = ds[dim].values.tolist()
            if label not in known:
                raise jt.ResultError(
                    f"{result} has no {dim} {label!r} (there: {', '.join(map(str, known))})"
                )
            ds = ds.sel({dim: [label]})
    _show(ds, variables, as_json)


@app.command(epilog=EXIT)
def inspect(
    paths: Paths,
    directional: Directional = False,
    allow_base_mismatch: AnyBase = False,
    as_json: AsJson = False,
) -> None:
    """Show what adapters hold: base, modules, ranks, scaling, what is left out and why."""
    description = _load(paths, directional, allow_base_mismatch).describe()
    if as_json:
        print(json.dumps(description, ensure_ascii=False))
        return
    from jaxtask.report import adapter_table

    console = _out()
    for adapter in description["adapters"]:
        console.print(adapter_table(adapter))
        for item, reason in adapter["excluded"].items():
            console.print(f"  left out: {item} – {reason}", markup=False, highlight=False)
        notes = adapter["notes"]
        if adapter["approximate"]:
            notes = [*notes, f"approximate: {adapter['approximate']}"]
        for note in notes:
            console.print(f"  note: {note}", markup=False, highlight=False)
    for note in description["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)


@app.command(epilog=EXIT)
def metrics(as_json: AsJson = False) -> None:
    """List the metrics and the variables that they make."""
    known = [(m, m.variables(jt.metrics.SIDES)) for m in jt.metrics.METRICS.values()]
    if as_json:
        rows = [
            {"name": m.name, "variables": v, "symmetric": m.symmetric, "summary": m.summary}
            for m, v in known
        ]
        print(json.dumps(rows, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table("metric", "variables", "symmetric", "what it is")
    for m, variables in known:
        table.add_row(m.name, ", ".join(variables), "yes" if m.symmetric else "no", m.summary)
    _out().print(table)


@app.command(epilog=EXIT)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the adapters and the result.")] = Path(
        "demo"
    ),
) -> None:
    """Build a small family of adapters with planted structure, and compare them."""
    from jaxtask.demo import PLANTED, write_family

    console = _out()
    write_family(out / "adapters")
    console.print(PLANTED)
    with _progress() as tick:
        ds = jt.compare(
            jt.load_adapters(out / "adapters"),
            out=out / "result.zarr",
            overwrite=True,
            command=f"jaxtask demo --out {out}",
            progress=tick,
        )
    _show(ds, "grassmann_out,cosine,containment_out,energy_core", as_json=False)
    console.print(f"Written: {out}/adapters (PEFT format), {out}/result.zarr", highlight=False)


def main() -> None:
    """Entry point: errors that users are meant to see become one line and exit status 1."""
    # So that a half-written result is removed, as it is on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except jt.JaxtaskError as error:
        _err().print(f"jaxtask: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _load(paths: list[str], directional: bool, allow_base_mismatch: bool) -> "AdapterBank":
    named = [m for p in paths if (m := re.fullmatch(r"([^=/]+)=(.+)", p)) and not Path(p).exists()]
    if named and len(named) < len(paths):
        raise jt.AdapterError("give either all paths as NAME=PATH or none")
    names = [m[1] for m in named]
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise jt.AdapterError(f"two adapters are named {twice!r}")
    return jt.load_adapters(
        {m[1]: m[2] for m in named} if named else paths,
        directional=directional,
        allow_base_mismatch=allow_base_mismatch,
    )


def _show(ds: Any, variables: str, as_json: bool) -> None:
    from jaxtask.analysis import poolable
    from jaxtask.report import default_variables, pooled_json, pooled_tables

    chosen = poolable(ds) if variables == "all" else _split(variables) or default_variables(ds)
    if as_json:
        print(json.dumps(pooled_json(ds, chosen), ensure_ascii=False))
        return
    tables = list(pooled_tables(ds, chosen))
    console = _out()
    layers, modules = ds.sizes["layer"], ds.sizes["module"]
    console.print(
        f"{ds.sizes['source']} tasks, {layers} layers, {modules} module types, "
        f"{ds.attrs['dtype']}; means over layers, then over module types",
        highlight=False,
    )
    for table in tables:
        console.print(table)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _bytes(text: str) -> int | None:
    if not text:
        return None
    units = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
    units |= {f"{u}i": 1024**n for n, u in enumerate("kmgt", 1)}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if not found or found[2] not in units:
        raise jt.JaxtaskError(
            f"memory budget {text!r}: expected a number of bytes such as 500MB, 4GiB"
        )
    return int(float(found[1]) * units[found[2]])


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, of pairs × modules."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("comparing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells, {task.fields[rate]}/s,"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err()) as bar:
        task = bar.add_task("", total=None, rate="–")

        def tick(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:,.0f}" if speed else "–")

        yield tick


def _out() -> "Console":
    from rich.console import Console

    return Console()


def _err() -> "Console":
    from rich.console import Console

    return Console(stderr=True)

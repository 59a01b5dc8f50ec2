"""The command line: arguments in, calls to the library, tables or JSON out."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import jaxtask as jt
from jaxtask import (
    cli_analyze,
    cli_compare,
    cli_doctor,
    cli_extract,
    cli_report,
    cli_reproduce,
    cli_tasks,
    cli_train,
)
from jaxtask.cli_shared import (
    EXIT,
    AnyBase,
    AsJson,
    Directional,
    Paths,
    SkipUnreadable,
    load,
    show_adapter,
    show_pooled,
    standard_error,
    standard_output,
)
from jaxtask.interrupts import Stopped, interrupts

app = typer.Typer(
    name="jaxtask",
    help="How fine-tuning tasks relate, measured from their LoRA adapters." + EXIT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(cli_tasks.app, name="tasks")
for command in (
    cli_train.train,
    cli_extract.extract,
    cli_compare.compare,
    cli_analyze.analyze,
    cli_report.report,
    cli_reproduce.reproduce,
    cli_doctor.doctor,
):
    app.command(epilog=EXIT)(command)


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
    show_pooled(ds, variables, as_json)


@app.command(epilog=EXIT)
def inspect(
    paths: Paths,
    directional: Directional = False,
    allow_base_mismatch: AnyBase = False,
    skip_unreadable: SkipUnreadable = False,
    as_json: AsJson = False,
) -> None:
    """Show what adapters hold: base, modules, ranks, scaling, what is left out and why."""
    description = load(paths, directional, allow_base_mismatch, skip_unreadable).describe()
    if as_json:
        print(json.dumps(description, ensure_ascii=False))
        return
    for adapter in description["adapters"]:
        show_adapter(adapter)
    for note in description["notes"]:
        standard_output().print(f"note: {note}", markup=False, highlight=False)


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
    standard_output().print(table)


@app.command(epilog=EXIT)
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for all that is made; replaces an earlier demo there.")
    ] = Path("demo"),
) -> None:
    """Go the whole way once, in minutes: corpus, base model, tasks, adapters, comparison."""
    from jaxtask.demo.run import run

    run(out, standard_output())


def main() -> None:
    """Entry point: errors that users are meant to see become one line and exit status 1."""
    interrupts.install()
    # Only tokenizers are wanted of it: that there is no PyTorch is no news.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        app()
    except Stopped as stop:
        told = interrupts.told(stop)
        standard_error().print(f"jaxtask: {told}", markup=False, highlight=False, soft_wrap=True)
        interrupts.leave(stop)
    except jt.JaxtaskError as error:
        told = "; ".join([str(error), *getattr(error, "__notes__", ())])
        standard_error().print(f"jaxtask: {told}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)

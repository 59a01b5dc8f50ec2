"""The command line: arguments in, calls to the library, tables or JSON out."""

import io
import os
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import jaxtask as jt
from jaxtask.cli import analyze, compare, doctor, export, extract, report, reproduce, tasks, train
from jaxtask.cli.shared import (
    EXIT,
    AnyBase,
    AsJson,
    Directional,
    Download,
    Paths,
    SkipUnreadable,
    as_options,
    load,
    show_adapter,
    show_pooled,
)
from jaxtask.interrupts import Stopped, interrupts
from jaxtask.machine import check_limits
from jaxtask.terminal import print_json, standard_error, standard_output

_WARNED: set[str] = set()
BUG = 70  # EX_SOFTWARE of sysexits.h
# Newer versions of Typer bring their own copy of Click.
_WRONG_USAGE: type[Any] = typer.BadParameter.__mro__[2]


def show(
    result: Annotated[Path, typer.Argument(help="A result of `jaxtask compare --out`.")],
    variables: Annotated[
        str, typer.Option("--show", help="Comma-separated pair variables, or all.")
    ] = "",
    layer: Annotated[int | None, typer.Option(help="This layer only.")] = None,
    module: Annotated[str | None, typer.Option(help="This module type only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print pooled tables of a result."""
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


def inspect(
    paths: Paths,
    directional: Directional = False,
    allow_base_mismatch: AnyBase = False,
    skip_unreadable: SkipUnreadable = False,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """Show the contents of adapters.

    Base model, modules, ranks and scaling; what is left out, and why.
    """
    description = load(
        paths, directional, allow_base_mismatch, skip_unreadable, download
    ).describe()
    if as_json:
        print_json(description)
        return
    for adapter in description["adapters"]:
        show_adapter(adapter)
    for note in description["notes"]:
        standard_output().print(f"note: {note}")


def metrics(as_json: AsJson = False) -> None:
    """List the metrics and their variables."""
    known = [(m, m.variables(jt.metrics.SIDES)) for m in jt.metrics.METRICS.values()]
    if as_json:
        rows = [
            {"name": m.name, "variables": v, "symmetric": m.symmetric, "summary": m.summary}
            for m, v in known
        ]
        print_json(rows)
        return
    from rich.table import Table

    table = Table("metric", "variables", "symmetric", "what it is")
    for m, variables in known:
        table.add_row(m.name, ", ".join(variables), "yes" if m.symmetric else "no", m.summary)
    standard_output().print(table)


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the results; replaces an earlier demo.")
    ] = Path("demo"),
) -> None:
    """Run the whole pipeline in minutes.

    Generates a corpus, pre-trains a tiny base model, builds tasks, trains adapters and compares
    them.
    """
    from jaxtask.demo.run import run

    run(out, standard_output())


def _version(wanted: bool) -> None:
    if wanted:
        standard_output().print(f"jaxtask {jt.__version__}")
        raise typer.Exit


class _InOrder(TyperGroup):
    """Lists what prepares tasks first, as it is used; Typer lists groups of commands last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: name != "tasks")


app = typer.Typer(
    name="jaxtask",
    cls=_InOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog=EXIT)
def jaxtask(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Measure how fine-tuning tasks relate, from their LoRA adapters."""


# In the order of use.
app.add_typer(tasks.app, name="tasks")
for command in (
    train.train,
    extract.extract,
    inspect,
    compare.compare,
    show,
    analyze.analyze,
    report.report,
    export.export,
    reproduce.reproduce,
    metrics,
    doctor.doctor,
    demo,
):
    app.command(epilog=EXIT)(command)


def main() -> None:
    """Entry point: what users, files or the machine cause becomes one line and an exit status."""
    interrupts.install()
    # Only tokenizers are wanted of it: that there is no PyTorch is no news.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    warnings.showwarning = _warn  # type: ignore[assignment]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        check_limits()
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except Stopped as stop:
        _tell(f"jaxtask: {interrupts.told(stop)}")
        interrupts.leave(stop)
    except _WRONG_USAGE as error:
        _tell_usage(error)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 (tells what users cause from bugs)
        told = _cause(error)
        if told is None:
            traceback.print_exc()
            _tell(
                f"jaxtask: this is a bug in jaxtask {jt.__version__}, not in what you gave it; "
                "please report it with the lines above"
            )
            sys.exit(BUG)
        _tell(f"jaxtask: {told[0]}")
        for note in told[1:]:
            _tell(f"  {note}")
        _drop_output()
        sys.exit(1)
    sys.exit(status or 0)


def _cause(error: Exception) -> list[str] | None:
    """What a user can do something about, in lines; None for all that only a bug of ours causes."""
    notes = list(getattr(error, "__notes__", ()))
    if isinstance(error, jt.JaxtaskError):
        command = typer.main.get_command(app)
        return [as_options(told, command) for told in (str(error), *notes)]
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding():
        name = error.object[:200]
        return [
            f"{name!r}: file names are {error.encoding} here; set PYTHONUTF8=1 for all others",
            *notes,
        ]
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return [f"{place}{error.strerror or error}", *notes]
    if isinstance(error, MemoryError):
        return [f"there is not enough memory: {error}".removesuffix(": "), *notes]
    if isinstance(error, ImportError) and "failed to map segment" in str(error):
        return ["there is not enough memory: a library cannot be loaded", *notes]
    if isinstance(error, RuntimeError):
        said = " ".join(str(error).split())
        if said == "can't start new thread":
            return ["there is not enough memory, or too few threads are allowed", *notes]
        if "RESOURCE_EXHAUSTED" in said or "Out of memory" in said:
            return [f"there is not enough memory: {said:.300}", *notes]
    if _passes(error, "numcodecs", "zarr"):
        said = " ".join(str(error).split())
        return [f"a chunk of a result cannot be read: {said:.300}", *notes]
    if _passes(error, "xla_bridge.py"):
        said = " ".join(str(error).split()) or "there is none"
        asked = os.environ.get("JAX_PLATFORMS", "")
        return [f"JAX cannot use the devices of JAX_PLATFORMS={asked!r}: {said:.300}", *notes]
    return None


def _passes(error: Exception, *parts: str) -> bool:
    """Whether it comes through a file or folder of such a name; libraries raise what they like."""
    link: BaseException | None = error
    while link is not None:  # JAX hides its own frames from the last one
        frames = traceback.extract_tb(link.__traceback__)
        if any(part in Path(frame.filename).parts for frame in frames for part in parts):
            return True
        link = link.__cause__ or link.__context__
    return False


def _warn(message: Warning | str, *_: Any) -> None:
    """Say what a library warns of in one line, once."""
    line = " ".join(str(message).split())
    if line not in _WARNED:
        _WARNED.add(line)
        _tell(f"warning: {line:.500}")


def _tell_usage(error: Any) -> None:
    """What Click found wrong in the command line, or its help where nothing was given."""
    context = getattr(error, "ctx", None)
    lines = error.format_message().splitlines()
    if context is not None and context.get_help().splitlines() == lines:
        for line in lines:
            _tell(line)
        return
    if context is not None:
        _tell(context.get_usage().splitlines()[0])
    _tell(f"jaxtask: {error.format_message()}")


def _tell(line: str) -> None:
    # A terminal that is gone, or a full disk behind it, is no reason to fail once more.
    with suppress(OSError):
        standard_error().print(line, soft_wrap=True)


def _drop_output() -> None:
    """Keep Python from writing what could not be written once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

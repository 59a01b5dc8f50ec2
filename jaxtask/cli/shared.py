"""What several commands have in common: arguments, how they are read, tables, consoles."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import jaxtask as jt
from jaxtask.terminal import print_json, standard_error, standard_output

if TYPE_CHECKING:
    from jaxtask.adapters import AdapterBank

EXIT = """
Exit status: 0 done; 1 bad input (one line on standard error says what); 2 wrong usage;
70 a bug in jaxtask (with a traceback); 130 stopped by Ctrl-C; 143 stopped by SIGTERM.
"""

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Adapters: folders, weight files, folders of adapters, patterns, or Hugging Face "
        "ids ORG/NAME[@REVISION] and ORG/PREFIX*, in the local cache or with --download. NAME=PATH "
        "names a task.",
    ),
]
Directional = Annotated[
    bool,
    typer.Option(
        help="Read B·A alone of adapters that do more than add it (DoRA, PiSSA, …), with a note."
    ),
]
AnyBase = Annotated[
    bool, typer.Option("--allow-base-mismatch", help="Allow adapters of different base models.")
]
SkipUnreadable = Annotated[
    bool,
    typer.Option("--skip-unreadable", help="Skip adapters that cannot be read, with a note."),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download",
        help="Download what the local cache lacks of Hugging Face ids: config and adapter weights.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output instead of tables.")
]
Variables = Annotated[
    str,
    typer.Option(
        help="Comma-separated pair variables to show (such as grassmann_out,cosine), or all."
    ),
]


def load(
    paths: list[str],
    directional: bool,
    allow_base_mismatch: bool,
    skip_unreadable: bool = False,
    download: bool = False,
) -> "AdapterBank":
    """The adapters of a command line."""
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
        skip_unreadable=skip_unreadable,
        download=download,
    )


def show_pooled(ds: Any, variables: str, as_json: bool) -> None:
    """Print the pooled tables of a result, or the same as JSON."""
    from jaxtask.analysis import poolable
    from jaxtask.cli.tables import default_variables, pooled_json, pooled_tables

    chosen = poolable(ds) if variables == "all" else split(variables) or default_variables(ds)
    if as_json:
        print_json(pooled_json(ds, chosen))
        return
    tables = list(pooled_tables(ds, chosen))
    console = standard_output()
    layers, modules = ds.sizes["layer"], ds.sizes["module"]
    console.print(
        f"{ds.sizes['source']} tasks, {layers} layers, {modules} module types, "
        f"{ds.attrs['dtype']}; means over layers, then over module types",
        highlight=False,
    )
    for table in tables:
        console.print(table)


def show_adapter(adapter: dict[str, Any]) -> None:
    """Print what an adapter holds, from an entry of `AdapterBank.describe()["adapters"]`."""
    from jaxtask.cli.tables import adapter_table

    console = standard_output()
    console.print(adapter_table(adapter))
    for item, reason in adapter["excluded"].items():
        console.print(f"  left out: {item} – {reason}")
    notes = adapter["notes"]
    if adapter["approximate"]:
        notes = [*notes, f"approximate: {adapter['approximate']}"]
    for note in notes:
        console.print(f"  note: {note}")


def as_options(text: str, command: Any) -> str:
    """What errors say of arguments (`overwrite=True`), in the words of a command line.

    They are raised by functions that Python calls too, so they name arguments: `name=True`, or
    `name=FILE` for a value. The options are those of `command` and of all below it.
    """
    known: dict[str, str] = {}
    commands = [command]
    for one in commands:
        commands.extend(getattr(one, "commands", {}).values())
        known |= {p.name: p.opts[0] for p in one.params if p.name and p.opts[0].startswith("--")}

    def option(found: re.Match[str]) -> str:
        if found[1] not in known:
            return found[0]
        return known[found[1]] + ("" if found[2] == "True" else f" {found[2]}")

    return re.sub(r"""(?<![\w./'"])(?:[a-z]+\.)?([a-z_]+)=(True|[A-Z]+)\b""", option, text)


def split(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def read_targets(text: str) -> str | list[str]:
    """Names, unless it is the word for all or has what only regular expressions have."""
    if text == "all-linear" or not re.fullmatch(r"[\w.]+(,[\w.]+)*", text):
        return text
    return text.split(",")


def read_bytes(text: str) -> int | None:
    """A number of bytes such as 500MB; None for an empty text."""
    if not text:
        return None
    units = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
    units |= {f"{u}i": 1024**n for n, u in enumerate("kmgt", 1)}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if not found or found[2] not in units:
        raise jt.JaxtaskError(
            f"memory budget {text!r}: expected a number of bytes such as 500MB, 4GiB"
        )
    number = float(found[1]) * units[found[2]]
    if number > 2**62:
        raise jt.JaxtaskError(f"memory budget {text[:100]!r}: no machine has so much")
    return int(number)


@contextmanager
def progress_bar(*, visible: bool = True) -> Iterator[Callable[[int, int], None]]:
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
    with Progress(*columns, console=standard_error(), disable=not visible) as bar:
        task = bar.add_task("", total=None, rate="–")

        def tick(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:,.0f}" if speed else "–")

        yield tick

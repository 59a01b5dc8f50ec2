"""The command that extracts a task vector: arguments in, one call to the library, a table out."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jaxtask.cli.shared import AsJson, read_targets, show_adapter
from jaxtask.terminal import print_json, standard_error, standard_output

_CHECKPOINT = (
    "a folder with safetensors weights, a safetensors file, or an id in the local Hugging Face "
    "cache."
)


def extract(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help=f"Checkpoint before fine-tuning: {_CHECKPOINT}")
    ],
    tuned: Annotated[
        str, typer.Argument(metavar="TUNED", help="Checkpoint after fine-tuning, in the same form.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the adapter, in PEFT's format.")],
    rank: Annotated[int, typer.Option(help="Largest rank to keep per matrix.")] = 64,
    energy: Annotated[
        float | None,
        typer.Option(help="Keep the smallest rank that holds this share of ‖ΔW‖², such as 0.99."),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            show_default="all matrices in layers",
            help="Comma-separated modules, or a regular expression.",
        ),
    ] = None,
    outside_layers: Annotated[
        bool, typer.Option("--outside-layers", help="Include embeddings and heads.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(show_default="TUNED's last part", help="Name of the adapter.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the decomposition.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing adapter.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Extract an adapter from a full fine-tune.

    It is the truncated SVD of ΔW = W_tuned − W_base.
    """
    from jaxtask.adapters import AdapterBank
    from jaxtask.adapters.write import check_free
    from jaxtask.extract import from_checkpoints
    from jaxtask.extract.write import write_difference

    check_free(out, overwrite)
    with _progress() as tick:
        adapter = from_checkpoints(
            base,
            tuned,
            rank=rank,
            energy=energy,
            targets=None if targets is None else read_targets(targets),
            outside_layers=outside_layers,
            name=name,
            seed=seed,
            progress=tick,
        )
    command = shlex.join(["jaxtask", *sys.argv[1:]])
    write_difference(adapter, out, overwrite=overwrite, command=command)
    (described,) = AdapterBank([adapter]).describe()["adapters"]
    if as_json:
        told = {"adapter": str(out), **described, "extracted": adapter.provenance["extracted"]}
        print_json(told)
        return
    show_adapter(described)
    standard_output().print(f"Written: {out} (PEFT format)", soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar of the bytes that are done, on standard error."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("extracting"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=standard_error()) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

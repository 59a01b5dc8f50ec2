"""The command that writes an adapter in another format: arguments in, one call to the library."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import jaxtask as jt
from jaxtask.cli.shared import AsJson, Download, load, show_adapter
from jaxtask.terminal import print_json, standard_output


def export(
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="One adapter, as `jaxtask inspect` takes it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the adapter.")],
    form: Annotated[
        str, typer.Option("--format", help="peft, or mlx (mlx-lm's adapters.safetensors).")
    ] = "peft",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an adapter that jaxtask wrote there.")
    ] = False,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """Convert an adapter to another format.

    Reads every format that `jaxtask inspect` reads, and writes PEFT's or mlx-lm's.
    """
    from jaxtask.adapters import AdapterBank
    from jaxtask.adapters.export import FORMATS
    from jaxtask.adapters.write import check_free

    if form not in FORMATS:
        raise jt.AdapterError(f"--format {form}: expected {' or '.join(FORMATS)}")
    check_free(out, overwrite)
    command = shlex.join(["jaxtask", *sys.argv[1:]])
    bank = load([adapter], directional=False, allow_base_mismatch=False, download=download)
    written = jt.export_adapter(bank, out, format=form, overwrite=overwrite, command=command)
    (described,) = AdapterBank([written]).describe()["adapters"]
    if as_json:
        print_json({"adapter": str(out), **described})
        return
    show_adapter(described)
    standard_output().print(f"Written: {out} ({form} format)", soft_wrap=True)

"""The command that runs an experiment: arguments in, one call to the library."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from jaxtask.errors import ExperimentError
from jaxtask.interrupts import interrupts


def reproduce(
    base: Annotated[
        str,
        typer.Option(help="Base model: a folder, a .gguf file, or an id in the local cache."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    experiment: Annotated[
        str, typer.Argument(help="A YAML file, or the name of a shipped experiment.")
    ] = "talk",
    data: Annotated[Path, typer.Option(help="Folder with the corpora's folders.")] = Path("."),
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Where a corpus of the experiment is."),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0, show_default="the experiment's", help="Random seed; may come several times."
        ),
    ] = None,
    until: Annotated[
        str, typer.Option(help="The last stage: tasks, train, compare or report.")
    ] = "report",
    figures: Annotated[
        str, typer.Option("--format", help="Format of the figures: png, pdf or svg.")
    ] = "png",
) -> None:
    """Run an experiment from tasks to report.

    Builds tasks, trains adapters, compares them and reports, for every seed. If a run is
    interrupted, the same command resumes it: complete stages are not repeated, and training
    continues from its checkpoints. To redo the findings, remove OUT/seed*/numbers.json.
    """
    from jaxtask.cli.shared import standard_error
    from jaxtask.finetune.training.progress import live
    from jaxtask.report.figures import FORMATS
    from jaxtask.reproduce.data import find_folders
    from jaxtask.reproduce.experiment import read_experiment
    from jaxtask.reproduce.run import STAGES, Run
    from jaxtask.reproduce.run import reproduce as run_experiment

    if until not in STAGES:
        raise ExperimentError(f"--until {until!r}: expected one of {', '.join(STAGES)}")
    if figures not in FORMATS:
        raise ExperimentError(f"--format {figures!r}: expected one of {', '.join(FORMATS)}")
    given = read_experiment(experiment)
    if seed:
        given = replace(given, seeds=tuple(dict.fromkeys(seed)))
    interrupts.going_on("the same command resumes it")
    console = standard_error()
    run_experiment(
        Run(
            given,
            base,
            find_folders(given, data, corpus or ()),
            out,
            command=shlex.join(["jaxtask", *sys.argv[1:]]),
            figures=figures,
            display=lambda: live(console),
            say=lambda text: console.print(text, soft_wrap=True),
        ),
        until,
    )

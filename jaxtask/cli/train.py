"""The command that fine-tunes: arguments in, one call to the library, a table or JSON out."""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxtask.cli.shared import read_targets
from jaxtask.errors import RecipeError
from jaxtask.interrupts import interrupts
from jaxtask.terminal import print_json, standard_error, standard_output


def train(
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATA]...", help="Task folders, as `jaxtask tasks` writes them."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Base model: a folder, a .gguf file, or an id in the local cache."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A YAML file, or the name of a shipped recipe. Options override it."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Continue from an adapter, for all tasks, or from a folder with one per task. "
            "They keep their rank, alpha and targets.",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder for the adapters, a folder per task.")
    ] = None,
    work: Annotated[
        str | None, typer.Option(show_default="OUT.work", help="Folder for checkpoints and logs.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            show_default="the base model's",
            help="A folder, a .gguf file, or an id in the local cache.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(show_default="auto", help="Prompt format: auto, plain or chat."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            show_default="bfloat16", help="Precision of the frozen base model: bfloat16 or float32."
        ),
    ] = None,
    r: Annotated[int | None, typer.Option("--r", show_default="8", help="LoRA rank.")] = None,
    alpha: Annotated[
        float | None,
        typer.Option(show_default="16", help="The update is alpha/r · B·A."),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(show_default="0.05", help="Dropout on LoRA's input."),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            show_default="q_proj,v_proj",
            help="Comma-separated modules, all-linear, or a regular expression.",
        ),
    ] = None,
    shared_init: Annotated[
        bool | None,
        typer.Option(
            "--shared-init/--own-init",
            show_default="shared",
            help="All tasks have the same initial A, or each its own.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(show_default="6", help="Epochs over each task's data."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps, instead of epochs.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            "--batch-size",
            show_default="1",
            help="Batch size: rows per task and step.",
        ),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            show_default="1",
            help="Gradient accumulation: batches per step.",
        ),
    ] = None,
    packing: Annotated[
        bool | None,
        typer.Option(
            "--packing/--no-packing",
            show_default="no-packing",
            help="Pack several examples into a row.",
        ),
    ] = None,
    max_len: Annotated[
        int | None,
        typer.Option(show_default="the base model's", help="Longest example, in tokens."),
    ] = None,
    truncate: Annotated[
        bool | None,
        typer.Option(
            "--truncate/--no-truncate",
            show_default="no-truncate",
            help="Cut the documents of longer examples, not their targets; else they are dropped.",
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", "--learning-rate", show_default="4e-05", help="Learning rate."),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            show_default="constant",
            help="Learning rate schedule: constant, linear or cosine.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            show_default="no early stopping",
            help="Early stopping: evaluations of a task without a new best.",
        ),
    ] = None,
    generate: Annotated[
        int | None,
        typer.Option(
            show_default="0",
            help="Dev examples per task to generate text for, before and after training.",
        ),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(show_default="auto", help="Tasks that train at once: auto or N."),
    ] = None,
    mesh: Annotated[
        str | None,
        typer.Option(show_default="one device", help="Device mesh: task=…,data=…,model=…."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            show_default="0",
            help="Random seed for A, the order of the data, and dropout.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other setting, such as training.warmup=0.06."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the newest checkpoint, if there is one.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing adapters and start over.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output instead of a table.")
    ] = False,
) -> None:
    """Fine-tune one LoRA adapter per task.

    Many tasks train at once on one frozen base model.
    """
    from jaxtask.cli.tables import trained_tables
    from jaxtask.finetune.peft_io.provenance import work_folder
    from jaxtask.finetune.recipe.files import read_recipe, read_value
    from jaxtask.finetune.recipe.settings import change, make_recipe
    from jaxtask.finetune.run import fine_tune
    from jaxtask.finetune.training.progress import live

    changes: dict[str, Any] = {
        "base": base,
        "start": start,
        "data": data or None,
        "out": out,
        "work": work,
        "tokenizer": tokenizer,
        "prompt": prompt,
        "dtype": dtype,
        "lora.r": r,
        "lora.alpha": alpha,
        "lora.dropout": dropout,
        "lora.targets": None if targets is None else read_targets(targets),
        "lora.shared_init": shared_init,
        "lora.seed": seed,
        "training.epochs": epochs,
        "training.steps": steps,
        "training.batch": batch,
        "training.accumulate": accumulate,
        "training.packing": packing,
        "training.max_len": max_len,
        "training.truncate": truncate,
        "training.lr": lr,
        "training.schedule": schedule,
        "training.patience": patience,
        "training.generate": generate,
        "training.stack": None if stack is None else read_value(stack),
        "training.mesh": None if mesh is None else _mesh(mesh),
        "training.seed": seed,
    }
    given = {key: value for key, value in changes.items() if value is not None}
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not (key and equals):
            raise RecipeError(f"--set {setting!r:.200}: expected KEY=VALUE")
        given[key] = read_value(text)
    first = read_recipe(recipe) if recipe else make_recipe({"base": base} if base else {}, "train")
    whole = change(first, given, "train")
    if whole.start is not None:
        _check_start(given)
    interrupts.going_on(f"--resume continues from what is saved in {work_folder(whole)}")
    progress = standard_error()
    outcomes = fine_tune(
        whole,
        overwrite=overwrite,
        resume=resume,
        command=shlex.join(["jaxtask", *sys.argv[1:]]),
        display=lambda: live(progress),
        note=lambda text: progress.print(text, soft_wrap=True),
    )
    folder = Path(whole.out or "")
    rows = [outcome.json() | {"adapter": str(folder / outcome.name)} for outcome in outcomes]
    if as_json:
        print_json(rows)
        return
    console = standard_output()
    for table in trained_tables(rows):
        console.print(table)
    if any(row["example"] for row in rows):
        texts = f"All texts: {work_folder(whole)}/group-*/generated.jsonl"
        console.print(texts, soft_wrap=True)
    console.print(f"Written: {whole.out} (PEFT format)", soft_wrap=True)


def _check_start(given: dict[str, Any]) -> None:
    """Refuse options that have no meaning for adapters that are trained further."""
    for key in ("lora.r", "lora.alpha", "lora.targets", "lora.shared_init"):
        if key in given:
            raise RecipeError(
                f"{key} is given, but with --from adapters keep their rank, alpha, targets and A"
            )


def _mesh(text: str) -> dict[str, int]:
    """The sizes of a mesh's axes."""
    pairs = re.fullmatch(r"\w+=\d{1,9}(,\w+=\d{1,9})*", text, re.ASCII)
    if not pairs:
        raise RecipeError(f"--mesh {text!r}: expected AXIS=N,..., such as task=2,data=2")
    return {name: int(size) for name, size in (pair.split("=") for pair in text.split(","))}

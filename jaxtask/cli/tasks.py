"""The commands about tasks: arguments in, calls to the library, tables or JSON out."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxtask.errors import TaskError
from jaxtask.terminal import print_json, standard_output

if TYPE_CHECKING:
    from jaxtask.corpora import Length

app = typer.Typer(
    help="List tasks, and build them from files.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="Name of the task.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output instead of tables.")
]
Corpora = Annotated[
    list[str],
    typer.Option(
        metavar="SPLIT=PATH",
        help="A file or folder for train, dev (also valid, validation or eval) or test; may come "
        "several times.",
    ),
]
Tables = Annotated[
    list[str],
    typer.Option(
        "--corpus",
        metavar="SPLIT=FILE",
        help="A file for train, dev (also valid, validation or eval) or test; one for each.",
    ),
]
MaxLen = Annotated[
    int | None, typer.Option(help="Longest example, in tokens (in words without --tokenizer).")
]
Tokenizer = Annotated[
    str,
    typer.Option(
        help="Tokenizer of the base model: a folder, a .gguf file, or an id in the local cache."
    ),
]
TasksFrom = Annotated[
    list[Path] | None, typer.Option(help="A Python file that registers your own tasks.")
]
Out = Annotated[Path, typer.Option(help="Folder for the task folders.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing tasks.")]


@app.command("list")
def list_tasks(tasks_from: TasksFrom = None, as_json: AsJson = False) -> None:
    """List the tasks."""
    from jaxtask.corpora import TASKS, load_tasks

    for path in tasks_from or ():
        load_tasks(path)
    rows = [
        {"name": t.name, "kind": t.kind, "needs": list(t.needs), "summary": t.summary}
        for t in sorted(TASKS.values(), key=lambda t: t.kind != "text")
    ]
    if as_json:
        print_json(rows)
        return
    from jaxtask.cli.tables import task_table

    standard_output().print(task_table(rows))


@app.command()
def build(
    tasks: Annotated[
        list[str],
        typer.Argument(metavar="TASK...", help="Names of tasks; see `jaxtask tasks list`."),
    ],
    corpus: Corpora,
    out: Out = Path("data"),
    summaries: Annotated[
        Path | None, typer.Option(help="JSON lines with document_id and summary, for `sum`.")
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(
            help="own, or neutral: the same prompt for all tasks, in folders TASK-neutral."
        ),
    ] = "own",
    prefix: Annotated[str, typer.Option(help="Prefix of the folders' names.")] = "",
    max_len: MaxLen = None,
    tokenizer: Tokenizer = "",
    records: Annotated[
        str, typer.Option(help="Version of the hub's records: english_v4 or english_v12.")
    ] = "english_v12",
    tasks_from: TasksFrom = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Build tasks from annotated corpora.

    Writes a folder per task.
    """
    from jaxtask.corpora import build_tasks, load_tasks

    for path in tasks_from or ():
        load_tasks(path)
    built = build_tasks(
        tasks,
        _by_split(corpus),
        out,
        summaries=summaries,
        prompt=prompt,  # type: ignore[arg-type]
        prefix=prefix,
        max_len=max_len,
        length=_length(tokenizer),
        version=records,  # type: ignore[arg-type]
        overwrite=overwrite,
        command=_command(),
    )
    _show(built, as_json)


@app.command()
def table(
    name: Name,
    corpus: Tables,
    out: Out = Path("data"),
    text: Annotated[str, typer.Option(help="Column with the text.")] = "text",
    text_pair: Annotated[str | None, typer.Option(help="Column with the second text.")] = None,
    label: Annotated[str, typer.Option(help="Column with the label.")] = "label",
    labels: Annotated[
        str,
        typer.Option(help="Comma-separated label set; by default the labels of the training file."),
    ] = "",
    kind: Annotated[str, typer.Option(help="classification, regression or auto.")] = "auto",
    max_len: MaxLen = None,
    tokenizer: Tokenizer = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Build a classification or regression task.

    Reads JSON, CSV, TSV or Parquet files.
    """
    from jaxtask.corpora import build_table

    built = build_table(
        name,
        _one_each(corpus),
        out,
        text=text,
        text_pair=text_pair,
        label=label,
        labels=[x.strip() for x in labels.split(",") if x.strip()] or None,
        kind=kind,  # type: ignore[arg-type]
        max_len=max_len,
        length=_length(tokenizer),
        overwrite=overwrite,
        command=_command(),
    )
    _show([built], as_json)


@app.command()
def text(
    name: Name,
    corpus: Tables,
    out: Out = Path("data"),
    prompt: Annotated[str | None, typer.Option(help="Column with the whole prompt.")] = None,
    target: Annotated[str | None, typer.Option(help="Column with the target text.")] = None,
    instruction: Annotated[
        str,
        typer.Option(
            help="Instruction for all rows; the prompt is then the document that it is about."
        ),
    ] = "",
    dev_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the training rows to use as dev, such as 0.1, if there is no dev file."
        ),
    ] = None,
    max_len: MaxLen = None,
    tokenizer: Tokenizer = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Build a task of prompts and targets.

    Reads JSON, CSV, TSV or Parquet files. Without --prompt and --target, rows have messages (of
    role and content), conversations (of from and value), prompt and completion, or instruction,
    perhaps input, and output. Every answer of a conversation is a target, and all before it is its
    prompt.
    """
    from jaxtask.corpora import build_text

    built = build_text(
        name,
        _one_each(corpus),
        out,
        prompt=prompt,
        target=target,
        instruction=instruction,
        dev_share=dev_share,
        max_len=max_len,
        length=_length(tokenizer),
        overwrite=overwrite,
        command=_command(),
    )
    _show([built], as_json)


def _one_each(corpus: list[str]) -> dict[str, str]:
    files = _by_split(corpus)
    if several := next((split for split, paths in files.items() if len(paths) > 1), None):
        raise TaskError(f"{several} has {len(files[several])} files, expected one")
    return {split: path for split, (path,) in files.items()}


def _by_split(corpus: list[str]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for given in corpus:
        split, equals, path = given.partition("=")
        if not (split and equals and path):
            raise TaskError(f"--corpus {given!r}: expected SPLIT=PATH, such as train=corpus.conll")
        splits.setdefault(split, []).append(path)
    return splits


def _length(tokenizer: str) -> "Length":
    from jaxtask.corpora import WORDS

    if not tokenizer:
        return WORDS
    from jaxtask.finetune.data.lengths import length_of
    from jaxtask.finetune.data.tokens import open_tokenizer

    return length_of(open_tokenizer(tokenizer), tokenizer)


def _command() -> str:
    return shlex.join(["jaxtask", *sys.argv[1:]])


def _show(built: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(built)
        return
    from jaxtask.cli.tables import built_table

    standard_output().print(built_table(built))

"""Corpora in, folders of tasks out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from jaxtask.corpora.example import Dropped, Example, Fit, examples
from jaxtask.corpora.files import corpus_files, fingerprint
from jaxtask.corpora.hub import Version
from jaxtask.corpora.length import WORDS, Length
from jaxtask.corpora.read import read_documents, read_summaries, with_summaries
from jaxtask.corpora.tally import Tally, check_not_empty, label_set
from jaxtask.corpora.task_folder import Draft, by_split, check_free, drafts
from jaxtask.corpora.tasks import Task, find_tasks
from jaxtask.errors import TaskError, shown
from jaxtask.names import check_name
from jaxtask.version import __version__

Paths = Mapping[str, Sequence[str | Path]]


def build_tasks(
    names: Sequence[str],
    corpora: Paths,
    out: str | Path,
    *,
    summaries: str | Path | None = None,
    prompt: Literal["own", "neutral"] = "own",
    prefix: str = "",
    max_len: int | None = None,
    length: Length = WORDS,
    version: Version = "english_v12",
    overwrite: bool = False,
    command: str = "",
) -> list[dict[str, Any]]:
    """Build tasks from corpora: a folder for each, with ``train.jsonl`` … and ``task.json``.

    A line has ``instruction``, ``text`` and ``target`` (or ``text`` and ``label``),
    ``document_id``, ``part`` and ``window``, the sentences [first, last) that it was made from.
    Nothing is written unless every task can be built.

    Args:
        names: Tasks, by name.
        corpora: Files and folders for each split: ``train``, and perhaps ``dev`` and ``test``.
        out: Folder for the tasks' folders.
        summaries: JSON lines for the task `sum`.
        prompt: ``own``: every task has its own instruction. ``neutral``: all have the same one, and
            their folders are named ``<task>-neutral``.
        prefix: What the names of the folders begin with, to tell corpora apart.
        max_len: No example is longer; None for any length.
        length: What `max_len` counts: words, or tokens (`tokens_of`).
        version: Which class indices records of the hub hold.
        overwrite: Replace folders of tasks that are there.
        command: Recorded in ``task.json``.

    Returns:
        What every ``task.json`` says.

    Raises:
        CorpusError: A corpus cannot be read.
        TaskError: A task is unknown or has no example in some split, a label is outside its set, a
            document is in two splits, or a folder exists.

    """
    tasks = find_tasks(names)
    splits = by_split(corpora)
    if max_len is not None and max_len < 1:
        raise TaskError(f"max_len is {max_len}, expected at least 1")
    if prompt not in ("own", "neutral"):
        raise TaskError(f"unknown prompt {prompt!r} (known: own, neutral)")
    if prompt == "neutral":
        tasks = tuple(_neutral(t) for t in tasks)
    tasks = tuple(replace(t, name=prefix + t.name) for t in tasks)
    for task in tasks:
        check_name(task.name, "task name", TaskError)
    if summaries is None and any("summary" in t.needs for t in tasks):
        raise TaskError("the task 'sum' needs summaries=FILE")
    check_free(Path(out), [t.name for t in tasks], overwrite)

    fit = Fit(max_len, length, prompt == "neutral")
    known = read_summaries(summaries) if summaries else {}
    tallies = [{split: Tally() for split in splits} for _ in tasks]
    homes: dict[tuple[str, int], str] = {}
    with drafts(Path(out), [t.name for t in tasks]) as folders:
        for split, path in ((split, path) for split, paths in splits.items() for path in paths):
            for document in with_summaries(read_documents(path, version), known):
                key = (document.id, document.part)
                if key in homes:
                    raise TaskError(
                        f"{path}: document {shown(document.id, 80)} part {document.part} was in "
                        f"{homes[key]}"
                    )
                homes[key] = split
                for task, tally, folder in zip(tasks, tallies, folders, strict=True):
                    tally[split].documents += 1
                    _take(examples(task, document, fit), split, tally[split], folder)
        shared = {
            "jaxtask": __version__,
            "command": command,
            "prompt": prompt,
            "max_len": max_len,
            "length": str(length),
            "version": version,
            "corpora": {
                split: [fingerprint(file) for path in paths for file in corpus_files(path)]
                for split, paths in splits.items()
            },
            "summaries": fingerprint(Path(summaries)) if summaries else None,
        }
        built = [_about(t, tally) | shared for t, tally in zip(tasks, tallies, strict=True)]
        for folder, about in zip(folders, built, strict=True):
            folder.finish(about)
    return built


def _take(found: Iterable[Example | Dropped], split: str, tally: Tally, folder: Draft) -> None:
    """Write and count what a document gave."""
    for one in found:
        if isinstance(one, Example):
            tally.add(one.line, one.size, one.cut)
            folder.write(split, one.line)
        else:
            tally.drop(one.reason, one.where)


def _neutral(task: Task) -> Task:
    if task.kind != "text":
        raise TaskError(f"the task {task.name!r} has no prompt, so none that could be neutral")
    return replace(task, name=f"{task.name}-neutral")


def _about(task: Task, tallies: Mapping[str, Tally]) -> dict[str, Any]:
    check_not_empty(task.name, tallies)
    return {
        "task": task.name,
        "kind": task.kind,
        "summary": task.summary,
        "unit": task.unit,
        "labels": None if task.kind == "text" else label_set(task.name, task.labels, tallies),
        "splits": {split: tally.counts() for split, tally in tallies.items()},
    }

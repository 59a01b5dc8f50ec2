"""Corpora in, folders of tasks out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from jaxtask.corpora.example import Example, Fit, examples
from jaxtask.corpora.files import corpus_files, fingerprint
from jaxtask.corpora.hub import Version
from jaxtask.corpora.length import WORDS, Length
from jaxtask.corpora.read import read_documents, read_summaries, with_summaries
from jaxtask.corpora.task_folder import (
    SPLITS,
    TaskFolder,
    check_free,
    check_splits,
    write_folders,
)
from jaxtask.corpora.tasks import Task, find_tasks
from jaxtask.errors import TaskError
from jaxtask.version import __version__

Paths = Mapping[str, Sequence[str | Path]]


def build_tasks(
    names: Sequence[str],
    corpora: Paths,
    out: str | Path,
    *,
    summaries: str | Path | None = None,
    prompt: Literal["own", "neutral"] = "own",
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
    check_splits(corpora)
    if max_len is not None and max_len < 1:
        raise TaskError(f"max_len is {max_len}, expected at least 1")
    if prompt not in ("own", "neutral"):
        raise TaskError(f"unknown prompt {prompt!r} (known: own, neutral)")
    if prompt == "neutral":
        tasks = tuple(_neutral(t) for t in tasks)
    if summaries is None and any("summary" in t.needs for t in tasks):
        raise TaskError("the task 'sum' needs summaries=FILE (--summaries)")
    check_free(Path(out), [t.name for t in tasks], overwrite)

    fit = Fit(max_len, length, prompt == "neutral")
    known = read_summaries(summaries) if summaries else {}
    splits = {split: corpora[split] for split in SPLITS if split in corpora}
    homes: dict[tuple[str, int], str] = {}
    made: dict[str, list[Made]] = {}
    for split, paths in splits.items():
        made[split] = [Made() for _ in tasks]
        for path in paths:
            for document in with_summaries(read_documents(path, version), known):
                home = homes.setdefault((document.id, document.part), split)
                if home != split or made[split][0].has(document.id, document.part):
                    raise TaskError(
                        f"{path}: document {document.id!r} part {document.part} was in {home}"
                    )
                for task, own in zip(tasks, made[split], strict=True):
                    own.add(document.id, document.part, examples(task, document, fit))
    shared = {
        "jaxtask": __version__,
        "command": command,
        "prompt": prompt,
        "max_len": max_len,
        "length": length.unit,
        "version": version,
        "corpora": {
            s: [fingerprint(f) for p in ps for f in corpus_files(p)] for s, ps in splits.items()
        },
        "summaries": fingerprint(Path(summaries)) if summaries else None,
    }
    folders = [
        _folder(task, {split: made[split][n] for split in splits}, shared)
        for n, task in enumerate(tasks)
    ]
    write_folders(Path(out), folders)
    return [dict(folder.about) for folder in folders]


@dataclass
class Made:
    """The examples of one task in one split, and what became of the rest."""

    examples: list[Example] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    documents: set[tuple[str, int]] = field(default_factory=set)

    def has(self, id: str, part: int) -> bool:
        """Whether this part of a document was given before."""
        return (id, part) in self.documents

    def add(self, id: str, part: int, found: Iterable[Any]) -> None:
        """Take what one part of a document gave."""
        self.documents.add((id, part))
        for one in found:
            if isinstance(one, Example):
                self.examples.append(one)
            else:
                self.dropped[one.reason] += 1

    def counts(self) -> dict[str, Any]:
        """Numbers for provenance and tables."""
        sizes = [e.size for e in self.examples]
        return {
            "documents": len(self.documents),
            "examples": len(sizes),
            "cut": sum(e.cut for e in self.examples),
            "length": {"mean": round(fmean(sizes), 1), "max": max(sizes)},
            "dropped": dict(self.dropped.most_common()),
        }


def _neutral(task: Task) -> Task:
    if task.kind != "text":
        raise TaskError(f"the task {task.name!r} has no prompt, so none that could be neutral")
    return replace(task, name=f"{task.name}-neutral")


def _folder(task: Task, made: Mapping[str, Made], shared: Mapping[str, Any]) -> TaskFolder:
    for split, own in made.items():
        if not own.examples:
            reasons = "; ".join(f"{n} dropped: {why}" for why, n in own.dropped.most_common())
            raise TaskError(
                f"task {task.name!r} has no example in {split} "
                f"({len(own.documents)} documents; {reasons or 'none dropped'})"
            )
    lines = {split: [e.line for e in own.examples] for split, own in made.items()}
    about = {
        "task": task.name,
        "kind": task.kind,
        "summary": task.summary,
        "unit": task.unit,
        "labels": None if task.kind == "text" else label_set(task.name, task.labels, lines),
        "splits": {split: own.counts() for split, own in made.items()},
        **shared,
    }
    return TaskFolder(task.name, lines, about)


def label_set(
    name: str, declared: Sequence[str] | None, lines: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[str]:
    """The declared labels, or those of the training examples; every label has to be one of them.

    Raises:
        TaskError: A label is not, or there are fewer than two.

    """
    labels = list(declared or sorted({line["label"] for line in lines["train"]}))
    if len(labels) < 2:
        raise TaskError(f"task {name!r}: a label set of {labels}, expected at least two labels")
    for split, own in lines.items():
        for line in own:
            if line["label"] not in labels:
                raise TaskError(
                    f"task {name!r}, {split}, document {line['document_id']!r}: the label "
                    f"{line['label']!r} is outside the set ({', '.join(labels)})"
                )
    return labels

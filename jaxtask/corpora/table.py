"""Classification and regression tasks from tables of texts and labels, as in GLUE."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtask.corpora.files import fingerprint
from jaxtask.corpora.length import WORDS, Length
from jaxtask.corpora.table_rows import cell, kind_of, table_rows, text_of
from jaxtask.corpora.tally import Tally, check_not_empty, label_set
from jaxtask.corpora.task_folder import by_split, check_free, drafts
from jaxtask.errors import TaskError
from jaxtask.names import check_name
from jaxtask.version import __version__


def build_table(
    name: str,
    files: Mapping[str, str | Path],
    out: str | Path,
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    labels: Sequence[str] | None = None,
    kind: Literal["auto", "classification", "regression"] = "auto",
    max_len: int | None = None,
    length: Length = WORDS,
    overwrite: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Build one task from tables with a text, perhaps a second text, and a label in each row.

    A line has ``text``, ``text_pair`` if there is one, ``label`` (a text for classes, a number for
    regression) and ``document_id``, the file and line that it comes from.

    Args:
        name: Name of the task and of its folder.
        files: A file for each split: JSON lines, or CSV or TSV with a header, by its name. A TSV
            file has no quoting.
        out: Folder for the task's folder.
        text: Name of the column with the text.
        text_pair: Name of the column with the second text, if there is one.
        label: Name of the column with the label.
        labels: The label set; by default the labels of the training file.
        kind: ``auto`` is regression if no label set is given and the training labels are numbers of
            which one at least has a decimal point, else classification.
        max_len: Longer rows are dropped and counted; a row cannot be cut. None for any length.
        length: What `max_len` counts.
        overwrite: Replace a folder that is there.
        command: Recorded in ``task.json``.

    Returns:
        What ``task.json`` says.

    Raises:
        CorpusError: A file cannot be read.
        TaskError: A file lacks a column, a label is missing, outside the set or no number, a split
            is empty, or the folder exists.

    """
    splits = {split: Path(path) for split, path in by_split(files).items()}
    check_name(name, "task name", TaskError)
    if kind not in ("auto", "classification", "regression"):
        raise TaskError(f"unknown kind {kind!r} (known: auto, classification, regression)")
    check_free(Path(out), [name], overwrite)
    columns = _Columns(text, text_pair, label)
    if kind == "auto":
        given = [line["label"] for line in columns.lines(splits["train"])]
        kind = "regression" if not labels and _are_decimals(given) else "classification"
    if kind == "regression" and labels:
        raise TaskError(f"task {name!r}: regression has no label set, found {list(labels)}")
    tallies = {split: Tally() for split in splits}
    with drafts(Path(out), [name]) as (draft,):
        for split, path in splits.items():
            for line in columns.lines(path):
                size = length.count(line["text"]) + length.count(line.get("text_pair", ""))
                size += length.overhead
                tallies[split].documents += 1
                if kind == "regression":
                    line["label"] = _number(line)
                if max_len is not None and size > max_len:
                    tallies[split].dropped[f"longer than {max_len} {length.unit}"] += 1
                else:
                    tallies[split].add(line, size)
                    draft.write(split, line)
        check_not_empty(name, tallies)
        about = {
            "task": name,
            "kind": kind,
            "summary": f"Table with the columns {', '.join(columns.names)}",
            "unit": "row",
            "labels": label_set(name, labels, tallies) if kind == "classification" else None,
            "splits": {split: tally.counts() for split, tally in tallies.items()},
            "jaxtask": __version__,
            "command": command,
            "max_len": max_len,
            "length": str(length),
            "corpora": {split: [fingerprint(path)] for split, path in splits.items()},
        }
        draft.finish(about)
    return about


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table are what."""

    text: str
    text_pair: str | None
    label: str

    @property
    def names(self) -> list[str]:
        return [name for name in (self.text, self.text_pair, self.label) if name]

    def lines(self, path: Path) -> Iterator[dict[str, Any]]:
        """What a task's file has of each row."""
        for place, row in table_rows(path):
            where = f"{path}, {place}"
            values = {column: cell(row, column, where) for column in self.names}
            for column, value in values.items():
                if value is None:
                    raise TaskError(f"{where}: the column {column!r} is empty")
            line: dict[str, Any] = {"text": text_of(values[self.text], self.text, where)}
            if self.text_pair:
                line["text_pair"] = text_of(values[self.text_pair], self.text_pair, where)
            line["label"] = _label(values[self.label], self.label, where)
            yield line | {"document_id": f"{path.name}, {place}", "part": 0, "window": None}


def _label(value: Any, column: str, where: str) -> str:
    """A label as text; a truth value as JSON writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) < 10**18:
        return str(value)
    raise TaskError(
        f"{where}: the column {column!r} holds {kind_of(value)}, expected text or a finite number"
    )


def _are_decimals(labels: Sequence[str]) -> bool:
    """Whether all are numbers, of which one at least has a decimal point."""
    try:
        finite = all(math.isfinite(float(label)) for label in labels)
    except ValueError:
        return False
    return finite and any("." in label for label in labels)


def _number(line: Mapping[str, Any]) -> float:
    try:
        value = float(line["label"])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TaskError(
            f"{line['document_id']}: found the label {line['label']!r}, expected a number"
        )
    return value

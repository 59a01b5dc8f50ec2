"""Classification and regression tasks from tables of texts and labels, as in GLUE."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtask.corpora.files import fingerprint
from jaxtask.corpora.length import WORDS, Length
from jaxtask.corpora.table_rows import cell, kind_of, label_of, table_rows, text_of
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
    regression) and ``document_id``, the file and line that it comes from. Labels are told apart by
    their texts: true is ``true``, and 1, 1.0 and "1" are ``1``. Rows with nothing in a text are
    dropped and counted; each must have a label.

    Args:
        name: Name of the task and of its folder.
        files: A file for each split: JSON (an object per line, or one array), Parquet, or CSV or
            TSV with a header, by its name. A TSV file has no quoting.
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
        given = [line["label"] for line, _ in columns.lines(splits["train"], Tally())]
        kind = "regression" if not labels and _are_decimals(given) else "classification"
    labels = [label_of(one, "labels", "labels") for one in labels or ()]
    if kind == "regression" and labels:
        raise TaskError(f"task {name!r}: regression has no label set, found {list(labels)}")
    tallies = {split: Tally() for split in splits}
    with drafts(Path(out), [name]) as (draft,):
        for split, path in splits.items():
            tally = tallies[split]
            for line, where in columns.lines(path, tally):
                line["label"] = (_score if kind == "regression" else label_of)(
                    line["label"], label, where
                )
                size = length.count(line["text"]) + length.count(line.get("text_pair", ""))
                size += length.overhead
                if max_len is not None and size > max_len:
                    tally.drop(f"longer than {max_len} {length.unit}", line["document_id"])
                else:
                    tally.add(line, size)
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

    def lines(self, path: Path, tally: Tally) -> Iterator[tuple[dict[str, Any], str]]:
        """What a task's file has of each row, with the label as it is, and where the row is."""
        for place, row in table_rows(path):
            where, document = f"{path}, {place}", f"{path.name}, {place}"
            values = {column: cell(row, column, where) for column in self.names}
            tally.documents += 1
            if values[self.label] is None:
                raise TaskError(f"{where}: the column {self.label!r} is empty")
            if empty := next((name for name in values if values[name] is None), None):
                tally.drop(f"nothing in {empty!r}", document)
                continue
            line = {"text": text_of(values[self.text], self.text, where)}
            if self.text_pair:
                line["text_pair"] = text_of(values[self.text_pair], self.text_pair, where)
            line["label"] = values[self.label]
            yield line | {"document_id": document, "part": 0, "window": None}, where


_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Scores are float32 numbers in training.
_LARGEST = 3e38


def _number(value: Any) -> float | None:
    """A finite number that a value is, or writes as JSON or C would."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if whole and abs(value) <= _LARGEST else None


def _are_decimals(labels: Sequence[Any]) -> bool:
    """Whether all are numbers, of which one at least has a decimal point."""
    return all(_number(label) is not None for label in labels) and any(
        isinstance(label, float) or "." in str(label) for label in labels
    )


def _score(value: Any, column: str, where: str) -> float:
    number = _number(value)
    if number is None:
        raise TaskError(
            f"{where}: the column {column!r} holds {kind_of(value)}, expected a finite number"
        )
    return number

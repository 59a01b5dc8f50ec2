"""Classification and regression tasks from tables of texts and labels, as in GLUE."""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from jaxtask.corpora.files import fingerprint, text_lines
from jaxtask.corpora.length import WORDS, Length
from jaxtask.corpora.task_folder import (
    SPLITS,
    TaskFolder,
    check_free,
    check_splits,
    write_folders,
)
from jaxtask.errors import TaskError
from jaxtask.version import __version__

Row = tuple[int, Mapping[str, Any]]


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
    check_splits({split: [path] for split, path in files.items()})
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise TaskError(f"task name {name!r}: expected letters, digits, '-', '_' and '.'")
    check_free(Path(out), [name], overwrite)
    columns = [text, label, *([text_pair] if text_pair else [])]
    splits = {
        split: [_line(Path(files[split]), row, text, text_pair, label, columns) for row in rows]
        for split in SPLITS
        if split in files
        for rows in [list(_rows(Path(files[split])))]
    }
    if kind == "auto":
        given = [line["label"] for line in splits["train"]]
        kind = "regression" if not labels and _are_decimals(given) else "classification"
    known = None
    if kind == "regression":
        if labels:
            raise TaskError(f"task {name!r}: regression has no label set, found {list(labels)}")
        for own in splits.values():
            for line in own:
                line["label"] = _number(line)
    else:
        known = list(labels) if labels else _sorted({line["label"] for line in splits["train"]})
        _check_labels(known, splits)
    counts = {}
    for split, own in splits.items():
        splits[split], counts[split] = _within(own, max_len, length)
        if not splits[split]:
            raise TaskError(f"task {name!r} has no example in {split}: {counts[split]['dropped']}")
    about = {
        "task": name,
        "kind": kind,
        "summary": f"Table with the columns {', '.join(columns)}",
        "unit": "row",
        "labels": known,
        "splits": counts,
        "jaxtask": __version__,
        "command": command,
        "max_len": max_len,
        "length": length.unit,
        "corpora": {split: [fingerprint(Path(files[split]))] for split in splits},
    }
    write_folders(Path(out), [TaskFolder(name, splits, about)])
    return about


def _rows(path: Path) -> Iterator[Row]:
    """(line, row) of a table."""
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        yield from _json_rows(path)
    elif path.name.removesuffix(".gz").endswith((".csv", ".tsv")):
        yield from _separated_rows(path)
    else:
        raise TaskError(f"{path}: expected a name in .jsonl, .csv or .tsv")


def _json_rows(path: Path) -> Iterator[Row]:
    for number, line in text_lines(path):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TaskError(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise TaskError(f"{path}, line {number}: expected an object")
            yield number, row


def _separated_rows(path: Path) -> Iterator[Row]:
    lines = (line.removeprefix("\ufeff") for _, line in text_lines(path))
    if ".tsv" in path.suffixes:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
        for row in reader:
            if len(row) != len(header):
                raise TaskError(
                    f"{path}, line {reader.line_num}: {len(row)} columns, "
                    f"the header has {len(header)}"
                )
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise TaskError(f"{path}, line {reader.line_num}: {error}") from error


def _line(
    path: Path,
    row: Row,
    text: str,
    text_pair: str | None,
    label: str,
    columns: Sequence[str],
) -> dict[str, Any]:
    number, fields = row
    where = f"{path}, line {number}"
    for column in columns:
        if column not in fields:
            raise TaskError(f"{where}: no column {column!r} (there: {', '.join(fields)})")
        if fields[column] is None or not str(fields[column]).strip():
            raise TaskError(f"{where}: the column {column!r} is empty")
    made: dict[str, Any] = {"text": str(fields[text])}
    if text_pair:
        made["text_pair"] = str(fields[text_pair])
    made["label"] = str(fields[label]).strip()
    return made | {"document_id": f"{path.name}, line {number}", "part": 0, "window": None}


def _are_decimals(labels: Sequence[str]) -> bool:
    try:
        return (
            bool(labels)
            and all(math.isfinite(float(x)) for x in labels)
            and any("." in x for x in labels)
        )
    except ValueError:
        return False


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


def _sorted(labels: set[str]) -> list[str]:
    whole = all(re.fullmatch(r"-?\d+", x) for x in labels)
    return sorted(labels, key=int) if whole else sorted(labels)


def _check_labels(known: Sequence[str], splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    if len(known) < 2:
        raise TaskError(f"a label set of {list(known)}, expected at least two labels")
    for own in splits.values():
        for line in own:
            if line["label"] not in known:
                raise TaskError(
                    f"{line['document_id']}: the label {line['label']!r} is outside the set "
                    f"({', '.join(known)})"
                )


def _within(
    lines: Sequence[dict[str, Any]], max_len: int | None, length: Length
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines that are not too long, and numbers for provenance."""
    kept, sizes = [], []
    dropped: Counter[str] = Counter()
    for line in lines:
        size = length.count(line["text"]) + length.count(line.get("text_pair", ""))
        size += length.overhead
        if max_len is not None and size > max_len:
            dropped[f"longer than {max_len} {length.unit}"] += 1
        else:
            kept.append(line)
            sizes.append(size)
    return kept, {
        "examples": len(kept),
        "cut": 0,
        "length": {"mean": round(fmean(sizes), 1), "max": max(sizes)} if sizes else None,
        "dropped": dict(dropped),
    }

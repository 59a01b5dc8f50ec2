"""Rows of tables: JSON, Parquet, CSV and TSV; and texts in them."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxtask.corpora.files import MAX_LINE, check_columns, json_rows, parquet_rows, text_lines
from jaxtask.errors import TaskError
from jaxtask.names import check_path


def table_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(``line N`` or ``row N``, values by column) of a table; its format goes by its name.

    JSON is an object per line, or one array of objects. CSV and TSV have a header; blank lines are
    left out, and TSV has no quoting. Of a row of several lines the first is named.

    Raises:
        CorpusError: The file cannot be read.
        TaskError: A row does not fit, or the name says nothing.

    """
    check_path(path, "table", TaskError)
    name = path.name.removesuffix(".gz")
    if name.endswith((".jsonl", ".json", ".ndjson")):
        yield from json_rows(path, TaskError)
    elif path.name.endswith(".parquet"):
        yield from ((f"row {n}", row) for n, row in parquet_rows(path))
    elif name.endswith(".csv"):
        yield from _with_header(path, _csv(path))
    elif name.endswith(".tsv"):
        lines = text_lines(path)
        yield from _with_header(path, ((n, line.rstrip("\n").split("\t")) for n, line in lines))
    else:
        raise TaskError(f"{path}: expected a name in .jsonl, .json, .csv, .tsv or .parquet")


def cell(row: Mapping[str, Any], column: str, where: str) -> Any:
    """The value in a column, None where there is nothing: null, NaN, or white space only.

    Raises:
        TaskError: The row has no such column.

    """
    if column not in row:
        raise TaskError(f"{where}: no column {column!r} (there: {some(row)})")
    value = row[column]
    nothing = (
        value != value if isinstance(value, float) else isinstance(value, str) and not value.strip()
    )
    return None if nothing else value


def text_of(value: Any, column: str, where: str) -> str:
    """A value that has to be text.

    Raises:
        TaskError: The value is of another type.

    """
    if not isinstance(value, str):
        raise TaskError(f"{where}: the column {column!r} holds {kind_of(value)}, expected text")
    return value


def label_of(value: Any, column: str, where: str) -> str:
    """A label as text: 1, 1.0 and "1" are all ``1``, and true is ``true``.

    Texts stay as they are but for white space around them.

    Raises:
        TaskError: It is something else, or no finite number.

    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value) if value.is_integer() and abs(value) < 2**53 else value)
    if isinstance(value, int) and abs(value) < 10**40:
        return str(value)
    raise TaskError(
        f"{where}: the column {column!r} holds {kind_of(value)}, expected text or a finite number"
    )


def kind_of(value: Any) -> str:
    """What a value is, for messages, such as ``a number (5)`` or ``a list``."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"a truth value ({str(value).lower()})"
        case int() | float():
            return f"a number ({_short(value)})"
        case list():
            return "a list"
        case dict():
            return "an object"
        case str():
            return f"text ({value[:40]!r})"
    return f"a value of type {type(value).__name__}"


def some(names: Iterable[object], most: int = 12) -> str:
    """Names for a message: all of few, the first of many, each cut."""
    shown = [" ".join(str(name)[:40].split()) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def _short(number: float) -> str:
    # Python writes no integer of thousands of digits.
    return f"{number}" if isinstance(number, float) or abs(number) < 10**40 else "a huge integer"


def _csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) of every row."""
    # For the whole process: readers look it up as they go. Lines are bounded already.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    reader = csv.reader((line for _, line in text_lines(path)), strict=True)
    while True:
        begin = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise TaskError(f"{path}, line {begin}: {error}") from error
        if row is None:
            return
        yield begin, row


def _with_header(
    path: Path, rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    header: list[str] = []
    for number, row in rows:
        if not any(cell.strip() for cell in row) and len(row) <= 1:
            continue
        if not header:
            header = [name.strip() for name in row]
            check_columns(header, f"{path}, line {number}", TaskError)
            continue
        if len(row) != len(header):
            raise TaskError(
                f"{path}, line {number}: {len(row)} columns, the header has {len(header)}"
            )
        yield f"line {number}", dict(zip(header, row, strict=True))
    if not header:
        raise TaskError(f"{path}: is empty, expected a header")

"""Rows of tables: JSON lines, CSV and TSV."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxtask.corpora.files import json_lines, text_lines
from jaxtask.errors import TaskError


def table_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line, values by column) of a table; its format goes by its name.

    Raises:
        CorpusError: The file cannot be read.
        TaskError: A row does not fit, or the name says nothing.

    """
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        yield from json_lines(path, TaskError, "line")
    elif name.endswith(".csv"):
        yield from _separated_rows(path, delimiter=",", quoting=csv.QUOTE_MINIMAL, strict=True)
    elif name.endswith(".tsv"):
        yield from _separated_rows(path, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        raise TaskError(f"{path}: expected a name in .jsonl, .csv or .tsv")


def _separated_rows(path: Path, **form: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # A byte-order mark is part of the first line only.
    lines = (line.lstrip("\ufeff") if n == 1 else line for n, line in text_lines(path))
    reader = csv.reader(lines, **form)
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

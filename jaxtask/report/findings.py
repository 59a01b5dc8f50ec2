"""Findings as files: all numbers as JSON and CSV, the talk's table, and what they say in words."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.errors import ResultError
from jaxtask.folders import check_parent, check_replaceable, new_folder
from jaxtask.names import check_name
from jaxtask.report import findings_json
from jaxtask.report.escapes import csv_text
from jaxtask.report.summary import summary
from jaxtask.report.talk import default_pairs, talk_latex, talk_rows, talk_text

if TYPE_CHECKING:
    from jaxtask.analysis.findings import Findings

_PAIR = ("source", "target")
_FILES = (findings_json.FILE, "inclusion.csv", "table.txt", "table.tex", "table.csv", "summary.md")


def write_findings(
    findings: "Findings",
    folder: Path,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    overwrite: bool = False,
    draw: Callable[[Path], object] | None = None,
) -> None:
    """Write a folder of findings, whole or not at all.

    ``findings.json`` has all numbers, and `read_findings` reads it; ``pooled/VARIABLE.csv`` and
    ``inclusion.csv`` have a line for each pair; ``table.txt``, ``.tex`` and ``.csv`` are the talk's
    table; ``summary.md`` says it in words.

    Args:
        findings: What was found.
        folder: Where to; it must not be there yet, or hold findings.
        pairs: Pairs of the talk's table, by number of source and target; see `default_pairs`.
        overwrite: Replace findings that are there.
        draw: Called with the folder in the making, to put figures there.

    Raises:
        ResultError: The folder is there, or cannot be made.

    """
    check_folder(folder, overwrite=overwrite)
    rows = talk_rows(findings, default_pairs(findings) if pairs is None else pairs)
    try:
        with new_folder(folder, ours(folder)) as draft:
            (draft / findings_json.FILE).write_text(
                findings_json.to_text(findings), encoding="utf-8"
            )
            (draft / "pooled").mkdir()
            for name, pooled in findings.pooled.items():
                check_name(name, "variable", ResultError)
                _write_pairs(draft / "pooled" / f"{name}.csv", findings.tasks, _matrices(pooled))
            if findings.inclusion is not None:
                parts = findings.inclusion.parts
                columns = _matrices(findings.inclusion) | {f"part_{n}": x for n, x in parts.items()}
                _write_pairs(draft / "inclusion.csv", findings.tasks, columns)
            (draft / "table.txt").write_text(talk_text(rows), encoding="utf-8")
            (draft / "table.tex").write_text(talk_latex(rows), encoding="utf-8")
            (draft / "table.csv").write_text(
                _csv(list(rows[0]), [row.values() for row in rows]), encoding="utf-8"
            )
            (draft / "summary.md").write_text(summary(findings), encoding="utf-8")
            if draw is not None:
                draw(draft)
    except OSError as error:
        raise ResultError(f"{folder} cannot be written: {error.strerror}") from error


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise a `ResultError` unless findings may be written to `folder`."""
    check_parent(folder, ResultError)
    check_replaceable(
        folder,
        "a folder of findings",
        ResultError,
        ours=ours(folder),
        marks=(findings_json.FILE,),
        overwrite=overwrite,
    )


def ours(folder: Path) -> tuple[str, ...]:
    """What this folder of findings holds that was written here; nothing if it is none."""
    from jaxtask.report.figures import FILES

    if not (folder / findings_json.FILE).is_file():
        return ()
    figures = (*FILES, *(f"figures/{file}" for file in FILES))
    pooled = sorted((folder / "pooled").glob("*.csv"))
    return (*_FILES, *figures, *(f"pooled/{file.name}" for file in pooled if _is_of_pairs(file)))


def _is_of_pairs(file: Path) -> bool:
    """Whether a table is one of those that are written here."""
    head = (",".join(_PAIR) + ",").encode()
    with file.open("rb") as opened:
        return opened.read(len(head)) == head


def _matrices(value: Any) -> dict[str, np.ndarray]:
    """The [T, T] fields of a dataclass."""
    found = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {name: x for name, x in found if isinstance(x, np.ndarray) and x.ndim == 2}


def _write_pairs(path: Path, tasks: Sequence[str], columns: dict[str, np.ndarray]) -> None:
    renamed = {"value" if name == "values" else name: x for name, x in columns.items()}
    rows = (
        [source, target, *(x[i, j] for x in renamed.values())]
        for i, source in enumerate(tasks)
        for j, target in enumerate(tasks)
        if i != j
    )
    path.write_text(_csv([*_PAIR, *renamed], rows), encoding="utf-8")


def _csv(header: Sequence[str], rows: Any) -> str:
    """Comma-separated lines, empty where there is no number; names are text to spreadsheets."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_text(title) for title in header])
    for row in rows:
        writer.writerow([_cell(x) for x in row])
    return text.getvalue()


def _cell(x: Any) -> str:
    if isinstance(x, float | np.floating):
        return f"{x:.9g}" if np.isfinite(x) else ""
    return csv_text(x) if isinstance(x, str) else str(x)

"""The talk's table: L₁, REC and both entropies of chosen ordered pairs, with null means."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from jaxtask.terminal import Terminal, visible

if TYPE_CHECKING:
    from jaxtask.analysis.findings import Findings

COLUMNS = {
    "spectral_l1": ("L1", "$L_1$"),
    "rec": ("REC", r"\textit{REC}"),
    "entropy_source": ("H(S1)", "$H(S_1)$"),
    "entropy_projected": ("H(S2)", "$H(S_2)$"),
}
"""Variables, and their names in text and in LaTeX."""

_TALK = ("sum", "ner", "first10-sent")
_TASKS = 3


def default_pairs(findings: "Findings") -> list[tuple[int, int]]:
    """Both ways between the talk's three tasks where they all are there, else the first three."""
    names = {task.lower(): n for n, task in enumerate(findings.tasks)}
    three = [names[task] for task in _TALK if task in names]
    if len(three) < _TASKS:
        three = list(range(min(_TASKS, len(findings.tasks))))
    return [(i, j) for i in three for j in three if i != j]


def talk_rows(
    findings: "Findings", pairs: Sequence[tuple[int, int]]
) -> list[dict[str, str | float]]:
    """A row per pair: source, target, and for each column the value and ``<column> chance``.

    NaN where a number is not in the result, or has no null mean (H(S1) is the source's alone).
    """
    return [
        {
            "source": findings.tasks[i],
            "target": findings.tasks[j],
            **{
                key: value
                for variable, (title, _) in COLUMNS.items()
                for key, value in _value(findings, variable, title, i, j)
            },
        }
        for i, j in pairs
    ]


def _value(
    findings: "Findings", variable: str, title: str, i: int, j: int
) -> list[tuple[str, float]]:
    pooled = findings.pooled.get(variable)
    value = np.nan if pooled is None else float(pooled.values[i, j])
    if variable == "entropy_source":
        return [(title, value)]
    chance = None if pooled is None else pooled.chance
    return [(title, value), (f"{title} chance", np.nan if chance is None else float(chance[i, j]))]


def talk_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows as a table for the terminal."""
    table = Table(title="Spectral projection of the target on the source", title_justify="left")
    table.add_column("source → target", overflow="fold")
    for title in list(rows[0])[2:]:
        table.add_column(Text(title.replace(" chance", "\nnull mean")), justify="right")
    for row in rows:
        numbers = (talk_cell(x) for x in list(row.values())[2:])
        table.add_row(f"{row['source']} → {row['target']}", *numbers)
    return table


def talk_text(rows: Sequence[dict[str, Any]]) -> str:
    """The table as plain text."""
    out = io.StringIO()
    Terminal(file=out, width=120).print(talk_table(rows))
    return out.getvalue()


def talk_latex(rows: Sequence[dict[str, Any]]) -> str:
    r"""The table in LaTeX (needs ``\usepackage{booktabs}``), null means in brackets."""
    titles = " & ".join(latex for _, latex in COLUMNS.values())
    lines = [r"\begin{tabular}{lrrrr}", r"\toprule", rf"task & {titles} \\", r"\midrule"]
    for row in rows:
        cells = [rf"{_escaped(row['source'])} $\rightarrow$ {_escaped(row['target'])}"]
        for title, _ in COLUMNS.values():
            chance = row.get(f"{title} chance", np.nan)
            beside = f" ({talk_cell(chance)})" if np.isfinite(chance) else ""
            cells.append(talk_cell(row[title]) + beside)
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", "% in brackets: null mean"]
    return "\n".join(lines) + "\n"


def talk_cell(x: float) -> str:
    """A number of the table as people read it."""
    if not np.isfinite(x):
        return "–"
    return f"{x:.3f}" if abs(x) < 1000 else f"{x:.4g}"


def _escaped(text: str) -> str:
    special = {
        **{c: rf"\{c}" for c in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
    return "".join(special.get(c, c) for c in visible(text))

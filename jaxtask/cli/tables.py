"""Tables for the terminal: results (also as JSON), adapters, tasks, and what a comparison takes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from jaxtask.analysis import pool, poolable
from jaxtask.analysis.pooling import FIRST
from jaxtask.terminal import visible

if TYPE_CHECKING:
    import xarray as xr
    from rich.console import Console

    from jaxtask.analysis.findings import Findings

# A matrix of more tasks than this does not fit a terminal: its extreme pairs are listed instead.
_MATRIX_TASKS = 12
# One of more tasks than this has numbers of two decimals, or it would not fit 80 columns.
_WIDE_TASKS = 8
_EXTREMES = 10


def default_variables(ds: "xr.Dataset") -> list[str]:
    """The variables that a table shows if nobody chooses."""
    known = poolable(ds)
    return [name for name in FIRST if name in known] or known[: len(FIRST)]


def pooled_tables(ds: "xr.Dataset", variables: Sequence[str]) -> Iterator[Table]:
    """One table per variable: source × target, or the extreme pairs if there are many tasks."""
    for name in variables:
        pooled = pool(ds, name)
        few = pooled.sizes["source"] <= _MATRIX_TASKS
        yield _matrix(name, pooled) if few else _extremes(name, pooled)


def pooled_json(ds: "xr.Dataset", variables: Sequence[str]) -> dict[str, Any]:
    """The pooled matrices, rows are sources; null where there is no number."""
    return {
        "tasks": [str(t) for t in ds["source"].values],
        "dtype": ds.attrs["dtype"],
        "sizes": {d: ds.sizes[d] for d in ("layer", "module")},
        "pooled": {
            name: [[_json(x) for x in row] for row in pool(ds, name).values] for name in variables
        },
    }


def adapter_table(adapter: dict[str, Any]) -> Table:
    """What one adapter holds, from an entry of `AdapterBank.describe()["adapters"]`."""
    title = f"{adapter['name']}  (base: {adapter['base_model'] or 'unknown'}, {adapter['format']})"
    table = Table(title=title, title_justify="left")
    # A difference of checkpoints has scaling 1; what share of it the factors hold is of more use.
    extracted = any("kept" in module for module in adapter["modules"].values())
    last = "kept" if extracted else "scaling"
    for column in ("module", "layers", "out × in", "rank", "stored as", last):
        table.add_column(column, justify="left" if column == "module" else "right")
    for name, module in adapter["modules"].items():
        table.add_row(
            name,
            _ranges(module["layers"]),
            _each(f"{o} × {i}" for o, i in module["shapes"]),
            _ranges(module["ranks"]),
            _each(module["dtypes"]),
            _shares(module["kept"]) if extracted else _each(f"{s:g}" for s in module["scalings"]),
        )
    return table


def _matrix(name: str, pooled: "xr.DataArray") -> Table:
    # Columns go by number, so that long names do not squeeze the numbers out.
    table = Table(title=_title(name, pooled), title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("source ↓   target →")
    number = _format(pooled.values, 3 if pooled.sizes["target"] <= _WIDE_TASKS else 2)
    for n in range(pooled.sizes["target"]):
        table.add_column(str(n + 1), justify="right", no_wrap=True)
    for n, (task, row) in enumerate(zip(pooled["source"].values, pooled.values, strict=True)):
        table.add_row(f"{n + 1} {task}", *(number(x) for x in row))
    return table


def _extremes(name: str, pooled: "xr.DataArray") -> Table:
    values = pooled.values
    tasks = pooled["source"].values
    mirrored = bool(pooled.attrs.get("symmetric", False))
    keep = np.triu(np.ones_like(values, bool), 1) if mirrored else ~np.eye(len(values), dtype=bool)
    i, j = np.nonzero(keep & np.isfinite(values))
    order = np.argsort(values[i, j], kind="stable")
    chosen = order
    if len(order) > 2 * _EXTREMES:
        chosen = np.concatenate([order[:_EXTREMES], order[-_EXTREMES:]])
    table = Table(title=f"{_title(name, pooled)}: lowest and highest pairs", title_justify="left")
    for column in ("source", "target"):
        table.add_column(column)
    table.add_column(name, justify="right")
    number = _format(values)
    for n, at in enumerate(chosen):
        last_low = n == _EXTREMES - 1 and len(order) > 2 * _EXTREMES
        table.add_row(
            str(tasks[i[at]]),
            str(tasks[j[at]]),
            number(values[i[at], j[at]]),
            end_section=last_low,
        )
    return table


def _title(name: str, pooled: "xr.DataArray") -> str:
    summary = pooled.attrs.get("long_name", "")
    return f"{name}: {summary}" if summary else name


def _format(values: np.ndarray, decimals: int = 3) -> Callable[[float], str]:
    """So many decimals where they say something of the largest value, else three digits."""
    finite = np.abs(values[np.isfinite(values)])
    largest = finite.max(initial=0)
    if largest == 0 or 0.05 <= largest < 10000:
        # Adding zero turns -0.000 into 0.000.
        return lambda x: "–" if math.isnan(x) else f"{round(x, decimals) + 0.0:.{decimals}f}"
    return lambda x: "–" if math.isnan(x) else f"{x:.3g}"


def _json(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def _each(values: Any) -> str:
    return ", ".join(str(v) for v in values)


def _shares(least_and_largest: Sequence[float]) -> str:
    """63.1–70.2%, or one number if both look alike."""
    return "–".join(dict.fromkeys(f"{100 * x:.1f}" for x in least_and_largest)) + "%"


def _ranges(numbers: Sequence[int]) -> str:
    """0–11 for twelve numbers in a row; a dash for none."""
    spans: list[list[int]] = []
    for layer in sorted(numbers):
        if spans and layer == spans[-1][1] + 1:
            spans[-1][1] = layer
        else:
            spans.append([layer, layer])
    text = (str(a) if a == b else f"{a}–{b}" for a, b in spans if b >= 0)
    return ", ".join(text) or "–"


def task_table(tasks: Sequence[Mapping[str, Any]]) -> Table:
    """The known tasks: name, kind, what a document has to carry, what the task is."""
    table = Table()
    for column in ("task", "kind", "needs", "what it is"):
        table.add_column(column, no_wrap=column == "task")
    for task in tasks:
        table.add_row(task["name"], task["kind"], ", ".join(task["needs"]) or "–", task["summary"])
    return table


def built_table(built: Sequence[Mapping[str, Any]]) -> Table:
    """What was built: examples, lengths, and what was dropped and why, for each task and split."""
    table = Table(title=f"Lengths in {built[0]['length']}", title_justify="left")
    for column in ("task", "split", "examples", "cut", "mean length", "longest"):
        right = column not in ("task", "split")
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "task")
    table.add_column("dropped, and why")
    for about in built:
        splits = about["splits"]
        for n, (split, counts) in enumerate(splits.items(), 1):
            reasons = (f"{number}: {why}" for why, number in counts["dropped"].items())
            table.add_row(
                about["task"] if n == 1 else "",
                split,
                f"{counts['examples']:,}",
                f"{counts['cut']:,}",
                f"{counts['length']['mean']:,.1f}",
                f"{counts['length']['max']:,}",
                Text("\n".join(map(visible, reasons)) or "–"),
                end_section=n == len(splits),
            )
    return table


def print_sections(findings: "Findings", console: "Console") -> None:
    """Print what findings say, under their titles."""
    from jaxtask.report.summary import sections

    for title, lines in sections(findings):
        console.print(title, style="bold")
        for line in lines:
            console.print(f"  {line}", soft_wrap=True)


def trained_tables(trained: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Losses of what was trained, and what it says on dev examples where that was asked for."""
    yield _losses_table(trained)
    if any(row["scores"] for row in trained):
        yield _scores_table(trained)
    if any(row["example"] for row in trained):
        yield _texts_table({row["task"]: row["example"] for row in trained if row["example"]})


def _losses_table(trained: Sequence[Mapping[str, Any]]) -> Table:
    """What was trained: examples, steps, and the loss on the evaluation examples before and after.

    Where examples were dropped or cut, of how many; see `EncodedTask.rows`.
    """
    lost = [
        name
        for name in ("dropped", "truncated")
        if any(own[name] for row in trained for own in row.get("rows", {}).values())
    ]
    table = Table()
    losses = ("dev loss before", "last", "best")
    for column in ("task", "examples", *lost, "steps", *losses, "ended"):
        right = column not in ("task", "ended")
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "task")
    for row in trained:
        values = (row["dev_loss"][name] for name in ("before", "last", "best"))
        numbers = ("–" if value is None else f"{value:.4f}" for value in values)
        rows = row.get("rows", {})
        counts = (
            Text("\n".join(f"{own[name]:,} {split}" for split, own in rows.items()) or "–")
            for name in ("used", *lost)
        )
        table.add_row(row["task"], *counts, f"{row['steps']:,}", *numbers, row["ended"])
    return table


_SCORES = {
    "exact": "exact match",
    "rouge_l": "ROUGE-L",
    "token_f1": "token F1",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "pearson": "Pearson",
    "mse": "MSE",
}


def _scores_table(trained: Sequence[Mapping[str, Any]]) -> Table:
    """What models say on dev examples, before training and after; of those that were asked."""
    scored = {row["task"]: row["scores"] for row in trained if row["scores"]}
    names = [name for name in _SCORES if any(name in own["after"] for own in scored.values())]
    table = Table(title="On dev examples, before → after", title_justify="left")
    table.add_column("task", no_wrap=True)
    for column in ("examples", *(_SCORES[name] for name in names)):
        table.add_column(column, justify="right", no_wrap=True)
    for task, own in scored.items():
        cells = (
            " → ".join(_score(own[side][name]) for side in ("before", "after"))
            if name in own["after"]
            else "–"
            for name in names
        )
        table.add_row(task, f"{own['examples']:,}", *cells)
    return table


def _texts_table(examples: Mapping[str, Mapping[str, str]], width: int = 160) -> Table:
    """One generated text a task, cut to `width` characters; of what is asked the end is kept."""
    table = Table(title="One generated example per task", title_justify="left", show_header=False)
    table.add_column("task", no_wrap=True)
    table.add_column("part", no_wrap=True)
    table.add_column("text", overflow="fold")
    for task, own in examples.items():
        asked = "instruction" if own["instruction"] else "text"
        for part in (asked, "target", "before", "after"):
            text = " ".join(own[part].split())
            if len(text) > width:
                end = part == asked
                text = f"…{text[1 - width :]}" if end else f"{text[: width - 1]}…"
            first, last = part == asked, part == "after"
            table.add_row(task if first else "", part, text, end_section=last)
    return table


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def plan_table(plan: dict[str, Any]) -> Table:
    """One row per bucket of modules of one shape, from what `jaxtask compare --dry-run` says."""
    table = Table(title=f"{plan['tasks']} tasks × {plan['modules']} modules", title_justify="left")
    for column in ("out × in, rank", "modules", "tiles", "cells", "read", "GFLOP", "seconds"):
        table.add_column(column, justify="right")
    for bucket in plan["buckets"]:
        table.add_row(
            f"{bucket['d_out']} × {bucket['d_in']}, {bucket['rank']}",
            f"{bucket['modules']:,}",
            f"{bucket['tiles']:,} of {bucket['tasks_per_block']} × {bucket['tasks_per_block']}",
            f"{bucket['cells']:,}",
            size(bucket["bytes_read"]),
            f"{sum(bucket['gigaflops'].values()):,.1f}",
            f"{bucket['seconds']:,.1f}",
        )
    return table


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """All else that is to be said of it."""
    seconds = plan["seconds"]
    lines = [
        f"time: {seconds['in_all']:,.1f} s on {plan['device']} ({seconds['compile']:,.1f} to "
        f"compile, {seconds['check_adapters']:,.1f} to check the adapters, "
        f"{seconds['compare']:,.1f} to compare), from a tile or two of each shape",
        f"{plan['gram_share_of_time']:.0%} of the time to compare are Gram products at the "
        f"{plan['matrix_rate_gigaflops']:,.0f} GFLOP/s that matrix products reach here",
        f"memory: at most {size(plan['bytes_held_at_most'])}, besides compiled code",
    ]
    if plan["known_tasks"]:
        lines.append(f"of these tasks, {plan['known_tasks']} are already compared with each other")
    if plan["out"] is None:
        lines.append("the result stays in memory: " + size(plan["bytes_written_at_most"]))
    else:
        lines.append(
            f"written to {plan['out']}: at most {size(plan['bytes_written_at_most'])} before "
            f"compression, {size(plan['bytes_free_there'] or 0)} are free there"
        )
    return lines


def size(number: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"

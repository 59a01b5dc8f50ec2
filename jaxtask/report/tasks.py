"""Tables of tasks: what there is, what was built from corpora, what was trained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from jaxtask.terminal import visible


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
    table = Table(title="One generated example a task", title_justify="left", show_header=False)
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

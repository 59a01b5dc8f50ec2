"""Tables of tasks: what there is, what was built from corpora, what was trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


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
                "\n".join(reasons) or "–",
                end_section=n == len(splits),
            )
    return table


def trained_table(trained: Sequence[Mapping[str, Any]]) -> Table:
    """What was trained: steps, and the loss on the evaluation examples before and after."""
    table = Table()
    for column in ("task", "steps", "dev loss before", "last", "best", "ended"):
        right = column not in ("task", "ended")
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "task")
    for row in trained:
        losses = (row["dev_loss"][name] for name in ("before", "last", "best"))
        numbers = ("–" if loss is None else f"{loss:.4f}" for loss in losses)
        table.add_row(row["task"], f"{row['steps']:,}", *numbers, row["ended"])
    return table

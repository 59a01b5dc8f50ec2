"""The tasks by name, and how to add one."""

import difflib
import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxtask.corpora.document import Document, Layer
from jaxtask.errors import TaskError

Kind = Literal["text", "classification", "regression"]
Unit = Literal["document", "sentence"]
Function = Callable[[Document], tuple[str, str]]

TASKS: dict[str, "Task"] = {}
"""Every task, by name."""


@dataclass(frozen=True)
class Task:
    """A pure function of one document, and what has to be known to build its examples."""

    name: str
    function: Function
    """``Document → (instruction, target)`` if its kind is text, else ``→ (text, label)``."""
    kind: Kind = "text"
    needs: tuple[Layer, ...] = ()
    """What a document has to carry; one without it is dropped."""
    unit: Unit = "document"
    """What one example is made of. A sentence is given as a document of one sentence."""
    labels: tuple[str, ...] | None = None
    """The label set; for none, the labels of the training examples are taken."""
    summary: str = ""


def task(
    name: str,
    *,
    kind: Literal["text", "classification"] = "text",
    needs: Layer | Sequence[Layer] = (),
    unit: Unit = "document",
    labels: Sequence[str] | None = None,
    summary: str = "",
) -> Callable[[Function], Function]:
    """Register a function as a task: ``@task("shout")`` above a function of one `Document`.

    Args:
        name: Name of the task and of its folder: letters, digits, ``-``, ``_`` and ``.``.
        kind: ``text``: the function returns (instruction, target), and a document with an empty
            target is dropped. ``classification``: it returns (text, label).
        needs: Layers that a document has to carry.
        unit: ``document`` or ``sentence``.
        labels: The label set of a classification task.
        summary: One line for tables; by default the first of the function's docstring.

    Raises:
        TaskError: The name is taken or cannot be a folder's.

    """
    if not name or name[0] == "." or not all(c.isalnum() or c in "-_." for c in name):
        raise TaskError(f"task name {name!r}: expected letters, digits, '-', '_' and '.'")
    if name in TASKS:
        raise TaskError(f"there is a task named {name!r} already")

    def register(function: Function) -> Function:
        line = summary or (function.__doc__ or "").strip().split("\n")[0].replace("`", "")
        layers: tuple[Layer, ...] = (needs,) if isinstance(needs, str) else tuple(needs)
        TASKS[name] = Task(
            name, function, kind, layers, unit, tuple(labels) if labels else None, line
        )
        return function

    return register


def find_tasks(names: Sequence[str]) -> tuple[Task, ...]:
    """The tasks of these names.

    Raises:
        TaskError: A name is unknown or comes twice, or there is none.

    """
    for name in names:
        if name not in TASKS:
            near = difflib.get_close_matches(name, TASKS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TaskError(f"unknown task {name!r:.100}{hint} (known: {', '.join(TASKS)})")
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise TaskError(f"the task {twice!r} is asked for twice")
    if not names:
        raise TaskError(f"no task was asked for (known: {', '.join(TASKS)})")
    return tuple(TASKS[name] for name in names)


def load_tasks(path: str | Path) -> None:
    """Run a Python file that registers tasks of your own.

    Raises:
        TaskError: There is no such file.

    """
    if not Path(path).is_file():
        raise TaskError(f"{path}: no such file of tasks")
    runpy.run_path(str(path))

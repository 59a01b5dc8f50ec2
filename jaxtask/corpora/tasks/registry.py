"""The tasks by name, and how to add one."""

import difflib
import runpy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal, get_args

from jaxtask.corpora.document import LAYERS, Document, Layer
from jaxtask.errors import TaskError, shown
from jaxtask.names import check_name

Kind = Literal["text", "classification", "regression"]
Unit = Literal["document", "sentence"]
Function = Callable[[Document], tuple[str, str]]

TASKS: dict[str, "Task"] = {}
"""Every task, by name."""


@dataclass(frozen=True)
class Task:
    """A pure function of one document, and what has to be known to build its examples.

    Attributes:
        function: ``Document → (instruction, target)`` if its kind is text, else ``→ (text,
            label)``.
        needs: What a document has to carry; one without it is dropped.
        unit: What one example is made of. A sentence is given as a document of one sentence.
        labels: The label set; for none, the labels of the training examples are taken.

    """

    name: str
    function: Function
    kind: Kind = "text"
    needs: tuple[Layer, ...] = ()
    unit: Unit = "document"
    labels: tuple[str, ...] | None = None
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
        name: Name of the task and of its folder; see `check_name`.
        kind: ``text``: the function returns (instruction, target), and a document with an empty
            target is dropped. ``classification``: it returns (text, label).
        needs: Layers that a document has to carry.
        unit: ``document`` or ``sentence``.
        labels: The label set of a classification task.
        summary: One line for tables; by default the first of the function's docstring.

    Raises:
        TaskError: The name is taken or cannot be a folder's, or an argument is none of its kind.

    """
    check_name(name, "task name", TaskError)
    if name in TASKS:
        raise TaskError(f"there is a task named {name!r} already")
    layers: tuple[Layer, ...] = (needs,) if isinstance(needs, str) else tuple(needs)
    for what, given, known in (
        ("kind", kind, ("text", "classification")),
        ("unit", unit, get_args(Unit)),
        *(("needs", layer, tuple(LAYERS)) for layer in layers),
    ):
        if given not in known:
            raise TaskError(
                f"task {name!r}: {what} is {shown(given, 40)}, expected one of {', '.join(known)}"
            )
    if labels is not None and (
        isinstance(labels, str) or not all(isinstance(label, str) for label in labels)
    ):
        raise TaskError(f"task {name!r}: labels is {shown(labels, 80)}, expected a list of texts")

    def register(function: Function) -> Function:
        line = summary or (function.__doc__ or "").strip().split("\n")[0].replace("`", "")
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
            raise TaskError(f"unknown task {shown(name, 100)}{hint} (known: {', '.join(TASKS)})")
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise TaskError(f"the task {twice!r} is given twice")
    if not names:
        raise TaskError(f"no task is given (known: {', '.join(TASKS)})")
    return tuple(TASKS[name] for name in names)


def load_tasks(path: str | Path) -> None:
    """Run a Python file that registers tasks of your own: all of them, or none if it fails.

    Raises:
        TaskError: There is no such file, it is no Python, or it raises; names file and line.

    """
    if not Path(path).is_file():
        raise TaskError(f"{path}: no such file of tasks")
    known = dict(TASKS)
    try:
        runpy.run_path(str(path))
    # What a file of somebody else's raises can be anything.
    except (Exception, SystemExit) as error:
        TASKS.clear()
        TASKS.update(known)
        if isinstance(error, SyntaxError) and error.filename == str(path):
            where = f"{path}, line {error.lineno}" if error.lineno else str(path)
            raise TaskError(f"{where}: is not valid Python: {shown(error.msg)}") from error
        raise TaskError(f"{_place(error, str(path)) or path}: {_said(error)}") from error


@contextmanager
def faults_of(function: Function, where: str) -> Iterator[None]:
    """Stands around a task's function.

    What one of ours raises is a bug of ours and passes.

    Raises:
        TaskError: Somebody's own function raised; names file and line.

    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if str(getattr(function, "__module__", "")).startswith(f"{__package__}."):
            raise
        code: Any = getattr(function, "__code__", None)
        place = _place(error, code.co_filename if code else "")
        raise TaskError(f"{place + ': ' if place else ''}{where}: {_said(error)}") from error


def _place(error: BaseException, file: str) -> str:
    """The last line of a file that an error passed through, as a place; empty if there is none."""
    lines = [n for frame, n in walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f"{file}, line {lines[-1]}" if lines else ""


def _said(error: BaseException) -> str:
    """What an exception is and says, in one line that is not too long."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else f"{text[:299]}…"

"""The progress of a run on the terminal: a bar, tokens per second, time left, a line per task."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


@dataclass(frozen=True)
class TaskView:
    """Where one task is.

    Attributes:
        loss: Recent training loss.
        ended: Why the task has ended, or None.

    """

    name: str
    step: int
    total: int
    loss: float | None = None
    dev_loss: float | None = None
    best: float | None = None
    ended: str = ""


@dataclass(frozen=True)
class View:
    """Where a run is: plain data, as the loop hands it out."""

    step: int
    total: int
    tokens_per_second: float | None
    seconds_left: float | None
    tasks: tuple[TaskView, ...]


Show = Callable[[View], None]


def render(view: View) -> "RenderableType":
    """A view as something that rich prints."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    rate = "–" if view.tokens_per_second is None else f"{view.tokens_per_second:,.0f}"
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(f"step {view.step} of {view.total}"),
        ProgressBar(total=max(view.total, 1), completed=view.step, width=30),
        Text(f"{rate} tokens/s"),
        Text(f"{_clock(view.seconds_left)} left"),
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("task")
    for name in ("step", "loss", "dev loss", "best"):
        table.add_column(name, justify="right")
    table.add_column("")
    for task in view.tasks:
        numbers = (_number(x) for x in (task.loss, task.dev_loss, task.best))
        table.add_row(task.name, f"{task.step}/{task.total}", *numbers, task.ended or "running")
    return Group(head, table)


@contextmanager
def live(console: "Console") -> Iterator[Show]:
    """Show views in place on a terminal; elsewhere only the last one is printed."""
    from rich.live import Live

    try:
        with Live(console=console, refresh_per_second=4) as display:
            yield lambda view: display.update(render(view))
    finally:
        if not console.is_terminal:
            console.print()  # What is printed there does not end its last line.


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"

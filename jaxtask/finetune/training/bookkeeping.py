"""Where each task of a run is: plain data that a checkpoint holds as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jaxtask.errors import RecipeError
from jaxtask.finetune.data.batches import BatchShape, Position, TaskBatches
from jaxtask.finetune.data.examples import EncodedTask
from jaxtask.finetune.recipe.checks import MOST
from jaxtask.finetune.recipe.settings import Recipe

FINISHED, EARLY = "finished", "stopped early"


@dataclass(frozen=True)
class TaskRun:
    """One task's data, and how long it trains.

    Attributes:
        total: Number of steps.
        patience: Evaluations in a row without a new best before it ends; with None it goes to its
            end.

    """

    batches: TaskBatches
    total: int
    patience: int | None = None

    @property
    def name(self) -> str:
        """The task's."""
        return self.batches.name


@dataclass(frozen=True)
class TaskRecord:
    """Where one task is.

    Attributes:
        dev_loss: Loss of the last evaluation.
        best: The least loss of the evaluations, of which the one before training is none.
        waited: Evaluations since the best one.
        ended: Why the task has ended, or None.

    """

    position: Position = field(default_factory=Position)
    steps: int = 0
    dev_loss: float | None = None
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    ended: str = ""

    def stepped(self, run: TaskRun) -> "TaskRecord":
        """After one more step."""
        return replace(
            self, position=run.batches.after(self.position), steps=self.steps + 1
        ).ended_if(self.steps + 1 >= run.total, FINISHED)

    def evaluated(self, run: TaskRun, loss: float) -> "TaskRecord":
        """After an evaluation."""
        if self.steps == 0:
            return replace(self, dev_loss=loss)
        if self.best is None or loss < self.best:
            return replace(self, dev_loss=loss, best=loss, best_step=self.steps, waited=0)
        record = replace(self, dev_loss=loss, waited=self.waited + 1)
        return record.ended_if(run.patience is not None and record.waited >= run.patience, EARLY)

    def ended_if(self, condition: bool, why: str) -> "TaskRecord":
        """Ended, if the condition holds and it has not before."""
        return replace(self, ended=why) if condition and not self.ended else self

    def due(self, every: int | None) -> bool:
        """Whether an evaluation comes after this step: every so many, or at an epoch's end."""
        at = self.position.step == 0 if every is None else self.steps % every == 0
        return self.steps == 0 or at or self.ended == FINISHED

    def json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self) | {"position": list(self.position)}


def read_record(values: dict[str, Any]) -> TaskRecord:
    """The record from its JSON."""
    return TaskRecord(**{**values, "position": Position(*values["position"])})


def batch_shape(recipe: Recipe, pad: int) -> BatchShape:
    """The rows that a recipe asks for, `max_len` included; `pad` is the token of padding."""
    training = recipe.training
    if training.max_len is None:
        raise RecipeError("training.max_len is null: a run needs the number that it stands for")
    return BatchShape(
        rows=training.batch * training.accumulate,
        max_len=training.max_len,
        packing=training.packing,
        pad=pad,
        parts=training.accumulate,
    )


def make_runs(recipe: Recipe, tasks: Sequence[EncodedTask], pad: int) -> list[TaskRun]:
    """The runs of tasks as a recipe wants them.

    Raises:
        RecipeError: A task has patience but nothing to evaluate on, or more steps than are counted.

    """
    runs = []
    for task in tasks:
        training = recipe.for_task(task.name).training
        if training.patience is not None and not task.splits.get("dev"):
            raise RecipeError(
                f"training.patience is {training.patience}, but task {task.name} has no dev "
                "examples to evaluate on"
            )
        shape = batch_shape(recipe, pad)
        batches = TaskBatches(task, shape, training.seed, training.eval_examples)
        total = batches.total_steps(training.epochs, training.steps)
        if total > MOST:
            raise RecipeError(
                f"training.epochs is {training.epochs}, which is {total:,} steps for {task.name}, "
                f"expected at most {MOST:,}"
            )
        runs.append(TaskRun(batches, total, training.patience))
    return runs


def by_kind(recipe: Recipe, tasks: Sequence[EncodedTask]) -> dict[str, list[EncodedTask]]:
    """Tasks that could train at once.

    Raises:
        RecipeError: The recipe has differences for a task that is not there.

    """
    recipe.check_names([task.name for task in tasks])
    kinds: dict[str, list[EncodedTask]] = {}
    for task in tasks:
        kinds.setdefault(task.kind, []).append(task)
    return kinds


def groups(tasks: Sequence[EncodedTask], size: int) -> list[Sequence[EncodedTask]]:
    """Tasks of one kind, `size` at once; the last group may have fewer."""
    return [tasks[i : i + size] for i in range(0, len(tasks), size)]

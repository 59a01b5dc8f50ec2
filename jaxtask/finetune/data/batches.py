"""Batches: a task's own sequence of steps, and T tasks' steps side by side.

What a task sees at a step is a pure function of (seed, task, epoch, step): not of the other tasks,
nor of how many there are. So a stacked run trains each task as a solo run does, and a resumed run
continues with exactly the batches that an uninterrupted one sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from jaxtask.errors import RecipeError
from jaxtask.finetune.data.batch_type import Batch
from jaxtask.finetune.data.examples import EncodedTask, Example
from jaxtask.finetune.data.packing import rows_of, shuffled

SHORTEST = 32
"""Places of the shortest row."""

Row = tuple[Example, ...]


class Position(NamedTuple):
    """Where a task is in its data: what comes next is this step of this epoch."""

    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class BatchShape:
    """How rows are filled.

    Attributes:
        rows: What one step takes of a task, accumulation included.
        pad: The token of padding.
        parts: How many equal parts a step is cut into, to need less memory.

    """

    rows: int
    max_len: int
    packing: bool = False
    pad: int = 0
    parts: int = 1

    @property
    def part(self) -> "BatchShape":
        """The shape of one part, which is what an evaluation takes at once."""
        return replace(self, rows=self.rows // self.parts, parts=1)


class TaskBatches:
    """The steps of one task.

    Raises:
        RecipeError: Labelled examples are to be packed.

    """

    def __init__(
        self,
        task: EncodedTask,
        shape: BatchShape,
        seed: int = 0,
        eval_examples: int | None = None,
    ) -> None:
        if shape.packing and task.kind != "text":
            raise RecipeError(
                f"training.packing is True, but task {task.name} is a {task.kind}: its rows have "
                "one label, so they hold one example"
            )
        self.name, self.kind, self.shape, self.seed = task.name, task.kind, shape, seed
        self._examples, self._eval_examples = task.splits, eval_examples
        self._lengths = {k: [len(e.tokens) for e in v] for k, v in task.splits.items()}
        self._epoch: tuple[int, list[Row]] = (-1, [])

    def steps(self, epoch: int) -> int:
        """How many steps an epoch has; the last one may be short of rows."""
        if not self.shape.packing:
            return -(-len(self._examples["train"]) // self.shape.rows)
        return -(-len(self._rows(epoch)) // self.shape.rows)

    def total_steps(self, epochs: int | None, steps: int | None) -> int:
        """How many steps a run of so many epochs, or else of so many steps, has."""
        if steps is not None:
            return steps
        return sum(self.steps(epoch) for epoch in range(epochs or 0))

    def step(self, position: Position) -> list[Row]:
        """The rows of one step."""
        first = position.step * self.shape.rows
        return self._rows(position.epoch)[first : first + self.shape.rows]

    def after(self, position: Position) -> Position:
        """The position after a step: in the same epoch, or at the start of the next."""
        if position.step + 1 < self.steps(position.epoch):
            return Position(position.epoch, position.step + 1)
        return Position(position.epoch + 1, 0)

    def longest(self) -> Row:
        """The longest row of the first epoch."""
        return max(self._rows(0), key=row_length)

    def evaluation(self, split: str = "dev") -> list[list[Row]]:
        """The rows of evaluation steps: all examples of a split, or `eval_examples` of them.

        In their own order; packed where training is.
        """
        order = sample(len(self._lengths.get(split, ())), self._eval_examples, self.name)
        rows, size = self._filled(split, order), self.shape.part.rows
        return [rows[i : i + size] for i in range(0, len(rows), size)]

    def _rows(self, epoch: int) -> list[Row]:
        if self._epoch[0] != epoch:
            order = shuffled(len(self._lengths["train"]), self.seed, self.name, epoch)
            self._epoch = epoch, self._filled("train", order)
        return self._epoch[1]

    def _filled(self, split: str, order: np.ndarray) -> list[Row]:
        examples, shape = self._examples[split], self.shape
        rows = rows_of(self._lengths[split], order, shape.max_len, shape.packing)
        return [tuple(examples[place] for place in row) for row in rows]


def sample(count: int, most: int | None, name: str) -> np.ndarray:
    """At most so many of `count` places, in order: the same for a task whatever the run's seed."""
    return np.sort(shuffled(count, "evaluation", name)[:most])


def stack(steps: Sequence[Sequence[Row]], shape: BatchShape, kind: str) -> Batch:
    """One step of T tasks as arrays.

    Args:
        steps: Each task's rows; a task that has none (it has ended) gets zeros throughout.
        shape: Common to all tasks.
        kind: Kind of all tasks: ``text``, ``classification`` or ``regression``.

    Returns:
        A batch of NumPy arrays. S is the shortest of a few lengths that holds the longest row:
        powers of two from `SHORTEST` on, and `max_len`. So few shapes are ever compiled.

    """
    longest = max((row_length(row) for rows in steps for row in rows), default=0)
    size = len(steps), shape.rows, padded_length(longest, shape.max_len)
    tokens = np.full(size, shape.pad, np.int32)
    positions, segments = np.zeros(size, np.int32), np.zeros(size, np.int32)
    weights = np.zeros(size, np.float32)
    types = np.zeros(size, np.int32)
    labels = np.zeros(size[:2], np.int32 if kind == "classification" else np.float32)
    for t, rows in enumerate(steps):
        for b, row in enumerate(rows):
            start = 0
            for n, example in enumerate(row, 1):
                end = start + len(example.tokens)
                tokens[t, b, start:end] = example.tokens
                positions[t, b, start:end] = np.arange(end - start)
                segments[t, b, start:end] = n
                if kind == "text":
                    # The first token of a segment has nothing to be predicted from.
                    weights[t, b, start + max(example.prompt, 1) : end] = 1
                else:
                    weights[t, b, 0], labels[t, b] = 1, example.line.label
                    types[t, b, start:end] = example.types
                start = end
    # NumPy's arrays where JAX's are declared: jitted functions take both.
    arrays: list[Any] = [tokens, positions, segments, weights]
    if kind != "text":
        arrays += [labels, types]
    return Batch(*arrays)


def stack_prompts(
    examples: Sequence[Sequence[Example]], shape: BatchShape
) -> tuple[np.ndarray, np.ndarray]:
    """T tasks' prompts, to generate from.

    Returns:
        tokens [T, B, S] int32, filled from the left, and lengths [T, B] int32, with B the most
        examples that a task has; a row that is none has length 0. S is as in `stack`.

    """
    rows = max(map(len, examples), default=0)
    lengths = np.zeros((len(examples), rows), np.int32)
    for t, own in enumerate(examples):
        lengths[t, : len(own)] = [example.prompt for example in own]
    width = padded_length(int(lengths.max(initial=0)), shape.max_len)
    tokens = np.full((*lengths.shape, width), shape.pad, np.int32)
    for t, own in enumerate(examples):
        for b, example in enumerate(own):
            tokens[t, b, : example.prompt] = example.tokens[: example.prompt]
    return tokens, lengths


def padded_length(longest: int, max_len: int) -> int:
    """The places of a row that holds `longest` tokens."""
    length = SHORTEST
    while length < longest:
        length *= 2
    return min(length, max_len)


def row_length(row: Row) -> int:
    """Its tokens."""
    return sum(len(example.tokens) for example in row)

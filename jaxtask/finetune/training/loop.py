"""The training loop: batches, steps, evaluations, logs, checkpoints, and resuming from one.

The loop knows nothing of models. What it is given are pure functions over a state that it only
hands on; what it keeps is where each task is. Files go to a work folder that is not the adapters':
``checkpoints/`` and ``metrics.jsonl``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from jaxtask.errors import CheckpointError, TrainingError
from jaxtask.finetune.data.batch_type import Batch
from jaxtask.finetune.data.batches import Row, stack
from jaxtask.finetune.evaluation.scores import Scored
from jaxtask.finetune.training.bookkeeping import TaskRecord, TaskRun, read_record
from jaxtask.finetune.training.checkpoint import Checkpoints
from jaxtask.finetune.training.log import MetricsLog
from jaxtask.finetune.training.parameters import Tree
from jaxtask.finetune.training.progress import Show, TaskView, View
from jaxtask.finetune.training.stop import StopOnSignal

# Of an identity: how many differences are told, and what may be behind those that say little.
_MOST = 5
_HINTS = {
    "encoded examples": "Examples are other tokens if the tokenizer, the chat template (which may "
    "write a date) or the data changed.",
    "base model": "The base model's files have changed.",
}


class Report(Protocol):
    """What a step says of each task, a named tuple of [T] arrays. `loss` is among them."""

    def _asdict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Functions:
    """Training itself. A state is any tree of arrays; one that was given to a step is gone.

    Attributes:
        init: The state at the start.
        train_step: (state, batch, active [T] bool) → state and report. Of a task that is not
            active, nothing changes.
        eval_step: (state, batch) → the summed loss and its weight, [T] each.
        adapter: (state, task) → the task's parameters.

    """

    init: Callable[[], Any]
    train_step: Callable[[Any, Batch, np.ndarray], tuple[Any, Report]]
    eval_step: Callable[[Any, Batch], tuple[Any, Any]]
    adapter: Callable[[Any, int], Tree]


@dataclass(frozen=True)
class LoopOptions:
    """How often what happens, in steps.

    Attributes:
        eval_every: None: at the end of each epoch of a task.
        log_every: How often the numbers of the steps are fetched and shown. All of them are logged.

    """

    eval_every: int | None = None
    checkpoint_every: int = 100
    log_every: int = 10


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one task.

    Attributes:
        parameters: The best ones if it had patience, else the last.
        loss_before: Loss on the evaluation examples before training.
        scored: What it says on dev examples, where that was asked for; the loop itself does not.
        rows: Rows of each split, see `EncodedTask.rows`.

    """

    name: str
    parameters: Tree
    record: TaskRecord
    loss_before: float | None
    scored: Scored | None = None
    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """All but the parameters, JSON-able; of generated texts the first."""
        texts = self.scored.texts if self.scored else ()
        return {
            "task": self.name,
            "rows": {split: dict(counts) for split, counts in self.rows.items()},
            "steps": self.record.steps,
            "ended": self.record.ended,
            "dev_loss": {
                "before": self.loss_before,
                "last": self.record.dev_loss,
                "best": self.record.best,
            },
            "scores": self.scored and self.scored.json(),
            "example": asdict(texts[0]) if texts else None,
        }


def train(
    functions: Functions,
    runs: Sequence[TaskRun],
    options: LoopOptions,
    work: Path,
    identity: Mapping[str, Any],
    show: Show = lambda view: None,
) -> list[Outcome]:
    """Train T tasks at once, from the start or from the newest checkpoint in `work`.

    A run that was killed and resumed sees the same batches, and ends with the same adapters bit for
    bit, as one that was not. On SIGTERM or Ctrl-C, the step is finished (an evaluation is left for
    later), everything is saved, and what the signal asks for is done: by default the process ends
    with status 143 on SIGTERM, and KeyboardInterrupt is raised on Ctrl-C.

    Args:
        functions: See `Functions`.
        runs: The tasks; all of one kind, with rows of one shape.
        options: See `LoopOptions`.
        work: Folder for checkpoints and the log, of this run only.
        identity: JSON-able; what the run depends on. A checkpoint with another one is refused.
        show: Called with the progress of the run.

    Raises:
        CheckpointError: A checkpoint cannot be written, read, or is another run's.
        TrainingError: The tasks cannot be stacked, or a loss is not finite.

    """
    kinds = {(run.batches.kind, run.batches.shape) for run in runs}
    if len(kinds) != 1:
        names = ", ".join(run.name for run in runs)
        raise TrainingError(f"tasks of several kinds or shapes cannot train at once: {names}")
    with Checkpoints(work / "checkpoints") as checkpoints, StopOnSignal() as stop:
        loop = _Loop(functions, runs, options, checkpoints, identity, show)
        after = loop.step if loop.resumed else None
        with MetricsLog(work / "metrics.jsonl", after, loop.owed) as log:
            loop.run(log, stop)
    return loop.outcomes()


class _Loop:
    """A run on its way."""

    def __init__(
        self,
        functions: Functions,
        runs: Sequence[TaskRun],
        options: LoopOptions,
        checkpoints: Checkpoints,
        identity: Mapping[str, Any],
        show: Show,
    ) -> None:
        self.functions, self.runs, self.options = functions, runs, options
        self.checkpoints, self.identity, self.show = checkpoints, identity, show
        self.kind, self.shape = runs[0].batches.kind, runs[0].batches.shape
        self.step = 0
        self.records = [TaskRecord() for _ in runs]
        self.before: list[float | None] = [None for _ in runs]
        self.losses: list[float | None] = [None for _ in runs]
        self.state = functions.init()
        self.owed = False
        """A signal came before the evaluation after this step."""
        # Of every task with patience from the start, so that a checkpoint's form never changes.
        self.best = {
            run.name: functions.adapter(self.state, t)
            for t, run in enumerate(runs)
            if run.patience is not None
        }
        self.resumed = checkpoints.latest() is not None
        if self.resumed:
            self._restore()
        self.pending: list[tuple[int, list[bool], Any]] = []
        self.tokens, self.speed = 0, _Speed()

    def run(self, log: MetricsLog, stop: StopOnSignal) -> None:
        """Until every task has ended."""
        log.write(
            "resume" if self.resumed else "start", self.step, tasks=[r.name for r in self.runs]
        )
        if not self.resumed:
            self._evaluate(log, stop)
            if self.owed:
                stop.leave("before the first step, so nothing is saved")
            self.before = [record.dev_loss for record in self.records]
        self._show()
        if self.owed:
            self._finish_step(log, stop)
        while not self._done():
            self._train_step()
            self._finish_step(log, stop)

    def outcomes(self) -> list[Outcome]:
        """What became of the tasks."""
        found = []
        for t, (run, record) in enumerate(zip(self.runs, self.records, strict=True)):
            own = self.best[run.name] if record.best is not None and run.name in self.best else None
            parameters = self.functions.adapter(self.state, t) if own is None else own
            found.append(Outcome(run.name, parameters, record, self.before[t]))
        return found

    def _done(self) -> bool:
        return all(record.ended for record in self.records)

    def _train_step(self) -> None:
        """One step of every task that has not ended."""
        active = [not record.ended for record in self.records]
        rows: list[list[Row]] = [
            run.batches.step(record.position) if on else []
            for run, record, on in zip(self.runs, self.records, active, strict=True)
        ]
        batch = stack(rows, self.shape, self.kind)
        self.state, report = self.functions.train_step(self.state, batch, np.array(active))
        self.step += 1
        self.tokens += int(np.count_nonzero(batch.segments))
        # The numbers are fetched later, so that the device need not wait for this program.
        self.pending.append((self.step, active, report))
        self.records = [
            record.stepped(run) if on else record
            for run, record, on in zip(self.runs, self.records, active, strict=True)
        ]

    def _finish_step(self, log: MetricsLog, stop: StopOnSignal) -> None:
        """What comes after a step: evaluations, the log, a checkpoint, and the end if asked for."""
        self._evaluate(log, stop)
        if self.step % self.options.log_every == 0 or self._done() or stop.asked:
            self._flush(log)
        for t, record in enumerate(self.records):
            if record.ended and record.steps == self.step and not self.owed:
                log.write("end", self.step, task=self.runs[t].name, why=record.ended)
        if self.step % self.options.checkpoint_every == 0 or self._done() or stop.asked:
            self._flush(log)
            self._save()
        if stop.asked:
            last = max(run.total for run in self.runs)
            stop.leave(
                f"after step {self.step} of {last}, which is saved in {self.checkpoints.folder}; "
                "--resume (resume=True) continues from there"
            )

    def _evaluate(self, log: MetricsLog, stop: StopOnSignal) -> None:
        """The loss on the evaluation examples of the tasks for which it is time.

        It is owed if a signal comes before it is known: nobody waits for it then.
        """
        self.owed = False
        due = [
            record.steps == self.step and record.due(self.options.eval_every)
            for record in self.records
        ]
        steps = [
            run.batches.evaluation() if now else [] for run, now in zip(self.runs, due, strict=True)
        ]
        if not any(steps):
            return
        # Training comes first: its losses belong before this in the log, and must be finite.
        self._flush(log)
        sums: list[Any] = []
        for n in range(max(map(len, steps))):
            jax.block_until_ready(
                sums[-2:-1]
            )  # else all would be under way before a signal is seen
            if stop.asked:
                self.owed = True
                return
            rows = [own[n] if n < len(own) else [] for own in steps]
            batch = stack(rows, self.shape.part, self.kind)
            sums.append(self.functions.eval_step(self.state, batch))
        loss, weight = np.sum(np.asarray(jax.device_get(sums), np.float64), axis=0)
        found = {}
        for t, run in enumerate(self.runs):
            if steps[t]:
                found[run.name] = value = self._finite(
                    t, loss[t] / weight[t], "the dev loss", self.step
                )
                best = self.records[t].best
                self.records[t] = self.records[t].evaluated(run, value)
                if run.name in self.best and self.records[t].best != best:
                    self.best[run.name] = self.functions.adapter(self.state, t)
        log.write("eval", self.step, loss=found)
        self._show()

    def _flush(self, log: MetricsLog) -> None:
        """Fetch and log the numbers of the steps since the last time."""
        for step, active, report in self.pending:
            numbers = {k: np.asarray(v, np.float64) for k, v in report._asdict().items()}
            shown: dict[str, dict[str, float]] = {}
            for name, values in numbers.items():
                for t, run in enumerate(self.runs):
                    if active[t]:
                        value = self._finite(t, values[t], f"{name} of step {step}", step - 1)
                        shown.setdefault(name, {})[run.name] = value
            for t, run in enumerate(self.runs):
                self.losses[t] = shown["loss"].get(run.name, self.losses[t])
            log.write("train", step, **shown)
        if self.pending:
            self.speed.add(len(self.pending), self.tokens)
            self.pending, self.tokens = [], 0
            self._show()

    def _finite(self, task: int, value: float, what: str, updates: int) -> float:
        if not math.isfinite(value):
            if updates == 0:
                raise TrainingError(
                    f"task {self.runs[task].name}: {what} is {value} before the first update, "
                    "expected a finite number: the base model (its weights, or their dtype) or the "
                    "adapter that is trained further gives no finite scores for these examples"
                )
            kept = self.checkpoints.latest()
            where = "there is no checkpoint" if kept is None else f"the last checkpoint is {kept}"
            raise TrainingError(
                f"task {self.runs[task].name}: {what} is {value} after {self.step} steps, expected "
                f"a finite number; a lower learning rate may help ({where})"
            )
        return float(value)

    def _show(self) -> None:
        tasks = tuple(
            TaskView(r.name, d.steps, r.total, loss, d.dev_loss, d.best, d.ended)
            for r, d, loss in zip(self.runs, self.records, self.losses, strict=True)
        )
        left = max((v.total - v.step for v in tasks if not v.ended), default=0)
        rate = self.speed
        seconds = None if rate.step is None else left * rate.step
        self.show(View(self.step, self.step + left, rate.tokens, seconds, tasks))

    def _save(self) -> None:
        record = {
            "step": self.step,
            "identity": dict(self.identity),
            "tasks": {r.name: d.json() for r, d in zip(self.runs, self.records, strict=True)},
            "before": self.before,
            "owed": self.owed,
        }
        self.checkpoints.save(self.step, {"state": self.state, "best": self.best}, record)

    def _restore(self) -> None:
        # Arrays of another run need not even have these shapes, so the record comes first.
        record = self.checkpoints.record()
        names = [run.name for run in self.runs]
        # Through JSON, as what was saved: tuples are lists there.
        now = json.loads(json.dumps({**self.identity, "tasks": names}))
        before = {**record["identity"], "tasks": list(record["tasks"])}
        if unknown := [key for key in now if key not in before]:
            raise CheckpointError(
                f"{self.checkpoints.folder}: the checkpoint does not record its run's "
                f"{' and '.join(unknown)}, so an older jaxtask made it, and whether it belongs to "
                "this run cannot be known. Finish that run with the version that began it, or "
                "start over with overwrite=True"
            )
        if different := _differences(before, now):
            more = f"; and {len(different) - _MOST} more" if len(different) > _MOST else ""
            hints = "".join(f" {_HINTS[key]}" for key in _HINTS if before.get(key) != now.get(key))
            raise CheckpointError(
                f"{self.checkpoints.folder}: is the checkpoint of another run: "
                f"{'; '.join(different[:_MOST])}{more}.{hints} Give another work folder, or remove "
                "this one"
            )
        arrays = self.checkpoints.arrays({"state": self.state, "best": self.best})
        self.state, self.best = arrays["state"], arrays["best"]
        self.step, self.before = record["step"], record["before"]
        self.owed = record.get("owed", False)
        self.records = [read_record(record["tasks"][name]) for name in names]


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """What differs between two JSON values, by dotted keys."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for name in {**old, **new}
            for line in _differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
        ]
    return [] if old == new else [f"{key} was {old!r} and is {new!r}"]


class _Speed:
    """Steps and tokens per second, over the last few measurements."""

    def __init__(self) -> None:
        self.step: float | None = None  # seconds
        self.tokens: float | None = None  # a second
        self._last = time.monotonic()

    def add(self, steps: int, tokens: int) -> None:
        """So many more since the last time."""
        now = time.monotonic()
        passed, self._last = max(now - self._last, 1e-9), now
        self.step = _blend(self.step, passed / steps)
        self.tokens = _blend(self.tokens, tokens / passed)


def _blend(old: float | None, new: float) -> float:
    """The first includes compilation, so it is forgotten soon."""
    return new if old is None else 0.5 * old + 0.5 * new

"""One base model on the device, and the training of any number of tasks on it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtask.finetune.data.batches import row_length, stack
from jaxtask.finetune.data.examples import EncodedTask
from jaxtask.finetune.data.tokens import Tokens
from jaxtask.finetune.evaluation.evaluate import evaluate_labels, evaluate_texts, write_texts
from jaxtask.finetune.evaluation.scores import Scored
from jaxtask.finetune.models.config import EncoderConfig, ModelConfig
from jaxtask.finetune.models.decoder import Decoder
from jaxtask.finetune.models.encoder import Encoder, head_shapes
from jaxtask.finetune.models.load import Model, load_model
from jaxtask.finetune.peft_io.provenance import identity, provenance
from jaxtask.finetune.peft_io.write import AdapterForm, write_adapter
from jaxtask.finetune.recipe.settings import Recipe
from jaxtask.finetune.training.bookkeeping import TaskRun, make_runs
from jaxtask.finetune.training.contents import base_contents
from jaxtask.finetune.training.loop import Functions, LoopOptions, Outcome, train
from jaxtask.finetune.training.lora import ranks, scales, task_seeds
from jaxtask.finetune.training.memory import free_bytes, largest_stack, step_bytes
from jaxtask.finetune.training.mesh import make_mesh
from jaxtask.finetune.training.parameters import stack_tasks, take_task
from jaxtask.finetune.training.progress import Show
from jaxtask.finetune.training.schedule import KINDS, Schedule
from jaxtask.finetune.training.start import Start, initial
from jaxtask.finetune.training.step import (
    StepOptions,
    TaskNumbers,
    TrainState,
    init_state,
    make_eval_step,
    make_predict,
    make_train_step,
    task_numbers,
)

Display = Callable[[], AbstractContextManager[Show]]


class Session:
    """A base model on the device, and the programs that train tasks on it."""

    def __init__(
        self, recipe: Recipe, base: Path, tokens: Tokens, starts: Mapping[str, Start]
    ) -> None:
        self.recipe, self.tokens, self.starts = recipe, tokens, starts
        self.mesh = make_mesh(**recipe.training.mesh) if recipe.training.mesh else None
        self.model: Model = load_model(base, recipe.dtype, self.mesh)  # type: ignore[arg-type]
        self._base = base_contents(base)
        # One of each kind, so that stacks of one shape share a compiled program.
        self._steps: dict[str, tuple[Any, Any]] = {}
        self._predict = make_predict(self.model) if isinstance(self.model, Encoder) else None

    def train(self, tasks: Sequence[EncodedTask], work: Path, display: Display) -> list[Outcome]:
        """Train tasks of one kind at once, and see what they say."""
        recipe, starts, runs = self.recipe, self._starts(tasks), self._runs(tasks)
        numbers = numbers_of(recipe, runs, starts, self.model.config)
        step, evaluate = self._programs(tasks[0].kind)
        functions = Functions(
            lambda: self._state(starts),
            lambda state, batch, active: step(state, numbers, batch, active),
            lambda state, batch: evaluate(state.parameters, numbers, batch),
            lambda state, task: take_task(state.parameters, task),
        )
        t = recipe.training
        options = LoopOptions(t.eval_every, t.checkpoint_every, t.log_every)
        with display() as show:
            own = identity(recipe, tasks, self.starts, self._base)
            outcomes = train(functions, runs, options, work, own, show)
        found = self._evaluate(tasks, runs, starts, outcomes, numbers)
        texts = {o.name: s for o, s in zip(outcomes, found, strict=True) if s and s.texts}
        if texts:
            write_texts(work / "generated.jsonl", texts)
        return [
            replace(outcome, scored=scored, rows=task.rows())
            for outcome, scored, task in zip(outcomes, found, tasks, strict=True)
        ]

    def _evaluate(
        self,
        tasks: Sequence[EncodedTask],
        runs: Sequence[TaskRun],
        starts: Sequence[Start],
        outcomes: Sequence[Outcome],
        numbers: TaskNumbers,
    ) -> list[Scored | None]:
        """What tasks' models say on dev examples, if it is to be known."""
        t = self.recipe.training
        if self._predict is None and not t.generate:
            return [None for _ in tasks]
        after: Any = jax.tree.map(jnp.asarray, stack_tasks([o.parameters for o in outcomes]))
        sides = initial(starts, self.model.config), after
        if self._predict is not None:
            return evaluate_labels(self._predict, runs, sides, numbers)
        assert isinstance(self.model, Decoder)
        shape, count, new = runs[0].batches.shape, t.generate, t.generate_tokens
        return evaluate_texts(self.model, self.tokens, tasks, sides, numbers, shape, count, new)

    def stack_size(self, tasks: Sequence[EncodedTask]) -> int:
        """How many tasks of one kind train at once: what the recipe says, or what memory allows.

        The step that is compiled to learn what it needs is the one that trains, if it fits.
        """
        t = self.recipe.training
        if t.stack != "auto":
            return int(t.stack)
        step, _ = self._programs(tasks[0].kind)
        starts, runs = self._starts(tasks), self._runs(tasks)
        longest = max((run.batches.longest() for run in runs), key=row_length)
        # Ranks are padded to the largest of a stack.
        order = sorted(range(len(tasks)), key=lambda n: -self._largest_rank(starts[n]))

        def need(number: int) -> int:
            first = [starts[n] for n in order[:number]]
            arguments = (
                jax.eval_shape(lambda: self._state(first)),
                numbers_of(
                    self.recipe, [runs[n] for n in order[:number]], first, self.model.config
                ),
                stack([[longest]] * number, runs[0].batches.shape, tasks[0].kind),
                np.ones(number, bool),
            )
            return step_bytes(step.func.lower(*step.args, *arguments).compile(), step.args)

        unit = 1 if self.mesh is None else self.mesh.shape["task"]
        return largest_stack(need, len(tasks), free_bytes(), unit)

    def _starts(self, tasks: Sequence[EncodedTask]) -> list[Start]:
        return [self.starts[task.name] for task in tasks]

    def _runs(self, tasks: Sequence[EncodedTask]) -> list[TaskRun]:
        pad = padding(self.tokens.pad, self.model.config.vocabulary)
        return make_runs(self.recipe, tasks, pad)

    def _state(self, starts: Sequence[Start]) -> TrainState:
        return init_state(initial(starts, self.model.config), self.mesh)

    def _largest_rank(self, start: Start) -> int:
        return max(int(own.max()) for own in ranks(start.lora, self.model.config).values())

    def write(self, task: EncodedTask, outcome: Outcome, command: str) -> None:
        """Write one task's adapter."""
        recipe, config, start = self.recipe, self.model.config, self.starts[task.name]
        head = {}
        if isinstance(config, EncoderConfig):
            head = head_shapes(config, start.classes)
        form = AdapterForm(
            recipe.base, start.lora, ranks(start.lora, config), config.layer_name, head
        )
        about = provenance(recipe, task, start, outcome, command)
        # Whether it may be was asked at the start.
        write_adapter(
            Path(recipe.out or ".") / task.name, outcome.parameters, form, about, overwrite=True
        )

    def _programs(self, kind: Any) -> tuple[Any, Any]:
        if kind not in self._steps:
            options = step_options(self.recipe, self.model.config, kind)
            self._steps[kind] = (
                make_train_step(self.model, options, self.mesh),
                make_eval_step(self.model, options),
            )
        return self._steps[kind]


def padding(token: int | None, vocabulary: int) -> int:
    """The token of padding. Nothing sees it, so any that the model has will do."""
    return token if token is not None and 0 <= token < vocabulary else 0


def step_options(recipe: Recipe, config: ModelConfig, kind: Any) -> StepOptions:
    """What steps are compiled for; dropout that no rate asks for is left out."""
    t, rates = recipe.training, [recipe.lora.dropout]
    if isinstance(config, EncoderConfig):
        rates.append(config.head_dropout)
        if t.base_dropout:
            rates += [config.hidden_dropout, config.attention_dropout]
    return StepOptions(
        kind=kind,
        accumulate=t.accumulate,
        dropout=max(rates) > 0,
        base_dropout=t.base_dropout,
        remat=t.remat,
        attention=t.attention,  # type: ignore[arg-type]
        betas=t.betas,
    )


def numbers_of(
    recipe: Recipe, runs: Sequence[TaskRun], starts: Sequence[Start], config: ModelConfig
) -> TaskNumbers:
    """What may differ from task to task, in numbers: a warmup's share becomes steps."""
    own = [recipe.for_task(run.name).training for run in runs]
    loras = [start.lora for start in starts]
    warmup = [round(t.warmup * run.total) for t, run in zip(own, runs, strict=True)]
    schedule = Schedule(
        kind=jnp.array([KINDS.index(t.schedule) for t in own], jnp.int32),
        peak=jnp.array([t.lr for t in own], jnp.float32),
        warmup=jnp.array(warmup, jnp.int32),
        total=jnp.array([run.total for run in runs], jnp.int32),
    )
    # Every task has its own masks, whichever tasks are beside it.
    seeds = task_seeds(recipe.training.seed, [run.name for run in runs], shared=False)
    return task_numbers(
        scales(loras, config),
        schedule,
        clip=[np.inf if t.clip is None else t.clip for t in own],
        decay=[t.weight_decay for t in own],
        dropout=[lora.dropout for lora in loras],
        seed=np.array([seed % 2**32 for seed in seeds], np.uint32),
        classes=[start.classes for start in starts],
    )

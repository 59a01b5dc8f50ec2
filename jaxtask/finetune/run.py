"""A whole run: from a recipe to adapters on disk.

Everything that can be refused is refused before the base model's weights are read.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtask.errors import CheckpointError, RecipeError, TrainingError
from jaxtask.finetune.bookkeeping import TaskRun, groups, make_runs
from jaxtask.finetune.examples import EncodedTask, encode_task, open_tokenizer
from jaxtask.finetune.judge import judge_labels, judge_texts, write_texts
from jaxtask.finetune.loop import Functions, LoopOptions, Outcome, train
from jaxtask.finetune.lora import ranks, scales, task_seeds
from jaxtask.finetune.mesh import make_mesh
from jaxtask.finetune.models.config import DecoderConfig, EncoderConfig, ModelConfig
from jaxtask.finetune.models.decoder import Decoder
from jaxtask.finetune.models.encoder import Encoder, head_shapes
from jaxtask.finetune.models.find import base_config, find_base
from jaxtask.finetune.models.load import Model, load_model
from jaxtask.finetune.parameters import stack_tasks, take_task
from jaxtask.finetune.progress import Show
from jaxtask.finetune.provenance import identity, provenance, work_folder
from jaxtask.finetune.recipe import Recipe
from jaxtask.finetune.schedule import KINDS, Schedule
from jaxtask.finetune.scores import Scored
from jaxtask.finetune.start import Note, Start, find_starts, initial
from jaxtask.finetune.step import (
    StepOptions,
    TaskNumbers,
    init_state,
    make_eval_step,
    make_predict,
    make_train_step,
    task_numbers,
)
from jaxtask.finetune.task_data import find_tasks, read_task
from jaxtask.finetune.write import AdapterForm, check_free, write_adapter

Display = Callable[[], AbstractContextManager[Show]]


def fine_tune(
    recipe: Recipe,
    *,
    overwrite: bool = False,
    resume: bool = False,
    command: str = "",
    display: Display = lambda: nullcontext(lambda view: None),
    note: Note = lambda text: None,
) -> list[Outcome]:
    """Train one LoRA adapter a task, all on one frozen base, and write them to `recipe.out`.

    Args:
        recipe: See `jaxtask.finetune.recipe`; `out` and `data` must be set.
        overwrite: Replace adapters, and start anew where a run has left checkpoints.
        resume: Go on from the newest checkpoint in the work folder, if there is one. The run must
            be the same; what it has written already is written again.
        command: Recorded with the adapters.
        display: What shows the run as it goes on; entered once for each group of tasks.
        note: Told, in a sentence each, what is not as one may expect.

    Returns:
        What became of each task, in the order of their data; `Outcome.scored` has what encoders
        say on the dev examples, and what decoders do, if the recipe wants texts generated. Those
        are in ``generated.jsonl`` in the work folder, too.

    Raises:
        JaxtaskError: Of the kind that says what cannot be used: `RecipeError`, `DataError`,
            `ModelError`, `AdapterError`, `CheckpointError` or `TrainingError`.

    """
    if recipe.out is None:
        raise RecipeError("out is missing, expected a folder for the adapters.")
    work = work_folder(recipe)
    folders = find_tasks(recipe.data)
    if not folders:
        raise RecipeError("data is empty, expected folders of tasks.")
    resumed = resume and _has_checkpoints(work)
    if not (resume or overwrite) and _has_checkpoints(work):
        raise CheckpointError(
            f"{work}: holds checkpoints of a run; give resume=True (--resume) to go on from them, "
            "or overwrite=True (--overwrite) to start anew."
        )
    for folder in folders:
        check_free(Path(recipe.out) / folder.resolve().name, overwrite or resumed)
    base = find_base(recipe.base)
    config = base_config(base)
    tasks, tokenizer = _encode(recipe, config, base, folders)
    stacks = groups(recipe, tasks)
    starts = find_starts(recipe, tasks, config, base, note)
    session = _Session(recipe, base, tokenizer, starts)
    outcomes: dict[str, Outcome] = {}
    if not resume:
        _forget(work)
    for n, stack in enumerate(stacks, 1):
        place = work / f"group-{n}"
        for task, outcome in zip(stack, session.train(stack, place, display), strict=True):
            session.write(task, outcome, command)
            outcomes[task.name] = outcome
    return [outcomes[task.name] for task in tasks]


class _Session:
    """A base model on the device, and the programs that train tasks on it."""

    def __init__(
        self, recipe: Recipe, base: Path, tokenizer: Any, starts: Mapping[str, Start]
    ) -> None:
        self.recipe, self.tokenizer, self.starts = recipe, tokenizer, starts
        self.mesh = make_mesh(**recipe.training.mesh) if recipe.training.mesh else None
        self.model: Model = load_model(base, recipe.dtype, self.mesh)  # type: ignore[arg-type]
        # One of each kind, so that stacks of one shape share a compiled program.
        self._steps: dict[str, tuple[Any, Any]] = {}
        self._predict = make_predict(self.model) if isinstance(self.model, Encoder) else None

    def train(self, tasks: Sequence[EncodedTask], work: Path, display: Display) -> list[Outcome]:
        """Train tasks of one kind at once, and see what they say."""
        recipe, config = self.recipe, self.model.config
        starts = [self.starts[task.name] for task in tasks]
        runs = make_runs(recipe, tasks, self.tokenizer.pad_token_id or 0)
        numbers = numbers_of(recipe, runs, starts, config)
        step, evaluate = self._programs(tasks[0].kind)
        functions = Functions(
            lambda: init_state(initial(starts, config), self.mesh),
            lambda state, batch, active: step(state, numbers, batch, active),
            lambda state, batch: evaluate(state.parameters, numbers, batch),
            lambda state, task: take_task(state.parameters, task),
        )
        t = recipe.training
        options = LoopOptions(t.eval_every, t.checkpoint_every, t.log_every)
        with display() as show:
            outcomes = train(
                functions, runs, options, work, identity(recipe, tasks, self.starts), show
            )
        found = self._judge(tasks, runs, starts, outcomes, numbers)
        texts = {o.name: s for o, s in zip(outcomes, found, strict=True) if s and s.texts}
        if texts:
            write_texts(work / "generated.jsonl", texts)
        return [replace(o, scored=s) for o, s in zip(outcomes, found, strict=True)]

    def _judge(
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
            return judge_labels(self._predict, runs, sides, numbers)
        assert isinstance(self.model, Decoder)
        shape, count, new = runs[0].batches.shape, t.generate, t.generate_tokens
        return judge_texts(self.model, self.tokenizer, tasks, sides, numbers, shape, count, new)

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


def _encode(
    recipe: Recipe, config: ModelConfig, base: Path, folders: Sequence[Path]
) -> tuple[list[EncodedTask], Any]:
    """The tasks as token ids, and the tokenizer."""
    max_len = recipe.training.max_len
    if isinstance(config, EncoderConfig) and max_len > config.positions:
        raise RecipeError(
            f"training.max_len is {max_len}, expected at most {config.positions}, the positions of "
            f"the base model {recipe.base}."
        )
    data = [read_task(folder) for folder in folders]
    for task in data:
        if (task.kind == "text") != isinstance(config, DecoderConfig):
            able = "text" if isinstance(config, DecoderConfig) else "classification or regression"
            raise TrainingError(
                f"task {task.name} is {task.kind}, but a {config.architecture} model is trained on "
                f"{able}."
            )
    tokenizer = open_tokenizer(recipe.tokenizer or base)
    tasks = [
        encode_task(
            task,
            tokenizer,
            max_len=max_len,
            vocabulary=config.vocabulary,
            prompt=recipe.prompt,
            types=config.types if isinstance(config, EncoderConfig) else 1,
        )
        for task in data
    ]
    return tasks, tokenizer


def _has_checkpoints(work: Path) -> bool:
    """Whether a run has left any below `work`."""
    return any(work.glob("group-*/checkpoints/*"))


def _forget(work: Path) -> None:
    """Remove the checkpoints and logs of an earlier run."""
    for place in work.glob("group-*"):
        shutil.rmtree(place, ignore_errors=True)

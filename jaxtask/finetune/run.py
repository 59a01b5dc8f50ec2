"""A whole run: from a recipe to adapters on disk.

Everything that can be refused is refused before the base model's weights are read.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtask.errors import CheckpointError, RecipeError, TrainingError
from jaxtask.finetune.batches import row_length, stack
from jaxtask.finetune.bookkeeping import TaskRun, by_kind, groups, make_runs
from jaxtask.finetune.examples import EncodedTask, encode_task, open_tokenizer
from jaxtask.finetune.loop import Functions, LoopOptions, Outcome, train
from jaxtask.finetune.lora import init_head, init_lora, ranks, scales, task_seeds
from jaxtask.finetune.memory import free_bytes, largest_stack, step_bytes
from jaxtask.finetune.mesh import make_mesh
from jaxtask.finetune.models.config import DecoderConfig, EncoderConfig, ModelConfig
from jaxtask.finetune.models.encoder import head_shapes
from jaxtask.finetune.models.find import base_config, find_base
from jaxtask.finetune.models.load import Model, load_model
from jaxtask.finetune.parameters import take_task
from jaxtask.finetune.progress import Show
from jaxtask.finetune.provenance import identity, provenance, work_folder
from jaxtask.finetune.recipe import Lora, Recipe
from jaxtask.finetune.schedule import KINDS, Schedule
from jaxtask.finetune.step import (
    StepOptions,
    TaskNumbers,
    TrainState,
    init_state,
    make_eval_step,
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
) -> list[Outcome]:
    """Train one LoRA adapter a task, all on one frozen base, and write them to `recipe.out`.

    Args:
        recipe: See `jaxtask.finetune.recipe`; `out` and `data` must be set.
        overwrite: Replace adapters, and start anew where a run has left checkpoints.
        resume: Go on from the newest checkpoint in the work folder, if there is one. The run must
            be the same; what it has written already is written again.
        command: Recorded with the adapters.
        display: What shows the run as it goes on; entered once for each group of tasks.

    Returns:
        What became of each task, in the order of their data.

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
    tasks, pad = _encode(recipe, config, base, folders)
    kinds = by_kind(recipe, tasks)
    for task in tasks:
        ranks(recipe.for_task(task.name).lora, config)  # Refuses targets that match nothing.
    session = _Session(recipe, base)
    outcomes: dict[str, Outcome] = {}
    if not resume:
        _forget(work)
    sizes = _sizes(
        work / "stacks.json",
        resumed,
        list(kinds),
        lambda kind: session.stack_size(kinds[kind], pad),
    )
    every = [group for kind, same in kinds.items() for group in groups(same, sizes[kind])]
    for n, group in enumerate(every, 1):
        place = work / f"group-{n}"
        for task, outcome in zip(group, session.train(group, pad, place, display), strict=True):
            session.write(task, outcome, command)
            outcomes[task.name] = outcome
    return [outcomes[task.name] for task in tasks]


class _Session:
    """A base model on the device, and the programs that train tasks on it."""

    def __init__(self, recipe: Recipe, base: Path) -> None:
        self.recipe = recipe
        self.mesh = make_mesh(**recipe.training.mesh) if recipe.training.mesh else None
        self.model: Model = load_model(base, recipe.dtype, self.mesh)  # type: ignore[arg-type]
        # One of each kind, so that stacks of one shape share a compiled program.
        self._steps: dict[str, tuple[Any, Any]] = {}

    def train(
        self, tasks: Sequence[EncodedTask], pad: int, work: Path, display: Display
    ) -> list[Outcome]:
        """Train tasks of one kind at once."""
        recipe, runs = self.recipe, make_runs(self.recipe, tasks, pad)
        numbers = self._numbers(runs, tasks)
        step, evaluate = self._programs(tasks[0].kind)
        functions = Functions(
            partial(self._init, tasks),
            lambda state, batch, active: step(state, numbers, batch, active),
            lambda state, batch: evaluate(state.parameters, numbers, batch),
            lambda state, task: take_task(state.parameters, task),
        )
        t = recipe.training
        options = LoopOptions(t.eval_every, t.checkpoint_every, t.log_every)
        with display() as show:
            return train(functions, runs, options, work, identity(recipe, tasks), show)

    def stack_size(self, tasks: Sequence[EncodedTask], pad: int) -> int:
        """How many tasks of one kind train at once: what the recipe says, or what memory allows.

        The step that is compiled to learn what it needs is the one that trains, if it fits.
        """
        t = self.recipe.training
        if t.stack != "auto":
            return int(t.stack)
        step, _ = self._programs(tasks[0].kind)
        runs = make_runs(self.recipe, tasks, pad)
        longest = max((run.batches.longest() for run in runs), key=row_length)
        # Ranks are padded to the largest of a stack.
        order = sorted(range(len(tasks)), key=lambda n: -self._largest_rank(tasks[n]))

        def need(number: int) -> int:
            some = [tasks[n] for n in order[:number]]
            arguments = (
                jax.eval_shape(partial(self._init, some)),
                self._numbers([runs[n] for n in order[:number]], some),
                stack([[longest]] * number, runs[0].batches.shape, tasks[0].kind),
                np.ones(number, bool),
            )
            return step_bytes(step.func.lower(*step.args, *arguments).compile(), step.args)

        unit = 1 if self.mesh is None else self.mesh.shape["task"]
        return largest_stack(need, len(tasks), free_bytes(), unit)

    def _init(self, tasks: Sequence[EncodedTask]) -> TrainState:
        config, loras, classes = self.model.config, self._loras(tasks), _classes(tasks)
        parameters = init_lora(loras, config)
        if isinstance(config, EncoderConfig):
            parameters |= init_head(loras, config, classes)
        return init_state(parameters, self.mesh)

    def _largest_rank(self, task: EncodedTask) -> int:
        lora = self.recipe.for_task(task.name).lora
        return max(int(own.max()) for own in ranks(lora, self.model.config).values())

    def _loras(self, tasks: Sequence[EncodedTask]) -> list[Lora]:
        return [start_of(self.recipe, task.name) for task in tasks]

    def _numbers(self, runs: Sequence[TaskRun], tasks: Sequence[EncodedTask]) -> TaskNumbers:
        config = self.model.config
        return numbers_of(self.recipe, runs, self._loras(tasks), config, _classes(tasks))

    def write(self, task: EncodedTask, outcome: Outcome, command: str) -> None:
        """Write one task's adapter."""
        recipe, config = self.recipe, self.model.config
        lora = recipe.for_task(task.name).lora
        head = {}
        if isinstance(config, EncoderConfig):
            head = head_shapes(config, len(task.labels) or 1)
        form = AdapterForm(recipe.base, lora, ranks(lora, config), config.layer_name, head)
        about = provenance(recipe, task, outcome, command)
        # Whether it may be was asked at the start.
        write_adapter(
            Path(recipe.out or ".") / task.name, outcome.parameters, form, about, overwrite=True
        )

    def _programs(self, kind: Any) -> tuple[Any, Any]:
        if kind not in self._steps:
            config, t = self.model.config, self.recipe.training
            options = StepOptions(
                kind=kind,
                accumulate=t.accumulate,
                dropout=self.recipe.lora.dropout > 0
                or (isinstance(config, EncoderConfig) and config.head_dropout > 0),
                remat=t.remat,
                attention=t.attention,  # type: ignore[arg-type]
                betas=t.betas,
            )
            self._steps[kind] = (
                make_train_step(self.model, options, self.mesh),
                make_eval_step(self.model, options),
            )
        return self._steps[kind]


def start_of(recipe: Recipe, task: str) -> Lora:
    """A task's LoRA settings with the seed that its A starts from."""
    lora = recipe.for_task(task).lora
    (seed,) = task_seeds(lora.seed, [task], lora.shared_init)
    return replace(lora, seed=seed)


def numbers_of(
    recipe: Recipe,
    runs: Sequence[TaskRun],
    loras: Sequence[Lora],
    config: ModelConfig,
    classes: Sequence[int],
) -> TaskNumbers:
    """What may differ from task to task, in numbers: a warmup's share becomes steps."""
    own = [recipe.for_task(run.name).training for run in runs]
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
        classes=classes,
    )


def _encode(
    recipe: Recipe, config: ModelConfig, base: Path, folders: Sequence[Path]
) -> tuple[list[EncodedTask], int]:
    """The tasks as token ids, and the token of padding."""
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
        )
        for task in data
    ]
    return tasks, tokenizer.pad_token_id or 0


def _classes(tasks: Sequence[EncodedTask]) -> list[int]:
    return [len(task.labels) or 1 for task in tasks]


def _sizes(
    file: Path, resumed: bool, kinds: Sequence[str], find: Callable[[str], int]
) -> dict[str, int]:
    """How many tasks of each kind train at once, as `find` finds it, and writes it to `file`.

    A run that goes on takes what is there: its checkpoints are of these groups, whatever memory is
    free now.
    """
    if resumed and file.exists():
        try:
            found = json.loads(file.read_text())
            return {kind: int(found[kind]) for kind in kinds}
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{file}: does not say how many tasks of each kind ({', '.join(kinds)}) train at "
                "once; give overwrite=True (--overwrite) to start anew."
            ) from error
    sizes = {kind: find(kind) for kind in kinds}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(sizes) + "\n")
        draft.replace(file)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be written: {error.strerror}.") from error
    return sizes


def _has_checkpoints(work: Path) -> bool:
    """Whether a run has left any below `work`."""
    return any(work.glob("group-*/checkpoints/*"))


def _forget(work: Path) -> None:
    """Remove the checkpoints and logs of an earlier run."""
    for place in work.glob("group-*"):
        shutil.rmtree(place, ignore_errors=True)

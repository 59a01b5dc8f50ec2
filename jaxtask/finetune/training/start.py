"""Where each task's training starts: at new parameters, or where others have ended."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtask.adapters.base_names import same_base
from jaxtask.adapters.write import CONFIG, WEIGHTS
from jaxtask.errors import AdapterError, RecipeError, TrainingError
from jaxtask.finetune.data.examples import EncodedTask
from jaxtask.finetune.models.config import EncoderConfig, ModelConfig
from jaxtask.finetune.models.encoder import head_shapes
from jaxtask.finetune.models.load import load_head
from jaxtask.finetune.peft_io.read import StoredAdapter, read_adapter
from jaxtask.finetune.recipe.settings import Lora, Recipe
from jaxtask.finetune.training.lora import (
    Parameters,
    init_head,
    init_lora,
    ranks,
    scales,
    task_seeds,
)
from jaxtask.finetune.training.parameters import Tree, stack_tasks
from jaxtask.patterns import Patterns

Note = Callable[[str], None]

NEW, OF_BASE, OF_ADAPTER = "new", "the base's", "the adapter's"


@dataclass(frozen=True, eq=False)
class Start:
    """Where one task's training starts, and the settings of its adapter.

    Attributes:
        lora: Settings of LoRA; an adapter that is trained further has its own, except for dropout
            and seed.
        classes: Scores of its head.
        factors: A and B of every module; None for new ones.
        head: The head of an encoder's task; None for a new one.
        about: JSON-able: the adapter's ``path`` and the ``sha256`` of its files, or None; and where
            an encoder's ``head`` is from.

    """

    lora: Lora
    classes: int = 1
    factors: Tree | None = None
    head: Tree | None = None
    about: Mapping[str, Any] = field(default_factory=lambda: {"path": None, "sha256": None})


def find_starts(
    recipe: Recipe,
    tasks: Sequence[EncodedTask],
    config: ModelConfig,
    base: Path,
    note: Note = lambda text: None,
) -> dict[str, Start]:
    """The start of every task, by its name.

    Args:
        recipe: `start` and `head` say from where. The adapter's form (ranks, α, rsLoRA, targets,
            patterns) is then the one that counts; the recipe's is not used.
        tasks: One adapter at `start` is for all of them, otherwise `start` has a folder for each.
        config: Config of the base model.
        base: Its folder or file, for the head that it may have.
        note: Called with a message where a task gets a new head.

    Raises:
        AdapterError: There is no adapter for a task, or it cannot be trained further on this base.
        ModelError: The base's head is damaged.
        RecipeError: `start` lies in `out`, where it would be written over.
        TrainingError: LoRA's targets match nothing, or the expressions of all tasks, each counted
            once, take too long.

    """
    head: Tree | None = None
    if isinstance(config, EncoderConfig) and recipe.head == "auto":
        head = load_head(base, config)
    stored: dict[tuple[Path, int], StoredAdapter] = {}
    found = {}
    # One recipe's tasks have one time together, however many they are.
    patterns = Patterns(TrainingError)
    for task in tasks:
        classes = len(task.labels) or 1
        start = Start(seeded_lora(recipe, task.name), classes)
        if recipe.start is not None:
            folder = _folder(recipe, task.name)
            if (folder, classes) not in stored:
                stored[folder, classes] = _read(recipe, folder, config, classes)
            start = _further(start, stored[folder, classes], folder, config)
        # Refuses targets that match nothing, and expressions that take too long.
        scales([start.lora], config, patterns)
        if isinstance(config, EncoderConfig):
            start = _with_head(start, head, task.name, note)
        found[task.name] = start
    return found


def initial(starts: Sequence[Start], config: ModelConfig) -> Parameters:
    """The parameters of T tasks at their starts, as `training.lora` describes them."""
    loras = [start.lora for start in starts]
    given = [start.factors for start in starts if start.factors is not None]
    parameters: Parameters = (
        jax.tree.map(jnp.asarray, stack_tasks(given)) if given else init_lora(loras, config)
    )
    if isinstance(config, EncoderConfig):
        classes, heads = [start.classes for start in starts], [start.head for start in starts]
        parameters |= init_head(loras, config, classes, heads)
    return parameters


def seeded_lora(recipe: Recipe, task: str) -> Lora:
    """A task's LoRA settings with the seed that its A starts from."""
    lora = recipe.for_task(task).lora
    (seed,) = task_seeds(lora.seed, [task], lora.shared_init)
    return replace(lora, seed=seed)


def _folder(recipe: Recipe, task: str) -> Path:
    """The adapter that a task starts from."""
    start, out = Path(recipe.start or ""), Path(recipe.out or "").absolute()
    if out == start.absolute() or out in start.absolute().parents:
        raise RecipeError(
            f"start is {recipe.start!r}, expected a folder that is not in out, {out}: a run that "
            "is resumed needs what it started from"
        )
    for folder in (start, start / task):
        if (folder / CONFIG).is_file():
            return folder
    raise AdapterError(
        f"{start}: holds neither {CONFIG}, for one adapter for all tasks, nor {task}/{CONFIG}, for "
        f"that of task {task}"
    )


def _read(recipe: Recipe, folder: Path, config: ModelConfig, classes: int) -> StoredAdapter:
    """The adapter in a folder, which must be of the recipe's base."""
    head = head_shapes(config, classes) if isinstance(config, EncoderConfig) else None
    adapter = read_adapter(
        folder, config.linears, config.layers, head, without_head=recipe.head == "new"
    )
    if adapter.base and not same_base(adapter.base, recipe.base):
        raise AdapterError(
            f"{folder}: was trained on the base model {adapter.base!r}, expected {recipe.base!r} "
            f"(their names are compared, as {CONFIG} and the recipe have them)"
        )
    return adapter


def _further(start: Start, adapter: StoredAdapter, folder: Path, config: ModelConfig) -> Start:
    """The start at an adapter, in place of one at new parameters."""
    own = start.lora
    return replace(
        start,
        lora=replace(
            _settings(adapter, config, folder),
            dropout=own.dropout,
            seed=own.seed,
            shared_init=own.shared_init,
        ),
        factors={module: adapter.parameters[module] for module in adapter.ranks},
        head={n: leaf for n, leaf in adapter.parameters.items() if n not in adapter.ranks} or None,
        about={"path": str(folder), "sha256": _sums(folder)},
    )


def _settings(adapter: StoredAdapter, config: ModelConfig, folder: Path) -> Lora:
    """The adapter's settings, with full names as targets where its own mean something else here.

    PEFT matches targets against all modules of a model, also against those that have no LoRA here.
    """
    names = tuple(
        f"{config.layer_name(layer)}.{module}"
        for module, row in adapter.ranks.items()
        for layer, rank in enumerate(row)
        if rank
    )
    for lora in (adapter.lora, replace(adapter.lora, targets=names)):
        try:
            found = ranks(lora, config)
        except TrainingError:
            continue
        if found.keys() == adapter.ranks.keys() and all(
            np.array_equal(row, adapter.ranks[module]) for module, row in found.items()
        ):
            return lora
    raise AdapterError(f"{folder}: {CONFIG} does not give the ranks that {WEIGHTS} has")


def _with_head(start: Start, head: Tree | None, task: str, note: Note) -> Start:
    """The start with a head and where it is from: the adapter, the base (`head`), or neither."""
    if start.head is not None:
        return replace(start, about={**start.about, "head": OF_ADAPTER})
    scores = None if head is None else list(head.values())[-1]["bias"].shape[0]
    if scores == start.classes:
        return replace(start, head=head, about={**start.about, "head": OF_BASE})
    if scores is not None:
        note(
            f"task {task}: the head in the base's folder has {scores} scores, the task needs "
            f"{start.classes}: it gets a new head."
        )
    return replace(start, about={**start.about, "head": NEW})


def _sums(folder: Path) -> dict[str, str]:
    """SHA-256 of an adapter's files, whichever there are."""
    names = (CONFIG, WEIGHTS, "adapter_model.bin")
    found = {}
    for name in names:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found

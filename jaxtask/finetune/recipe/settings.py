"""A recipe: everything that decides what comes out of a fine-tuning run, as frozen data.

Every value is checked when a recipe is made, whether it comes from a file, from the command line or
from Python, and every recipe is JSON-able, so that it is recorded with the adapters it made.
The defaults are the settings of the published runs.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtask.errors import RecipeError, shown
from jaxtask.finetune.recipe import checks
from jaxtask.finetune.recipe.checks import Check

MESH_AXES = ("task", "data", "model")
# Above the width of any layer, and small enough to be refused for its memory if at all.
MOST_RANK = 2**16


def _setting(check: Check, default: Any = dataclasses.MISSING, *, per_task: bool = False) -> Any:
    """A field with its check; `per_task` says whether a task may have its own value."""
    metadata = {"check": check, "per_task": per_task}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Lora:
    """The adapters. Names mean what they mean in PEFT's `LoraConfig`.

    Attributes:
        r: LoRA rank.
        alpha: The update is alpha/r · B·A, or alpha/√r · B·A with `rslora`.
        rslora: Rank-stabilised scaling.
        dropout: Dropout rate on LoRA's input.
        targets: Names of the modules to adapt, a regular expression for their whole names, or
            "all-linear".
        rank_pattern: Regular expression for modules → their own rank.
        alpha_pattern: Regular expression for modules → their own alpha.
        shared_init: Whether all tasks share the same initial A; otherwise each has its own.
        seed: Random seed for the initial A; tasks with equal seeds have the same.

    """

    r: int = _setting(checks.whole(1, MOST_RANK), 8, per_task=True)
    alpha: float = _setting(checks.number(0, above=True), 16.0, per_task=True)
    rslora: bool = _setting(checks.flag(), False, per_task=True)
    dropout: float = _setting(checks.number(0, 1, below=True), 0.05)
    targets: tuple[str, ...] | str = _setting(
        # A name is a module's whole name or the end of it, from a dot on; one text is a regular
        # expression for whole names, or "all-linear". As in PEFT.
        checks.either(checks.text(), checks.filled(checks.texts())),
        ("q_proj", "v_proj"),
    )
    rank_pattern: Mapping[str, int] = _setting(
        checks.table(checks.whole(1, MOST_RANK), patterns=True), {}, per_task=True
    )
    alpha_pattern: Mapping[str, float] = _setting(
        checks.table(checks.number(0, above=True), patterns=True), {}, per_task=True
    )
    shared_init: bool = _setting(checks.flag(), True)
    seed: int = _setting(checks.whole(0, checks.MOST_SEED), 0, per_task=True)

    def __post_init__(self) -> None:
        _check(self, "lora.")


@dataclass(frozen=True)
class Training:
    """Settings of the training loop.

    A step is one update, from `batch` · `accumulate` rows per task.

    Attributes:
        epochs: Epochs over a task's training data; `DEFAULT_EPOCHS` without `epochs` and `steps`.
        steps: Training steps, instead of epochs.
        batch: Batch size: rows per task and forward pass.
        accumulate: Gradient accumulation: batches per step.
        packing: Pack several examples into a row.
        max_len: Longest example in tokens; null for the limit of the base model. Rows are then as
            long as the longest example, and with packing `PACKED` tokens or more.
        truncate: Cut longer examples: a prompt's document at its end, or the text to classify,
            never the instruction, the target or what a template adds. Otherwise they are dropped
            and counted.
        lr: Peak learning rate of AdamW.
        schedule: Learning-rate schedule after warmup: "constant", "linear" or "cosine" (both to 0).
        warmup: Share of a task's steps in which the learning rate rises linearly from 0.
        weight_decay: Weight decay of AdamW.
        clip: Largest global norm of a task's gradient; null for no clipping.
        betas: Both betas of AdamW.
        base_dropout: Whether the frozen layers of encoders apply the dropout of their config, as
            with PEFT.
        seed: Random seed for the order of the data, and for dropout.
        eval_every: Steps between evaluations; null for one at the end of each epoch.
        eval_examples: Largest number of dev examples to evaluate on, the same in every run; null
            for all.
        patience: Early stopping: end a task after this many evaluations without a new best, and
            keep its best adapter. Null: train to the end and keep the last adapter.
        generate: Number of dev examples per task to generate text for, before and after training;
            the same examples in every run.
        generate_tokens: Longest generated text, in tokens.
        stack: Number of tasks that train at once, or "auto".
        remat: Recompute activations in the backward pass instead of storing them.
        attention: Implementation of attention: "xla" or "cudnn".
        mesh: Devices along each axis: "task", "data", "model".
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between fetches of the losses from the device; every step is logged.

    """

    epochs: int | None = _setting(checks.optional(checks.whole(1)), None, per_task=True)
    steps: int | None = _setting(checks.optional(checks.whole(1)), None, per_task=True)
    batch: int = _setting(checks.whole(1), 1)
    accumulate: int = _setting(checks.whole(1), 1)
    packing: bool = _setting(checks.flag(), False)
    max_len: int | None = _setting(checks.optional(checks.whole(8)), None)
    truncate: bool = _setting(checks.flag(), False)
    lr: float = _setting(checks.number(0, above=True), 4e-5, per_task=True)
    schedule: str = _setting(
        checks.one_of("constant", "linear", "cosine"), "constant", per_task=True
    )
    warmup: float = _setting(checks.number(0, 1, below=True), 0.0, per_task=True)
    weight_decay: float = _setting(checks.number(0), 0.0, per_task=True)
    clip: float | None = _setting(checks.optional(checks.number(0, above=True)), 1.0, per_task=True)
    betas: tuple[float, float] = _setting(
        checks.pair(checks.number(0, 1, below=True)), (0.9, 0.999)
    )
    base_dropout: bool = _setting(checks.flag(), True)
    seed: int = _setting(checks.whole(0, checks.MOST_SEED), 0)
    eval_every: int | None = _setting(checks.optional(checks.whole(1)), None)
    eval_examples: int | None = _setting(checks.optional(checks.whole(1)), None, per_task=True)
    patience: int | None = _setting(checks.optional(checks.whole(1)), None, per_task=True)
    generate: int = _setting(checks.whole(0), 0)
    generate_tokens: int = _setting(checks.whole(1), 128)
    stack: int | str = _setting(checks.either(checks.one_of("auto"), checks.whole(1)), "auto")
    remat: bool = _setting(checks.flag(), True)
    attention: str = _setting(checks.one_of("xla", "cudnn"), "xla")
    mesh: Mapping[str, int] = _setting(checks.table(checks.whole(1), MESH_AXES), {})
    checkpoint_every: int = _setting(checks.whole(1), 100)
    log_every: int = _setting(checks.whole(1), 10)

    def __post_init__(self) -> None:
        _check(self, "training.")
        if self.epochs is not None and self.steps is not None:
            raise RecipeError(
                f"training.epochs is {self.epochs} and training.steps is {self.steps}, "
                "expected one of the two"
            )
        if self.epochs is None and self.steps is None:
            object.__setattr__(self, "epochs", DEFAULT_EPOCHS)


DEFAULT_EPOCHS = 6
PACKED = 2048
"""Tokens of a row with packing, where `max_len` is not given and the base model allows it."""


@dataclass(frozen=True)
class Recipe:
    """A whole run: a base model, the tasks' data, and how to train.

    Attributes:
        base: Base model: a Hugging Face folder or a GGUF file; in the shipped recipes an id on the
            Hub.
        tokenizer: A folder, a GGUF file, or an id in the local cache; null for the base model's
            own.
        prompt: "chat": the tokenizer's chat template; "plain": the plain format; "auto": the chat
            template if there is one.
        dtype: Precision of the frozen base model. Adapters and optimizer states are float32.
        start: An adapter in PEFT's format to continue from, for all tasks, or a folder with one per
            task, by name. It keeps its rank, alpha, rsLoRA, targets and patterns; those of `lora`
            are not used.
        head: Initial classifier of an encoder. "auto": that of the adapter in `start`, else that in
            the base model's folder if it has the right number of classes, else a new one. "new":
            always a new one.
        data: Task folders, or patterns for them.
        out: Folder for the adapters, with a folder per task and nothing else.
        work: Folder for checkpoints and logs; null for `<out>.work`.
        lora: Settings of LoRA.
        training: Settings of the training loop.
        tasks: Task → "lora" or "training" → the settings that differ for this task.

    """

    base: str = _setting(checks.path())
    tokenizer: str | None = _setting(checks.optional(checks.path()), None)
    prompt: str = _setting(checks.one_of("auto", "plain", "chat"), "auto")
    dtype: str = _setting(checks.one_of("float32", "bfloat16"), "bfloat16")
    start: str | None = _setting(checks.optional(checks.path()), None)
    head: str = _setting(checks.one_of("auto", "new"), "auto")
    data: tuple[str, ...] = _setting(checks.texts(checks.path()), ())
    out: str | None = _setting(checks.optional(checks.path()), None)
    work: str | None = _setting(checks.optional(checks.path()), None)
    lora: Lora = field(default_factory=Lora)
    training: Training = field(default_factory=Training)
    tasks: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self, "")
        for name, sections in self.tasks.items():
            _check_task(self, name, sections)

    def check_names(self, names: Sequence[str]) -> None:
        """Raise `RecipeError` if `tasks` names one that is not among `names`."""
        for name in self.tasks:
            if name not in names:
                raise RecipeError(_unknown("tasks.", name, names, "a task of this run"))

    def for_task(self, name: str) -> "TaskSettings":
        """The settings of one task: the recipe's own, with the task's differences."""
        own = self.tasks.get(name, {})
        training = dict(own.get("training", {}))
        for one, other in (("epochs", "steps"), ("steps", "epochs")):
            if training.get(one) is not None:
                training.setdefault(other, None)
        return TaskSettings(
            dataclasses.replace(self.lora, **own.get("lora", {})),
            dataclasses.replace(self.training, **training),
        )

    def json(self) -> dict[str, Any]:
        """The recipe as JSON-able data, from which `make_recipe` makes an equal one."""
        return plain(dataclasses.asdict(self))


class TaskSettings(NamedTuple):
    """What holds for one task."""

    lora: Lora
    training: Training


_SECTIONS = {"lora": Lora, "training": Training}


def make_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from nested names and values, as a YAML or JSON file holds them.

    Raises:
        RecipeError: Names `where`, the key, what was found and what was expected. An unknown key
            is an error too, with the nearest known one.

    """
    try:
        _known(values, Recipe, "")
        flat = dict(values)
        for name, kind in _SECTIONS.items():
            if name in flat:
                section = _mapping(flat[name], name)
                _known(section, kind, f"{name}.")
                flat[name] = kind(**section)
        flat["tasks"] = _mapping(flat.get("tasks", {}), "tasks")
        if "base" not in flat:
            raise RecipeError("base is missing, expected text")
        return Recipe(**flat)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def change(recipe: Recipe, changes: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with other values at dotted keys, such as ``{"lora.r": 16}``.

    Raises:
        RecipeError: As `make_recipe` does.

    """
    values = recipe.json()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if section in _SECTIONS:
            values[section][name] = value
        else:
            values[key] = value
        if key in ("training.epochs", "training.steps") and value is not None:
            other = "steps" if name == "epochs" else "epochs"
            if changes.get(f"training.{other}") is None:
                values["training"][other] = None
    return make_recipe(values, where)


def _check(settings: Any, prefix: str) -> None:
    """Put every checked field through its check."""
    for f in dataclasses.fields(settings):
        check = f.metadata.get("check")
        if check is not None:
            value = _take(check, getattr(settings, f.name), prefix + f.name)
            object.__setattr__(settings, f.name, value)


def _take(check: Check, value: Any, key: str) -> Any:
    try:
        return check.take(value)
    except ValueError:
        raise RecipeError(f"{key} is {shown(value)}, expected {check.expected}") from None


def _check_task(recipe: Recipe, name: str, sections: Any) -> None:
    """One task's differences: known, allowed to differ, and of the right kind."""
    key = f"tasks.{name}"
    for section, values in _mapping(sections, key).items():
        if section not in _SECTIONS:
            raise RecipeError(_unknown(f"{key}.", section, _SECTIONS))
        kind = _SECTIONS[section]
        values = _mapping(values, f"{key}.{section}")
        _known(values, kind, f"{key}.{section}.")
        for f in dataclasses.fields(kind):
            if f.name in values and not f.metadata["per_task"]:
                own = ", ".join(g.name for g in dataclasses.fields(kind) if g.metadata["per_task"])
                raise RecipeError(
                    f"{key}.{section}.{f.name} is given, but is one for all tasks; a task may have "
                    f"its own {own}"
                )
            if f.name in values:
                _take(f.metadata["check"], values[f.name], f"{key}.{section}.{f.name}")
    if recipe.lora.shared_init and "seed" in sections.get("lora", {}):
        raise RecipeError(
            f"{key}.lora.seed is given, but lora.shared_init is true: all tasks start from one A"
        )
    try:
        recipe.for_task(name)
    except RecipeError as error:
        raise RecipeError(f"{key}: {error}") from None


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{key} is {shown(value)}, expected names with values")
    return value


def _known(values: Mapping[str, Any], kind: type, prefix: str) -> None:
    names = [f.name for f in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            raise RecipeError(_unknown(prefix, key, names))


def _unknown(prefix: str, key: Any, names: Iterable[str], what: str = "a setting") -> str:
    key = key if isinstance(key, str) and key.isprintable() and len(key) < 100 else shown(key, 100)
    near = difflib.get_close_matches(key, list(names), 1, 0.5)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"expected one of {', '.join(names)}."
    return f"{prefix}{key} is not {what}: {hint}"


def plain(value: Any) -> Any:
    """As JSON-able data: mappings as dicts and tuples as lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value

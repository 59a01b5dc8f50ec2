"""A whole run: from a recipe to adapters on disk.

Everything that can be refused is refused before the base model's weights are read.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

from jaxtask.adapters.write import check_free
from jaxtask.errors import CheckpointError, RecipeError, TrainingError
from jaxtask.finetune.data.examples import EncodedTask, encode_task
from jaxtask.finetune.data.lengths import longest_allowed, say_plan, with_length
from jaxtask.finetune.data.task_data import find_tasks, read_task
from jaxtask.finetune.data.tokens import Tokens, open_tokenizer
from jaxtask.finetune.models.config import DecoderConfig, EncoderConfig, ModelConfig
from jaxtask.finetune.models.find import base_config, find_base
from jaxtask.finetune.peft_io.provenance import work_folder
from jaxtask.finetune.recipe.settings import Recipe
from jaxtask.finetune.session import Display, Session
from jaxtask.finetune.training.bookkeeping import by_kind, groups
from jaxtask.finetune.training.checkpoint import check_checkpoints
from jaxtask.finetune.training.loop import Outcome
from jaxtask.finetune.training.start import Note, find_starts
from jaxtask.folders import check_ours, new_file
from jaxtask.text_files import read_json

# What one group of tasks leaves in its folder.
STACKS = "stacks.json"
GROUP_FILES = ("metrics.jsonl", "generated.jsonl", "checkpoints/**")
"""All that the work folder of a group of tasks, ``group-N``, may hold."""


def fine_tune(
    recipe: Recipe,
    *,
    overwrite: bool = False,
    resume: bool = False,
    command: str = "",
    display: Display = lambda: nullcontext(lambda view: None),
    note: Note = lambda text: None,
) -> list[Outcome]:
    """Train one LoRA adapter per task on one frozen base model, and write them to `recipe.out`.

    Args:
        recipe: See `jaxtask.finetune.recipe`; `out` and `data` must be set.
        overwrite: Replace adapters, and start over where a run has left checkpoints.
        resume: Resume from the newest checkpoint in the work folder, if there is one. The run must
            be the same; what it has written already is written again.
        command: Recorded with the adapters.
        display: Context manager that shows the progress; entered once for each group of tasks.
        note: Called with sentences that say what each task is trained on and what is unusual,
            before the base model's weights are read.

    Returns:
        The outcome of each task, in the order of their data. `Outcome.scored` has the scores of
        encoders on the dev examples, and those of decoders if the recipe has texts generated, which
        are in ``generated.jsonl`` in the work folder.

    Raises:
        JaxtaskError: Of the kind that says what cannot be used: `RecipeError`, `DataError`,
            `ModelError`, `AdapterError`, `CheckpointError` or `TrainingError`.

    """
    if recipe.out is None:
        raise RecipeError("out is missing, expected a folder for the adapters")
    work = work_folder(recipe)
    folders = find_tasks(recipe.data)
    if not folders:
        raise RecipeError("data is empty, expected folders of tasks")
    resumed = resume and _has_checkpoints(work)
    if not (resume or overwrite) and _has_checkpoints(work):
        raise CheckpointError(
            f"{work}: holds checkpoints of a run; give resume=True to continue from them, "
            "or overwrite=True to start over"
        )
    earlier = [] if resume else _earlier(work)
    for folder in folders:
        check_free(Path(recipe.out) / folder.resolve().name, overwrite or resumed)
    base = find_base(recipe.base)
    config = base_config(base)
    limit = longest_allowed(recipe, config)
    tasks, tokens = _encode(recipe, config, base, folders, limit)
    recipe = with_length(recipe, tasks, limit)
    say_plan(tasks, limit, note)
    kinds = by_kind(recipe, tasks)
    starts = find_starts(recipe, tasks, config, base, note)
    session = Session(recipe, base, tokens, starts)
    outcomes: dict[str, Outcome] = {}
    if not resume:
        for place in earlier:
            shutil.rmtree(place)
    kept = work / STACKS
    sizes = _stack_sizes(kept, resumed, kinds, lambda kind: session.stack_size(kinds[kind]))
    every = [group for kind, same in kinds.items() for group in groups(same, sizes[kind])]
    for n, group in enumerate(every, 1):
        place = work / f"group-{n}"
        for task, outcome in zip(group, session.train(group, place, display), strict=True):
            session.write(task, outcome, command)
            outcomes[task.name] = outcome
    return [outcomes[task.name] for task in tasks]


def _encode(
    recipe: Recipe, config: ModelConfig, base: Path, folders: Sequence[Path], limit: int
) -> tuple[list[EncodedTask], Tokens]:
    """The tasks as token ids, and the tokenizer."""
    data = [read_task(folder) for folder in folders]
    for task in data:
        if (task.kind == "text") != isinstance(config, DecoderConfig):
            able = "text" if isinstance(config, DecoderConfig) else "classification or regression"
            raise TrainingError(
                f"task {task.name} is {task.kind}, but a {config.architecture} model is trained on "
                f"{able}"
            )
    tokens = Tokens(open_tokenizer(recipe.tokenizer or base))
    tasks = [
        encode_task(
            task,
            tokens,
            max_len=limit,
            vocabulary=config.vocabulary,
            prompt=recipe.prompt,
            types=config.types if isinstance(config, EncoderConfig) else 1,
            truncate=recipe.training.truncate,
        )
        for task in data
    ]
    return tasks, tokens


def _stack_sizes(
    file: Path, resumed: bool, kinds: Iterable[str], find: Callable[[str], int]
) -> dict[str, int]:
    """How many tasks of each kind train at once, as `find` finds it, and writes it to `file`.

    A run that is resumed takes what is there: its checkpoints are of these groups, whatever memory
    is free now.
    """
    if resumed and file.exists():
        try:
            found = read_json(file, CheckpointError)
            return {kind: int(found[kind]) for kind in kinds}
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{file}: does not say how many tasks of each kind ({', '.join(kinds)}) train at "
                "once; give overwrite=True to start over"
            ) from error
    sizes = {kind: find(kind) for kind in kinds}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with new_file(file) as draft:
            draft.write(json.dumps(sizes).encode() + b"\n")
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be written: {error.strerror}") from error
    return sizes


def _has_checkpoints(work: Path) -> bool:
    """Whether a run has left any below `work`."""
    return any(work.glob("group-*/checkpoints/*"))


def _earlier(work: Path) -> list[Path]:
    """The folders of an earlier run's checkpoints and logs.

    Raises:
        CheckpointError: One holds something else, so that it cannot be removed.

    """
    places = sorted(work.glob("group-*"))
    for place in places:
        try:
            check_ours(place, GROUP_FILES)
            if (place / "checkpoints").exists():
                check_checkpoints(place / "checkpoints")
        except OSError as error:
            raise CheckpointError(
                f"{place}: cannot be replaced: {error.strerror}; give another folder, work=FOLDER"
            ) from error
    return places

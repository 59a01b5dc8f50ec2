"""What is recorded of a run: beside each adapter, and in checkpoints to tell runs apart."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtask.errors import RecipeError
from jaxtask.finetune.data.examples import EncodedTask
from jaxtask.finetune.recipe.settings import Recipe, plain
from jaxtask.finetune.training.contents import encoded_contents
from jaxtask.finetune.training.loop import Outcome

if TYPE_CHECKING:
    from jaxtask.finetune.training.start import Start

# What may differ when a run is resumed: folders, and how often to look.
_CIRCUMSTANCES = {
    "": ("start", "data", "out", "work"),
    "training": ("checkpoint_every", "log_every", "generate", "generate_tokens"),
}


def work_folder(recipe: Recipe) -> Path:
    """Where logs and checkpoints go: `work`, or beside `out` with ``.work`` at the end.

    Never below `out`, so that ``out/*`` are the adapters and nothing else.

    Raises:
        RecipeError: Neither is given, or `work` lies below `out`.

    """
    if recipe.out is None:
        if recipe.work is None:
            raise RecipeError("out is missing, expected a folder for the adapters")
        return Path(recipe.work)
    out = Path(recipe.out).absolute()
    if recipe.work is None:
        return out.with_name(f"{out.name}.work")
    work = Path(recipe.work).absolute()
    if out == work or out in work.parents:
        raise RecipeError(f"work is {recipe.work!r}, expected a folder that is not in out, {out}")
    return Path(recipe.work)


def identity(
    recipe: Recipe,
    tasks: Sequence[EncodedTask],
    starts: "Mapping[str, Start]",
    base: Mapping[str, str],
) -> dict[str, Any]:
    """What a run depends on: a checkpoint made with anything else belongs to another run.

    `base` is what `base_contents` says.
    """
    values = recipe.json()
    for section, names in _CIRCUMSTANCES.items():
        for name in names:
            del (values[section] if section else values)[name]
    return {
        "recipe": values,
        "data": {task.name: task.sha256 for task in tasks},
        "encoded examples": {task.name: encoded_contents(task) for task in tasks},
        "base model": dict(base),
        "start": {
            task.name: {k: v for k, v in starts[task.name].about.items() if k != "path"}
            for task in tasks
        },
    }


def provenance(
    recipe: Recipe, task: EncodedTask, start: "Start", outcome: Outcome, command: str = ""
) -> dict[str, Any]:
    """What ``jaxtask.json`` says of a task's adapter; JSON-able."""
    settings, record = recipe.for_task(task.name), outcome.record
    seed, shared = settings.lora.seed, settings.lora.shared_init
    path = start.about.get("path")
    lora = replace(start.lora, seed=seed)
    return {
        "task": task.name,
        "kind": task.kind,
        "labels": list(task.labels),
        "command": command,
        "base": recipe.base,
        "dtype": recipe.dtype,
        "prompt": recipe.prompt,
        # Comparisons depend on these: adapters that start from one A have like input sides.
        # What adapters that are trained further started from is known only if it is one for all.
        "seed": seed if path is None else None,
        "shared_init": shared if path is None else path == str(Path(recipe.start or "")) or None,
        "start": dict(start.about),
        "lora": plain(asdict(lora)),
        "training": plain(asdict(settings.training)),
        "data": {
            "sha256": dict(task.sha256),
            "examples": {split: len(examples) for split, examples in task.splits.items()},
            "dropped": dict(task.dropped),
            "truncated": dict(task.truncated),
        },
        "steps": record.steps,
        "ended": record.ended,
        "dev_loss": {
            "before": outcome.loss_before,
            "last": record.dev_loss,
            "best": record.best,
            "best_step": record.best_step,
        },
        "scores": outcome.scored and outcome.scored.json(),
    }

"""What is recorded of a run: beside each adapter, and in checkpoints to tell runs apart."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxtask.errors import RecipeError
from jaxtask.finetune.examples import EncodedTask
from jaxtask.finetune.loop import Outcome
from jaxtask.finetune.recipe import Recipe, plain

# What may be another when a run goes on: where things lie, and how often is looked at them.
_CIRCUMSTANCES = {"": ("data", "out", "work"), "training": ("checkpoint_every", "log_every")}


def work_folder(recipe: Recipe) -> Path:
    """Where logs and checkpoints go: `work`, or beside `out` with ``.work`` at the end.

    Never below `out`, so that ``out/*`` are the adapters and nothing else.

    Raises:
        RecipeError: Neither is given, or `work` lies below `out`.

    """
    if recipe.out is None:
        if recipe.work is None:
            raise RecipeError("out is missing, expected a folder for the adapters.")
        return Path(recipe.work)
    out = Path(recipe.out).absolute()
    if recipe.work is None:
        return out.with_name(f"{out.name}.work")
    work = Path(recipe.work).absolute()
    if out == work or out in work.parents:
        raise RecipeError(f"work is {recipe.work!r}, expected a folder that is not in out, {out}.")
    return Path(recipe.work)


def identity(recipe: Recipe, tasks: Sequence[EncodedTask]) -> dict[str, Any]:
    """What a run depends on: a checkpoint made with anything else belongs to another run."""
    values = recipe.json()
    for section, names in _CIRCUMSTANCES.items():
        for name in names:
            del (values[section] if section else values)[name]
    return {"recipe": values, "data": {task.name: task.sha256 for task in tasks}}


def provenance(
    recipe: Recipe, task: EncodedTask, outcome: Outcome, command: str = ""
) -> dict[str, Any]:
    """What ``jaxtask.json`` says of a task's adapter; JSON-able."""
    settings, record = recipe.for_task(task.name), outcome.record
    return {
        "task": task.name,
        "kind": task.kind,
        "labels": list(task.labels),
        "command": command,
        "base": recipe.base,
        "dtype": recipe.dtype,
        "prompt": recipe.prompt,
        # Comparisons depend on these: adapters that start from one A have like input sides.
        "seed": settings.lora.seed,
        "shared_init": settings.lora.shared_init,
        "lora": plain(asdict(settings.lora)),
        "training": plain(asdict(settings.training)),
        "data": {
            "sha256": dict(task.sha256),
            "examples": {split: len(examples) for split, examples in task.splits.items()},
            "dropped": dict(task.dropped),
        },
        "steps": record.steps,
        "ended": record.ended,
        "dev_loss": {
            "before": outcome.loss_before,
            "last": record.dev_loss,
            "best": record.best,
            "best_step": record.best_step,
        },
    }

"""What is recorded of a run, and where its files go."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.test_batches import encoded
from jaxtask.errors import RecipeError
from jaxtask.finetune.batches import Position
from jaxtask.finetune.bookkeeping import TaskRecord
from jaxtask.finetune.loop import Outcome
from jaxtask.finetune.provenance import identity, provenance, work_folder
from jaxtask.finetune.recipe import Lora, change, make_recipe
from jaxtask.finetune.scores import Scored
from jaxtask.finetune.start import Start

ROOT = Path(__file__).parents[2]
RECIPE = make_recipe(
    {
        "base": "b",
        "out": "runs/adapters",
        "lora": {"seed": 5, "shared_init": False},
        "tasks": {"ner": {"lora": {"r": 2, "seed": 9}, "training": {"lr": 1e-3}}},
    },
    "x",
)


def test_logs_and_checkpoints_are_never_among_the_adapters():
    assert work_folder(RECIPE) == Path("runs/adapters.work").absolute()
    elsewhere = change(RECIPE, {"work": "w"}, "x")
    assert work_folder(elsewhere) == Path("w")
    for bad in ("runs/adapters", "runs/adapters/logs", "./runs/adapters/a/b"):
        with pytest.raises(RecipeError, match=r"work is .* expected a folder that is not in out"):
            work_folder(change(RECIPE, {"work": bad}, "x"))
    with pytest.raises(RecipeError, match="out is missing"):
        work_folder(change(RECIPE, {"out": None}, "x"))


def test_identity_is_what_the_run_depends_on():
    task = encoded("ner")
    starts = {"ner": Start(RECIPE.lora, about={"path": "a", "sha256": {"f": "1"}})}
    same = identity(RECIPE, [task], starts)
    circumstances = {
        "training.log_every": 3,
        "training.checkpoint_every": 9,
        "training.generate": 3,
        "out": "o",
        "work": "w",
        "start": "b",
    }
    moved = {"ner": replace(starts["ner"], about={"path": "b", "sha256": {"f": "1"}})}
    assert identity(change(RECIPE, circumstances, "x"), [task], moved) == same
    other = {"ner": replace(starts["ner"], about={"path": "a", "sha256": {"f": "2"}})}
    assert identity(RECIPE, [task], other) != same
    for key, value in (("lora.r", 3), ("training.seed", 1), ("base", "c"), ("prompt", "plain")):
        assert identity(change(RECIPE, {key: value}, "x"), [task], starts) != same
    assert json.loads(json.dumps(same)) == same


def test_provenance_says_what_holds_for_the_task():
    record = TaskRecord(Position(2, 0), 40, 0.5, 0.4, 30, 1, "finished")
    task = encoded("ner", dev=(3,))
    start = Start(RECIPE.for_task("ner").lora, about={"path": None, "sha256": None})
    scored = Scored(1, {"exact": 0.0}, {"exact": 0.5})
    outcome = Outcome("ner", {}, record, 0.9, scored)
    found = provenance(RECIPE, task, start, outcome, "jaxtask train …")
    assert json.loads(json.dumps(found)) == found
    assert (found["seed"], found["shared_init"], found["lora"]["r"]) == (9, False, 2)
    assert (found["training"]["lr"], found["training"]["epochs"]) == (1e-3, 6)
    assert found["data"]["examples"] == {"train": 5, "dev": 1}
    assert found["dev_loss"] == {"before": 0.9, "last": 0.5, "best": 0.4, "best_step": 30}
    assert (found["steps"], found["ended"], found["command"]) == (40, "finished", "jaxtask train …")
    assert found["scores"] == {"examples": 1, "before": {"exact": 0.0}, "after": {"exact": 0.5}}
    assert found["start"] == {"path": None, "sha256": None}


@pytest.mark.parametrize(("start", "shared"), [("a", True), ("a/", True), (".", None)])
def test_provenance_of_an_adapter_trained_further(start, shared):
    """Its form is its own; the seed of its A is not known, but whether all start from one is."""
    task, record = encoded("ner"), TaskRecord(steps=3, ended="finished")
    own = Lora(r=5, shared_init=False, seed=9)
    given = Start(own, about={"path": "a", "sha256": {"f": "1"}})
    recipe = change(RECIPE, {"start": start}, "x")
    found = provenance(recipe, task, given, Outcome("ner", {}, record, None))
    assert (found["seed"], found["shared_init"], found["scores"]) == (None, shared, None)
    assert (found["lora"]["r"], found["start"]["path"]) == (5, "a")


def test_importing_costs_neither_transformers_nor_orbax():
    modules = [
        f"jaxtask.finetune.{path.stem}"
        for path in (ROOT / "jaxtask" / "finetune").glob("*.py")
        if path.stem in OURS
    ]
    assert len(modules) == len(OURS)
    code = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = ("transformers", "orbax", "torch", "peft", "tokenizers", "rich", "flax", "optax")
    assert not [m for m in done.stdout.split() if m.split(".")[0] in heavy]


# fmt: off
OURS = (
    "batches", "bookkeeping", "checkpoint", "checks", "examples", "gguf_tokenizer",
    "log", "loop", "packing", "parameters", "progress", "provenance", "read", "recipe",
    "recipe_file", "scores", "stop", "task_data", "write",
)

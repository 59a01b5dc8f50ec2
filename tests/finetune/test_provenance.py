"""What is recorded of a run, and where its files go."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.test_batches import encoded
from jaxtask.errors import RecipeError
from jaxtask.finetune.batches import Position
from jaxtask.finetune.bookkeeping import TaskRecord
from jaxtask.finetune.loop import Outcome
from jaxtask.finetune.provenance import identity, provenance, work_folder
from jaxtask.finetune.recipe import change, make_recipe

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
    same = identity(RECIPE, [task])
    circumstances = {
        "training.log_every": 3,
        "training.checkpoint_every": 9,
        "out": "o",
        "work": "w",
    }
    assert identity(change(RECIPE, circumstances, "x"), [task]) == same
    for key, value in (("lora.r", 3), ("training.seed", 1), ("base", "c"), ("prompt", "plain")):
        assert identity(change(RECIPE, {key: value}, "x"), [task]) != same
    assert json.loads(json.dumps(same)) == same


def test_provenance_says_what_holds_for_the_task():
    record = TaskRecord(Position(2, 0), 40, 0.5, 0.4, 30, 1, "finished")
    task = encoded("ner", dev=(3,))
    found = provenance(RECIPE, task, Outcome("ner", {}, record, 0.9), "jaxtask train …")
    assert json.loads(json.dumps(found)) == found
    assert (found["seed"], found["shared_init"], found["lora"]["r"]) == (9, False, 2)
    assert (found["training"]["lr"], found["training"]["epochs"]) == (1e-3, 6)
    assert found["data"]["examples"] == {"train": 5, "dev": 1}
    assert found["dev_loss"] == {"before": 0.9, "last": 0.5, "best": 0.4, "best_step": 30}
    assert (found["steps"], found["ended"], found["command"]) == (40, "finished", "jaxtask train …")


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
    "batches", "bookkeeping", "checkpoint", "checks", "examples", "folders", "gguf_tokenizer",
    "log", "loop", "packing", "parameters", "progress", "provenance", "read", "recipe",
    "recipe_file", "scores", "stop", "task_data", "write",
)

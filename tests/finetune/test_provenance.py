"""What is recorded of a run, and where its files go."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.test_batches import encoded
from jaxtask.errors import ModelError, RecipeError
from jaxtask.finetune.data.batches import Position
from jaxtask.finetune.data.examples import Example
from jaxtask.finetune.data.task_data import Line
from jaxtask.finetune.evaluation.scores import Scored
from jaxtask.finetune.peft_io.provenance import identity, provenance, work_folder
from jaxtask.finetune.recipe.settings import Lora, change, make_recipe
from jaxtask.finetune.training.bookkeeping import TaskRecord
from jaxtask.finetune.training.contents import base_contents, encoded_contents
from jaxtask.finetune.training.loop import Outcome
from jaxtask.finetune.training.start import Start
from shell import python

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
BASE = {"config.json": "sha256 1", "model.safetensors": "sha256 2"}


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
    same = identity(RECIPE, [task], starts, BASE)
    circumstances = {
        "training.log_every": 3,
        "training.checkpoint_every": 9,
        "training.generate": 3,
        "out": "o",
        "work": "w",
        "start": "b",
    }
    moved = {"ner": replace(starts["ner"], about={"path": "b", "sha256": {"f": "1"}})}
    assert identity(change(RECIPE, circumstances, "x"), [task], moved, BASE) == same
    other = {"ner": replace(starts["ner"], about={"path": "a", "sha256": {"f": "2"}})}
    assert identity(RECIPE, [task], other, BASE) != same
    for key, value in (("lora.r", 3), ("training.seed", 1), ("base", "c"), ("prompt", "plain")):
        assert identity(change(RECIPE, {key: value}, "x"), [task], starts, BASE) != same
    assert identity(RECIPE, [task], starts, {**BASE, "config.json": "sha256 3"}) != same
    assert identity(RECIPE, [encoded("ner", [9, 5, 7, 4, 8])], starts, BASE) != same
    assert json.loads(json.dumps(same)) == same


CHANGES = {
    "an id": {"tokens": np.array([5, 6, 8], np.int32)},
    "one id more": {"tokens": np.array([5, 6, 7, 7], np.int32)},
    "what is learned": {"prompt": 2},
    "token types": {"types": np.array([0, 1, 1], np.int32)},
    "a label": {"line": Line("f, line 1", "text", label=1)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_encoded_contents_are_all_that_batches_are_made_of(change):
    one = Example(np.array([5, 6, 7], np.int32), 1, Line("f, line 1", "text"))
    task = replace(encoded("ner"), splits={"train": (one, one), "dev": ()})
    said = encoded_contents(task)
    assert said["train"].startswith("2 examples, 6 tokens, sha256 ")
    other = replace(task, splits={"train": (one, replace(one, **CHANGES[change])), "dev": ()})
    assert encoded_contents(other)["train"] != said["train"]
    assert encoded_contents(other)["dev"] == said["dev"]
    # Where a text came from does not matter, nor do texts with the same ids.
    moved = replace(one, tokens=one.tokens.copy(), line=Line("g, line 9", "Text"))
    assert encoded_contents(replace(task, splits={"train": (one, moved), "dev": ()})) == said


def test_base_contents_are_all_bytes_of_the_files_that_are_read(tmp_path):
    for name in ("config.json", "model.safetensors", "README.md", "tokenizer.json"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    first = base_contents(tmp_path)
    assert list(first) == ["config.json", "model.safetensors"]
    (tmp_path / "README.md").write_text("x")
    assert base_contents(tmp_path) == first
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[7777] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    changed = base_contents(tmp_path)
    assert changed["config.json"] == first["config.json"]
    assert changed["model.safetensors"] != first["model.safetensors"]
    (tmp_path / "m.gguf").write_bytes(b"x")
    assert list(base_contents(tmp_path / "m.gguf")) == ["m.gguf"]
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json: cannot be read: No such file"):
        base_contents(tmp_path)


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


@pytest.mark.process
def test_importing_costs_neither_transformers_nor_orbax():
    modules = [f"jaxtask.finetune.{name}" for name in LIGHT]
    code = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    loaded = python(code).split()
    heavy = ("transformers", "orbax", "torch", "peft", "tokenizers", "rich", "flax", "optax")
    assert not [m for m in loaded if m.split(".")[0] in heavy]


# fmt: off
LIGHT = (
    "data.batches", "data.examples", "data.gguf_tokenizer", "data.packing", "data.task_data",
    "evaluation.scores", "peft_io.provenance", "peft_io.read", "peft_io.write", "recipe.checks",
    "recipe.files", "recipe.settings", "training.bookkeeping", "training.checkpoint",
    "training.contents", "training.log", "training.loop", "training.parameters",
    "training.progress", "training.stop",
)

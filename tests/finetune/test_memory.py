"""How many tasks fit: by numbers, by the compiled step, and in a run."""

import json

import jax
import numpy as np
import pytest

import jaxtask as jt
from finetune.data_files import asked, byte_tokenizer, write_task
from finetune.tiny import LLAMA, config, lora, model, numbers, text_batch
from jaxtask.errors import CheckpointError, TrainingError
from jaxtask.finetune import session
from jaxtask.finetune.models.load import random_model, save_model
from jaxtask.finetune.recipe.settings import Lora, change, make_recipe
from jaxtask.finetune.training.memory import free_bytes, largest_stack, step_bytes
from jaxtask.finetune.training.step import StepOptions, init_state, make_train_step


@pytest.mark.parametrize(
    ("tasks", "free", "unit", "expected", "compiled"),
    [
        (10, 200, 1, 10, [10]),  # 100 + 10 a task
        (10, 199, 1, 5, [10, 5]),
        (10, 140, 1, 4, [10, 5, 4]),
        (10, 110, 1, 1, [10, 5, 3, 2, 1]),
        (7, 160, 1, 4, [7, 4]),  # 4 + 3 rather than 6 + 1
        (8, 140, 4, 4, [8, 4]),
        (7, 160, 2, 4, [7, 4]),  # 2 does not divide 7
    ],
)
def test_largest_stack(tasks, free, unit, expected, compiled):
    asked = []

    def need(number):
        asked.append(number)
        return 100 + 10 * number

    assert largest_stack(need, tasks, free, unit) == expected
    assert asked == compiled


def test_not_even_one_fits():
    with pytest.raises(TrainingError, match=r"1 task at once needs 3\.00 GB .* 2\.00 GB are free"):
        largest_stack(lambda number: 3_000_000_000 * number, 5, 2_000_000_000)
    with pytest.raises(TrainingError, match=r"2 tasks at once"):
        largest_stack(lambda number: number, 4, 1, unit=2)


def test_free_memory_is_some():
    assert 2**20 < free_bytes() < 2**50


def test_devices_say_what_is_theirs(monkeypatch):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 1000, "bytes_in_use": 400}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert free_bytes() == 540


@pytest.mark.slow
def test_what_a_step_holds():
    """At least the states of its tasks and gradients; of the base, nothing."""
    base = model(LLAMA, vocab_size=4096)
    found = {}
    for tasks in (1, 4):
        specs = [Lora(r=2)] * tasks
        state = init_state(lora(specs, base.config))
        batch = text_batch(np.random.default_rng(0), [[9]] * tasks, 12)
        step = make_train_step(base, StepOptions())
        arguments = (state, numbers(specs, base.config), batch, np.ones(tasks, bool))
        compiled = step.func.lower(*step.args, *arguments).compile()
        found[tasks] = step_bytes(compiled, step.args)
        least = sum(x.nbytes for x in jax.tree.leaves((state, batch)))
        assert least < found[tasks] < least + compiled.memory_analysis().temp_size_in_bytes + 10_000
    assert found[1] < found[4]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stacks")
    save_model(random_model(config(LLAMA, vocab_size=512, num_hidden_layers=1), 0), folder / "base")
    byte_tokenizer(pad_token="</s>").save_pretrained(folder / "base")
    for n in range(3):
        write_task(folder / "data" / f"task{n}", [asked(m) for m in range(2)])
    return folder


def recipe_in(home, out, **training):
    settings = {"max_len": 64, "steps": 1, **training}
    fields = {"base": str(home / "base"), "dtype": "float32", "data": [str(home / "data" / "*")]}
    fields |= {"lora": {"r": 2, "dropout": 0}, "training": settings, "out": str(out)}
    return make_recipe(fields, "test")


@pytest.mark.slow
def test_a_run_is_cut_to_memory(home, tmp_path, monkeypatch):
    asked = []

    def bytes_of(compiled, base):
        asked.append(compiled.memory_analysis().argument_size_in_bytes)
        return 100 - 50 * (len(asked) - 1)

    monkeypatch.setattr(session, "step_bytes", bytes_of)
    monkeypatch.setattr(session, "free_bytes", lambda: 70)
    recipe = recipe_in(home, tmp_path / "out")
    outcomes = jt.fine_tune(recipe)
    assert [outcome.name for outcome in outcomes] == ["task0", "task1", "task2"]
    work = tmp_path / "out.work"
    assert json.loads((work / "stacks.json").read_text()) == {"text": 2}
    assert sorted(p.name for p in work.glob("group-*")) == ["group-1", "group-2"]
    assert len(asked) == 2
    # What goes on keeps its groups, whatever is free now, and says so if it cannot know them.
    monkeypatch.setattr(session, "free_bytes", lambda: 1000)
    assert len(jt.fine_tune(recipe, resume=True)) == 3
    assert len(asked) == 2
    (work / "stacks.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"stacks\.json: does not say how many .*text"):
        jt.fine_tune(recipe, resume=True)


@pytest.mark.slow
def test_a_number_is_taken_as_it_is(home, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "free_bytes", lambda: 0)
    with pytest.raises(TrainingError, match=r"1 task at once needs .* 0\.00 GB are free"):
        jt.fine_tune(recipe_in(home, tmp_path / "auto"))
    recipe = change(recipe_in(home, tmp_path / "two"), {"training.stack": 2}, "test")
    jt.fine_tune(recipe)
    assert json.loads((tmp_path / "two.work" / "stacks.json").read_text()) == {"text": 2}

"""Where training starts: new parameters, adapters, heads; and what is refused."""

import dataclasses
import json
from functools import partial

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetune.adapters import random_parameters
from finetune.tiny import LLAMA, ROBERTA, config
from jaxtask.errors import AdapterError, RecipeError, TrainingError
from jaxtask.finetune.data.examples import EncodedTask
from jaxtask.finetune.models.encoder import head_shapes
from jaxtask.finetune.models.load import load_head, random_model, save_model
from jaxtask.finetune.peft_io.write import AdapterForm, write_adapter
from jaxtask.finetune.recipe.settings import Lora, change, make_recipe
from jaxtask.finetune.training.lora import init_head, init_lora, ranks, scales
from jaxtask.finetune.training.parameters import take_task
from jaxtask.finetune.training.start import find_starts, initial, seeded_lora
from jaxtask.patterns import Patterns

DECODER, ENCODER = config(LLAMA), config(ROBERTA)
RECIPE = make_recipe(
    {"base": "models/tiny", "out": "out", "lora": {"r": 8, "dropout": 0.25, "seed": 4}}, "test"
)
QV = {"r": 3, "alpha": 5, "rslora": True, "targets": ("q_proj", "v_proj"), "dropout": 0.1}


def task(name, labels=()):
    kind = "classification" if labels else "text"
    return EncodedTask(name, kind, tuple(labels), {}, {}, {})


def write(folder, shape, classes=None, seed=0, base="models/tiny", **lora):
    """A random adapter; what it holds."""
    spec = Lora(**lora)
    head = {} if classes is None else head_shapes(shape, classes)
    parameters = random_parameters(ranks(spec, shape), shape.linears, head, seed)
    form = AdapterForm(base, spec, ranks(spec, shape), shape.layer_name, head)
    write_adapter(folder, parameters, form, {})
    return parameters


def start_from(folder, tasks, shape=DECODER, base=None, notes=None, **changes):
    recipe = change(RECIPE, {"start": str(folder), **changes}, "test")
    note = (lambda text: None) if notes is None else notes.append
    return find_starts(recipe, tasks, shape, base or folder, note)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for module, leaves in expected.items():
        for name, leaf in leaves.items():
            np.testing.assert_array_equal(found[module][name], leaf)


def test_one_adapter_for_all_tasks(tmp_path):
    written = write(tmp_path / "a", DECODER, **QV)
    starts = start_from(tmp_path / "a", [task("one"), task("two")])
    parameters = initial(list(starts.values()), DECODER)
    for t, start in enumerate(starts.values()):
        assert_same(take_task(parameters, t), written)
        # Its own form; dropout and seed, which are no part of it, as the recipe says.
        assert start.lora == Lora(**{**QV, "dropout": 0.25, "seed": 4})
        assert start.about["path"] == str(tmp_path / "a")
        assert set(start.about["sha256"]) == {"adapter_config.json", "adapter_model.safetensors"}
    scale = scales([start.lora for start in starts.values()], DECODER)
    np.testing.assert_allclose(scale["self_attn.q_proj"], 5 / np.sqrt(3), rtol=1e-6)


def test_an_adapter_each(tmp_path):
    """Of different ranks and modules: padded together, as they were apart."""
    one = write(tmp_path / "one", DECODER, seed=1, r=2, targets=("q_proj",))
    two = write(tmp_path / "two", DECODER, seed=2, r=4, targets=r".*\.1\.mlp\.up_proj")
    starts = start_from(tmp_path, [task("two"), task("one")])
    parameters = initial(list(starts.values()), DECODER)
    assert parameters["self_attn.q_proj"]["A"].shape == (3, 2, 24, 2)
    for t, own in enumerate((two, one)):
        alone = take_task(parameters, t)
        for module, leaves in own.items():
            rank = leaves["A"].shape[-1]
            np.testing.assert_array_equal(alone[module]["A"][..., :rank], leaves["A"])
            np.testing.assert_array_equal(alone[module]["B"][:, :rank], leaves["B"])
        idle = (set(alone) - set(own)).pop()
        assert not alone[idle]["A"].any()
    with pytest.raises(AdapterError, match=r"neither adapter_config.json, .* nor six/adapter_con"):
        start_from(tmp_path, [task("one"), task("six")])


def test_targets_that_mean_more_in_peft(tmp_path):
    """A name that matches nothing here, as PEFT allows, and a prefix that the base has not."""
    written = write(tmp_path / "a", DECODER, **QV)
    file = tmp_path / "a" / "adapter_config.json"
    fields = json.loads(file.read_text())
    fields["target_modules"] = ["q_proj", "v_proj", "c_attn"]
    file.write_text(json.dumps(fields))
    (start,) = start_from(tmp_path / "a", [task("t")]).values()
    assert len(start.lora.targets) == 6
    assert start.lora.targets[0] == "model.layers.0.self_attn.q_proj"
    assert_same(take_task(initial([start], DECODER), 0), written)


def test_heads_go_on(tmp_path):
    form = {"r": 2, "targets": ("query",)}
    written = write(tmp_path / "a", ENCODER, 3, **form)
    model = tmp_path / "model"
    save_model(random_model(ENCODER, 0), model)
    labelled = [task("t", "abc")]
    (start,) = start_from(tmp_path / "a", labelled, ENCODER, model).values()
    assert start.about["head"] == "the adapter's"
    assert_same(take_task(initial([start], ENCODER), 0), written)
    # Anew, if that is what is wanted.
    (start,) = start_from(tmp_path / "a", labelled, ENCODER, model, head="new").values()
    assert (start.head, start.about["head"]) == (None, "new")
    parameters = take_task(initial([start], ENCODER), 0)
    fresh = take_task(init_head([start.lora], ENCODER, [3]), 0)
    assert_same({name: parameters[name] for name in fresh}, fresh)
    with pytest.raises(AdapterError, match=r"out_proj.weight' has shape \(3, 24\), expected \(2,"):
        start_from(tmp_path / "a", [task("t", "ab")], ENCODER, model)
    # An adapter that was saved without its head.
    bare = write(tmp_path / "bare", ENCODER, **form)
    (start,) = start_from(tmp_path / "bare", labelled, ENCODER, model).values()
    assert start.about["head"] == "new"
    parameters = take_task(initial([start], ENCODER), 0)
    assert_same({name: parameters[name] for name in bare}, bare)


@pytest.mark.parametrize("kind", ["RobertaForSequenceClassification", "RobertaForMultipleChoice"])
def test_the_base_has_a_head(tmp_path, kind):
    model = tmp_path / "model"
    save_model(random_model(ENCODER, 0), model)
    rng = np.random.default_rng(0)
    head = {}
    for name, (d_in, d_out) in head_shapes(ENCODER, 2).items():
        head[f"{name}.weight"] = rng.standard_normal((d_out, d_in)).astype("f")
        head[f"{name}.bias"] = rng.standard_normal(d_out).astype("f")
    file = model / "model.safetensors"
    save_file(load_file(file) | head, file, metadata={"format": "pt"})
    fields = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**fields, "architectures": [kind]}))
    if kind == "RobertaForMultipleChoice":
        assert load_head(model, ENCODER) is None
        return
    recipe, notes = change(RECIPE, {"lora.targets": ["query"]}, "test"), []
    tasks = [task("two", "ab"), task("three", "abc"), task("value")]
    starts = find_starts(recipe, tasks, ENCODER, model, notes.append)
    assert [start.about["head"] for start in starts.values()] == ["the base's", "new", "new"]
    assert [note.partition(":")[0] for note in notes] == ["task three", "task value"]
    assert "has 2 scores, the task needs 3: it gets a new head" in notes[0]
    parameters = initial(list(starts.values()), ENCODER)
    for name, (_, d_out) in head_shapes(ENCODER, 2).items():
        kernel = np.asarray(parameters[name]["kernel"])
        np.testing.assert_array_equal(kernel[0, :, :d_out], head[f"{name}.weight"].T)
        assert np.abs(kernel[1]).max() < 0.1  # drawn, not copied
    new = find_starts(change(recipe, {"head": "new"}, "test"), tasks, ENCODER, model)
    assert [start.about["head"] for start in new.values()] == ["new"] * 3


def test_without_a_start_all_is_as_the_recipe_says():
    tasks = [task("one"), task("two")]
    recipe = change(RECIPE, {"tasks": {"two": {"lora": {"r": 2}}}}, "test")
    starts = find_starts(recipe, tasks, DECODER, None)
    loras = [seeded_lora(recipe, name) for name in ("one", "two")]
    assert [start.lora for start in starts.values()] == loras
    found, expected = initial(list(starts.values()), DECODER), init_lora(loras, DECODER)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))
    assert starts["one"].about == {"path": None, "sha256": None}


def test_what_cannot_be_gone_on_from(tmp_path):
    write(tmp_path / "a", DECODER, base="org/other", **QV)
    with pytest.raises(AdapterError, match=r"on the base model 'org/other', expected 'models/tiny"):
        start_from(tmp_path / "a", [task("t")])
    write(tmp_path / "b", DECODER, **QV)
    smaller = dataclasses.replace(DECODER, layers=2)
    with pytest.raises(AdapterError, match="which the base model has not: it has 2 layers"):
        start_from(tmp_path / "b", [task("t")], smaller)
    for out in (tmp_path / "b", tmp_path):
        with pytest.raises(RecipeError, match=r"start is .* expected a folder that is not in out"):
            start_from(tmp_path / "b", [task("t")], out=str(out))


@pytest.mark.parametrize(
    "change",
    [
        {"lora_dropout": "a"},
        {"lora_dropout": 7},
        {"r": 10**30},
        {"lora_alpha": []},
        {"target_modules": {}},
        {"rank_pattern": {"(": 3}},
        {"alpha_pattern": {"q_proj": "x"}},
        {"base_model_name_or_path": 7},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_of_an_adapter_that_make_no_sense(tmp_path, change):
    write(tmp_path / "a", DECODER, **QV)
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(AdapterError, match=str(tmp_path)) as found:
        start_from(tmp_path / "a", [task("t")])
    assert "\n" not in str(found.value)


def test_numbers_of_an_adapter_that_are_none(tmp_path):
    write(tmp_path / "a", ENCODER, 3, r=2, targets=("query",))
    file = tmp_path / "a" / "adapter_model.safetensors"
    save_model(random_model(ENCODER, 0), tmp_path / "model")
    tensors = load_file(file)
    for part in ("query.lora_B.weight", "classifier.dense.bias"):
        name = next(name for name in tensors if name.endswith(part))
        save_file({**tensors, name: np.full_like(tensors[name], np.nan)}, file)
        with pytest.raises(AdapterError, match=r"holds (NaN|48 value)"):
            start_from(tmp_path / "a", [task("t", "abc")], ENCODER, tmp_path / "model")


@pytest.mark.parametrize("shared", [True, False])
def test_expressions_of_all_tasks_have_one_budget(monkeypatch, shared):
    """Each takes a while, and ends. What all tasks share is matched once, however many they are."""
    short = partial(Patterns, seconds=0.1)
    keys = {f"t{n}": rf"((a|[a-z_.0-9])+)+[A-Z]|{n}" for n in range(100)}
    if shared:
        keys = dict.fromkeys(keys, keys["t0"])
        short = partial(Patterns, seconds=1.5)
    monkeypatch.setattr("jaxtask.finetune.training.start.Patterns", short)
    own = {name: {"lora": {"alpha_pattern": {key: 3}}} for name, key in keys.items()}
    recipe = change(RECIPE, {"tasks": own}, "test")
    given = recipe, [task(name) for name in keys], DECODER, None
    if shared:
        assert len(find_starts(*given)) == 100
    else:
        with pytest.raises(TrainingError, match=r"^alpha_pattern\[.*takes? too long"):
            find_starts(*given)


def test_expressions_of_all_tasks_have_one_time(monkeypatch):
    made = []

    class Spy(Patterns):
        def __init__(self, *given):
            made.append(self)
            super().__init__(*given)

    monkeypatch.setattr("jaxtask.finetune.training.lora.Patterns", Spy)
    monkeypatch.setattr("jaxtask.finetune.training.start.Patterns", Spy)
    recipe = change(RECIPE, {"lora.targets": ".*_proj", "lora.rank_pattern": {"q_proj": 2}}, "test")
    find_starts(recipe, [task(name) for name in "abc"], DECODER, "base", lambda text: None)
    assert len(made) == 1
    for take in (scales, init_lora):
        made.clear()
        take([recipe.lora] * 3, DECODER)
        assert len(made) == 1

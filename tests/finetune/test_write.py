"""Adapters on disk: what jaxtask reads back is what was trained, and what is read can go on."""

import dataclasses
import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetune.adapters import (
    ENCODER,
    HEAD,
    LAYERS,
    LINEARS,
    decoder_form,
    encoder_form,
    even,
    random_parameters,
)
from jaxtask.adapters import ModuleKey, load_adapters
from jaxtask.errors import AdapterError, TrainingError
from jaxtask.finetune.peft_io.read import read_adapter
from jaxtask.finetune.peft_io.write import write_adapter
from jaxtask.finetune.training.parameters import stack_tasks, take_task
from real_data import real_data


def assert_trees_equal(left, right):
    assert set(left) == set(right)
    for module in left:
        assert set(left[module]) == set(right[module])
        for name in left[module]:
            a, b = left[module][name], right[module][name]
            assert a.dtype == b.dtype
            assert np.array_equal(a, b), (module, name)


def deltas(parameters, ranks, scale):
    """ΔW = s·(A·B)ᵀ in float64, by (layer, module)."""
    found = {}
    for module, row in ranks.items():
        for layer, rank in enumerate(row):
            if rank:
                A, B = (parameters[module][n][layer].astype(np.float64) for n in "AB")
                found[ModuleKey(layer, module)] = scale(layer, module, rank) * (A @ B).T
    return found


@pytest.mark.parametrize("rslora", [False, True])
def test_jaxtask_reads_the_trained_update(tmp_path, rslora):
    # The first match in order counts, also over a longer one; ranks may differ by layer.
    patterns = {
        "rank_pattern": {r"layers\.1\.self_attn\.q_proj": 2, "v_proj": 3},
        "alpha_pattern": {"v_proj": 5, r"layers\.0\..*": 7},
    }
    ranks = even(4)
    ranks["self_attn.q_proj"][1] = 2
    ranks["self_attn.v_proj"][:] = 3
    form = decoder_form(ranks, rslora=rslora, **patterns)
    parameters = random_parameters(ranks, room=2)
    write_adapter(tmp_path / "ner", parameters, form, {})

    def scale(layer, module, rank):
        alpha = 5 if module.endswith("v_proj") else 7 if layer == 0 else 8
        return alpha / (np.sqrt(rank) if rslora else rank)

    (adapter,) = load_adapters(tmp_path / "ner").adapters
    expected = deltas(parameters, ranks, scale)
    assert set(adapter.modules) == set(expected)
    for key, delta in expected.items():
        assert adapter.modules[key].rank == ranks[key.module][key.layer]
        np.testing.assert_allclose(adapter.load(key).dense(), delta, rtol=1e-12, atol=1e-12)
    assert adapter.provenance["notes"] == []
    assert adapter.base_model == "org/base"


def test_files_of_a_language_model(tmp_path):
    form = decoder_form(dropout=0.05)
    write_adapter(tmp_path / "t", random_parameters(form.ranks), form, {"seed": 3, "task": "t"})
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "jaxtask.json",
        "t",
    ]
    config = json.loads((tmp_path / "t" / "adapter_config.json").read_text())
    expected = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.05, "task_type": "CAUSAL_LM"}
    assert expected.items() <= config.items()
    assert config["target_modules"] == ["q_proj", "v_proj", "down_proj"]
    assert config["modules_to_save"] is None
    tensors = load_file(tmp_path / "t" / "adapter_model.safetensors")
    assert len(tensors) == 2 * 3 * LAYERS
    name = "base_model.model.model.layers.2.mlp.down_proj"
    assert tensors[f"{name}.lora_A.weight"].shape == (4, 20)
    assert tensors[f"{name}.lora_B.weight"].shape == (12, 4)
    about = json.loads((tmp_path / "t" / "jaxtask.json").read_text())
    assert {"format": "jaxtask adapter 1", "seed": 3, "task": "t"}.items() <= about.items()


def test_files_of_a_classifier(tmp_path):
    form = encoder_form()
    parameters = random_parameters(form.ranks, ENCODER, HEAD)
    # Trained beside a task with more classes: columns that are not this task's.
    wider = np.full((8, 2), 9, np.float32)
    kernel = parameters["classifier.out_proj"]["kernel"]
    parameters["classifier.out_proj"] = {
        "kernel": np.concatenate([kernel, wider], axis=1),
        "bias": np.append(parameters["classifier.out_proj"]["bias"], [9, 9]),
    }
    write_adapter(tmp_path / "t", parameters, form, {})
    config = json.loads((tmp_path / "t" / "adapter_config.json").read_text())
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["classifier"])
    tensors = load_file(tmp_path / "t" / "adapter_model.safetensors")
    weight = tensors["base_model.model.classifier.out_proj.weight"]
    assert np.array_equal(weight, kernel.T)
    assert tensors["base_model.model.classifier.out_proj.bias"].shape == (3,)
    assert "base_model.model.roberta.encoder.layer.0.attention.self.query.lora_A.weight" in tensors
    (adapter,) = load_adapters(tmp_path / "t").adapters
    assert len(adapter.modules) == 2 * LAYERS


@pytest.mark.parametrize(
    "targets", [r"model\.layers\.[01]\..*_proj", ("dense", "query"), ("classifier.dense",)]
)
def test_targets_that_peft_would_take_otherwise_are_written_in_full(tmp_path, targets):
    ranks = {"self_attn.q_proj": np.array([4, 4, 0])}
    form = decoder_form(ranks, targets=targets)
    write_adapter(tmp_path / "t", random_parameters(ranks), form, {})
    config = json.loads((tmp_path / "t" / "adapter_config.json").read_text())
    names = [f"model.layers.{n}.self_attn.q_proj" for n in (0, 1)]
    assert config["target_modules"] == names
    assert len(load_file(tmp_path / "t" / "adapter_model.safetensors")) == 4


def test_what_is_written_can_be_trained_further(tmp_path):
    ranks = even(4)
    ranks["mlp.down_proj"][:2] = 0
    ranks["self_attn.v_proj"][:] = 6
    form = decoder_form(ranks, rank_pattern={"v_proj": 6}, alpha_pattern={"q_proj": 3})
    parameters = random_parameters(ranks)
    write_adapter(tmp_path / "t", parameters, form, {})
    stored = read_adapter(tmp_path / "t", LINEARS, LAYERS)
    assert_trees_equal(stored.parameters, parameters)
    assert {m: r.tolist() for m, r in stored.ranks.items()} == {
        m: r.tolist() for m, r in ranks.items()
    }
    assert stored.lora == dataclasses.replace(form.lora, shared_init=False)


def test_a_classifier_can_be_trained_further(tmp_path):
    form = encoder_form()
    parameters = random_parameters(form.ranks, ENCODER, HEAD)
    write_adapter(tmp_path / "t", parameters, form, {})
    stored = read_adapter(tmp_path / "t", ENCODER, LAYERS, HEAD)
    assert_trees_equal(stored.parameters, parameters)
    with pytest.raises(AdapterError, match=r"'base_model\.model\.classifier\.\S+' would be lost"):
        read_adapter(tmp_path / "t", ENCODER, LAYERS)
    wider = {**HEAD, "classifier.out_proj": (8, 4)}
    with pytest.raises(AdapterError, match=r"out_proj\.weight' has shape \(3, 8\), expected \(4,"):
        read_adapter(tmp_path / "t", ENCODER, LAYERS, wider)
    with pytest.raises(AdapterError, match=r"holds no 'base_model\.model\.score\.weight'"):
        read_adapter(tmp_path / "t", ENCODER, LAYERS, {**HEAD, "score": (8, 2)})


def test_real_adapter_goes_on_unchanged(tmp_path):
    """A published RoBERTa adapter, in and out again: the same bytes."""
    source = real_data("adapters") / "roberta-base-r8-qv-mrpc-ckpt230"
    wide = {"attention.self.query": (768, 768), "attention.self.value": (768, 768)}
    stored = load_file(source / "adapter_model.safetensors")
    head = {"classifier.dense": (768, 768), "classifier.out_proj": (768, 2)}
    head = head if any("classifier" in name for name in stored) else {}
    adapter = read_adapter(source, wide, 12, head)
    form = encoder_form()
    form = dataclasses.replace(form, lora=adapter.lora, ranks=adapter.ranks, head=head)
    write_adapter(tmp_path / "again", adapter.parameters, form, {})
    again = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert set(again) == set(stored)
    for name, tensor in stored.items():
        assert again[name].dtype == tensor.dtype
        assert again[name].tobytes() == np.ascontiguousarray(tensor).tobytes()


@pytest.mark.parametrize(
    ("linears", "layers", "said"),
    [
        ({"self_attn.q_proj": (12, 10)}, LAYERS, r"adapts '.*mlp\.down_proj', which the base"),
        (LINEARS, 2, r"adapts '.*layers\.2\.\S+', which the base model has not: it has 2 layers"),
        ({**LINEARS, "self_attn.q_proj": (12, 12)}, LAYERS, r"maps 12 to 10 .*expected 12 to 12"),
    ],
)
def test_adapters_of_other_models_are_refused(tmp_path, linears, layers, said):
    form = decoder_form()
    write_adapter(tmp_path / "t", random_parameters(form.ranks), form, {})
    with pytest.raises(AdapterError, match=said):
        read_adapter(tmp_path / "t", linears, layers)


def test_adapters_that_are_more_than_lora_are_refused(tmp_path):
    form = decoder_form()
    write_adapter(tmp_path / "t", random_parameters(form.ranks), form, {})
    file = tmp_path / "t" / "adapter_config.json"
    config = json.loads(file.read_text())
    for change, said in (
        ({"use_dora": True}, "use_dora"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens is set"),
        ({"rank_pattern": {"q_proj": 3}}, r"q_proj' has rank 4, but adapter_config\.json says 3"),
    ):
        file.write_text(json.dumps({**config, **change}))
        with pytest.raises(AdapterError, match=said):
            read_adapter(tmp_path / "t", LINEARS, LAYERS)
    file.write_text(json.dumps(config))
    weights = tmp_path / "t" / "adapter_model.safetensors"
    save_file({k: v.astype(np.float64) for k, v in load_file(weights).items()}, weights)
    with pytest.raises(AdapterError, match="stored as float64"):
        read_adapter(tmp_path / "t", LINEARS, LAYERS)


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    form = decoder_form()
    parameters = random_parameters(form.ranks)
    write_adapter(tmp_path / "t", parameters, form, {"run": 1})
    with pytest.raises(AdapterError, match="exists; give overwrite=True"):
        write_adapter(tmp_path / "t", parameters, form, {"run": 2})
    with pytest.raises(TypeError):
        write_adapter(tmp_path / "t", parameters, form, {"run": {2}}, overwrite=True)
    bad = random_parameters(form.ranks)
    bad["mlp.down_proj"]["B"][1, 0, 0] = np.nan
    with pytest.raises(TrainingError, match=r"layers\.1\.mlp\.down_proj\.lora_B\.weight' holds"):
        write_adapter(tmp_path / "new", bad, form, {})
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
    about = json.loads((tmp_path / "t" / "jaxtask.json").read_text())
    assert about["run"] == 1
    write_adapter(tmp_path / "t", parameters, form, {"run": 2}, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
    assert json.loads((tmp_path / "t" / "jaxtask.json").read_text())["run"] == 2
    (tmp_path / "other").mkdir()
    with pytest.raises(
        AdapterError, match=r"is not an adapter that jaxtask wrote .*; it is left alone"
    ):
        write_adapter(tmp_path / "other", parameters, form, {}, overwrite=True)


def test_a_full_disk_leaves_the_adapter_before(small_disk):
    form = decoder_form()
    write_adapter(small_disk / "t", random_parameters(form.ranks), form, {"run": 1})
    before = (small_disk / "t" / "adapter_model.safetensors").read_bytes()
    (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - 8192))
    with pytest.raises(AdapterError, match=r"disk/t: cannot be written: .*No space left"):
        write_adapter(
            small_disk / "t", random_parameters(form.ranks), form, {"run": 2}, overwrite=True
        )
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "t"]
    assert (small_disk / "t" / "adapter_model.safetensors").read_bytes() == before


def test_tasks_together_and_alone():
    small, large = even(2), {**even(4), "mlp.down_proj": np.array([0, 1, 3])}
    del small["self_attn.v_proj"]
    tasks = [
        random_parameters(ranks, head={"c": (4, classes)}, seed=classes)
        for ranks, classes in ((small, 2), (large, 5))
    ]
    together = stack_tasks(tasks)
    assert together["self_attn.q_proj"]["A"].shape == (LAYERS, 2, 12, 4)
    assert together["self_attn.q_proj"]["B"].shape == (LAYERS, 2, 4, 10)
    assert together["c"]["kernel"].shape == (2, 4, 5)
    assert together["c"]["bias"].shape == (2, 5)
    assert not together["self_attn.v_proj"]["A"][:, 0].any()
    for t, task in enumerate(tasks):
        alone = take_task(together, t)
        for module, leaves in task.items():
            for name, leaf in leaves.items():
                found = alone[module][name]
                part = found[tuple(map(slice, leaf.shape))]
                assert np.array_equal(part, leaf)
                assert np.count_nonzero(found) == np.count_nonzero(leaf)

"""PEFT files that are refused, and what is taken of them on request."""

import ml_dtypes
import numpy as np
import pytest

from adapters.adapter_files import PREFIX, WEIGHTS, peft_tensors
from jaxtask.adapters import ModuleKey, load_adapters
from jaxtask.errors import AdapterError

Q0, Q1 = ModuleKey(0, "self_attn.q_proj"), ModuleKey(1, "self_attn.q_proj")
QA = f"{PREFIX}0.self_attn.q_proj.lora_A.weight"
QB = f"{PREFIX}0.self_attn.q_proj.lora_B.weight"


def load_one(folder, **options):
    (adapter,) = load_adapters(folder, **options).adapters
    return adapter


def dense(tensors, A=QA, B=QB):
    return tensors[B].astype(np.float64) @ tensors[A].astype(np.float64)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.0.classifier.weight",
        "base_model.model.model.layers.0.mlp.up_proj.weight",
        "base_model.model.classifier.lora_C.weight",
        "base_model.model.score.modules_to_save.lora_C.weight",
        "base_model.model.model.layers.0.norm.bias",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.a.b.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.hada_w1_a",
    ],
)
def test_unknown_tensors_are_refused(write, name):
    tensors = {**peft_tensors(), name: np.ones((1, 4), np.float32)}
    with pytest.raises(AdapterError, match=name.rpartition("model.layers")[2]):
        load_adapters(write(tensors))


@pytest.mark.parametrize("missing", [QA, QB])
def test_half_a_pair(write, missing):
    tensors = peft_tensors()
    del tensors[missing]
    with pytest.raises(AdapterError, match=f"but not '{missing}'"):
        load_adapters(write(tensors))


@pytest.mark.parametrize(
    ("A", "B", "what"),
    [
        ((4, 5), (6, 3), "do not chain"),
        ((4, 5, 3), (6, 4, 3), "do not chain"),
        ((4, 5, 3), (6, 4), "do not chain"),
        ((4, 5, 3), (6, 2, 1), r"grouped convolution \(2 groups\)"),
        ((20,), (6, 4), "without being gathered"),
        ((4, 5), (0,), "without being gathered"),
        ((0, 5), (6, 0), "without being gathered"),
    ],
)
def test_shapes_that_are_refused(write, A, B, what):
    tensors = {**peft_tensors(), QA: np.ones(A, np.float32), QB: np.ones(B, np.float32)}
    with pytest.raises(AdapterError, match=what) as error:
        load_adapters(write(tensors))
    assert "q_proj.lora_" in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_values_that_are_not_finite(write, value, stored):
    tensors = {name: t.astype(stored) for name, t in peft_tensors().items()}
    tensors[QB][2, 1] = value
    folder = write(tensors)
    adapter = load_one(folder)
    with pytest.raises(AdapterError) as error:
        adapter.load(Q0)
    assert f"'{QB}'" in str(error.value)
    assert str(folder / WEIGHTS) in str(error.value)
    adapter.load(Q1)  # the other module is not touched


KINDS = {
    "use_dora": True,
    "kasa_config": {"a": 1},
    "monteclora_config": {"a": 1},
    "layer_replication": [[0, 2]],
    "arrow_config": {"top_k": 1},
    "init_lora_weights": "pissa",
    "enable_lora": [True, False],
    "something_new": 3,
}


@pytest.mark.parametrize("field", KINDS)
def test_refused_kinds_and_their_direction(write, field):
    folder = write(**{field: KINDS[field]})
    with pytest.raises(AdapterError, match=f"{field}.* is refused"):
        load_adapters(folder)
    adapter = load_one(folder, directional=True)
    assert field in adapter.provenance["approximate"]
    np.testing.assert_array_equal(adapter.load(Q0).dense(), 2.0 * dense(peft_tensors()))


@pytest.mark.parametrize("field", ["use_qalora", "use_bdlora", "megatron_config"])
def test_kinds_without_a_direction(write, field):
    folder = write(**{field: {"nblocks": 2}})
    for directional in (False, True):
        with pytest.raises(AdapterError, match=field):
            load_adapters(folder, directional=directional)


@pytest.mark.parametrize(
    "init",
    ["pissa", "pissa_niter_16", "PiSSA", "olora", "corda", "lora_ga", "from_the_future"],
)
def test_refused_initialisations(write, init):
    with pytest.raises(AdapterError, match=f"init_lora_weights = '{init.lower()}' is refused"):
        load_adapters(write(init_lora_weights=init))


@pytest.mark.parametrize(
    "init", [True, False, None, "gaussian", "eva", "orthogonal", "mica", "loftq"]
)
def test_plain_initialisations(write, init):
    notes = load_one(write(init_lora_weights=init)).provenance["notes"]
    assert any("LoftQ" in note for note in notes) == (init == "loftq")


def test_alora_is_labelled(write):
    notes = load_one(write(alora_invocation_tokens=[5, 6])).provenance["notes"]
    assert any("aLoRA" in note for note in notes)


def test_falsy_unknown_fields_are_harmless(write):
    adapter = load_one(write(something_new=None, other_new={}, third_new=False))
    assert adapter.entry(Q0).scale == 2.0


RUN = {
    "learning_rate": 1e-4,
    "output_dir": "out",
    "model_name": "base",
    "lora_dtype": "float32",
    "lorap_lr_ratio": 16,
    "lorap_emb_lr": 1e-6,
    "swift_version": "3.1",
    "unsloth_fixed": True,
    "embedding_learning_rate": 5e-5,
    "dataset_path": "data.jsonl",
}


@pytest.mark.parametrize("field", RUN)
def test_fields_of_other_trainers_are_noted(write, field):
    adapter = load_one(write(**{field: RUN[field]}))
    assert any(field in note for note in adapter.provenance["notes"])
    assert adapter.entry(Q0).scale == 2.0


@pytest.mark.parametrize("field", ["lora_scale", "alpha_ratio", "path_weights", "lr_matrix"])
def test_fields_that_may_change_the_update_are_refused(write, field):
    with pytest.raises(AdapterError, match=f"{field} = 2 is refused"):
        load_adapters(write(**{field: 2}))


@pytest.mark.parametrize("module", ["0.self_attn.q_proj", "7.self_attn.q_proj"])
@pytest.mark.parametrize("other", ["task10", "0"])
@pytest.mark.parametrize("first", [True, False])
def test_two_adapters_in_one_file(write, module, other, first):
    """As PEFT 0.18 saves `task10` with `task1`: of other modules too they are never merged."""
    more = {f"{PREFIX}{module}.lora_{x}.{other}.weight": np.ones((4, 4), np.float32) for x in "AB"}
    tensors = {**more, **peft_tensors()} if first else {**peft_tensors(), **more}
    with pytest.raises(AdapterError, match=rf"adapters \(unnamed\) and '{other}'"):
        load_adapters(write(tensors))


@pytest.mark.parametrize(
    ("suffix", "what"),
    [
        ("lora_magnitude_vector", "DoRA"),
        ("lora_diag", "KaSA"),
        ("lora_monteclora_sampler.mean", "MonteCLoRA"),
    ],
)
def test_refused_tensors(write, suffix, what):
    """The tensors tell even where the config does not."""
    name = f"{PREFIX}0.self_attn.q_proj.{suffix}"
    folder = write({**peft_tensors(), name: np.ones(6, np.float32)})
    with pytest.raises(AdapterError, match=what):
        load_adapters(folder)
    adapter = load_one(folder, directional=True)
    assert what in adapter.provenance["approximate"]
    assert name in adapter.provenance["excluded"]


@pytest.mark.parametrize("kind", ["LOHA", "IA3", "XLORA", "NEWTUNING", None])
def test_other_kinds(write, kind):
    with pytest.raises(AdapterError, match=f"peft_type is {kind!r}"):
        load_adapters(write(peft_type=kind), directional=True)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"lora_alpha": "16"}, "lora_alpha is '16'"),
        ({"lora_alpha": True}, "lora_alpha is True"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"r": 0}, "r is 0"),
        ({"r": 2.5}, "r is 2.5"),
        ({"rank_pattern": [1]}, "rank_pattern is"),
        ({"rank_pattern": {"q": 0}}, r"rank_pattern\['q'\] is 0"),
        ({"alpha_pattern": {"q(": 1}}, "not a regular expression"),
        ({"alpha_pattern": {"q": "x"}}, r"alpha_pattern\['q'\] is 'x'"),
        ({"modules_to_save": "head"}, "modules_to_save is 'head'"),
        ({"base_model_name_or_path": 3}, "base_model_name_or_path is 3"),
    ],
)
def test_configs_that_make_no_sense(write, fields, what):
    folder = write(**fields)
    with pytest.raises(AdapterError, match=what) as error:
        load_adapters(folder)
    assert str(folder / "adapter_config.json") in str(error.value)


@pytest.mark.parametrize(
    ("text", "what"), [("{", "not valid JSON"), ("[1]", "holds a list"), ("\xff", "is not UTF-8")]
)
def test_configs_that_are_no_json(write, text, what):
    folder = write()
    (folder / "adapter_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(AdapterError, match=what):
        load_adapters(folder)


def test_missing_config(write):
    folder = write()
    (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match=r"adapter_config\.json for their scaling"):
        load_adapters(folder)


def test_missing_weights(write):
    folder = write()
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match=r"no weights, expected adapter_model\.safetensors or"):
        load_adapters(folder)


def test_no_factors_at_all(write):
    folder = write({"base_model.model.head.weight": np.ones(3)}, modules_to_save=["head"])
    with pytest.raises(AdapterError, match="no lora_A and lora_B"):
        load_adapters(folder)


def test_lora_e_needs_adalora(write):
    name = f"{PREFIX}0.self_attn.q_proj.lora_E"
    with pytest.raises(AdapterError, match="belongs to AdaLoRA"):
        load_adapters(write({**peft_tensors(), name: np.ones((4, 1), np.float32)}))

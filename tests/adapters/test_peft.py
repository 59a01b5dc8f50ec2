"""PEFT files: scaling, layouts, what is left out, what is refused. Oracle: dense NumPy float64."""

import json
import math

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from adapters.adapter_files import PREFIX, WEIGHTS, make_pair, peft_tensors
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


def test_plain(write):
    tensors = peft_tensors()
    adapter = load_one(write(tensors))
    assert list(adapter.modules) == [Q0, Q1]
    assert adapter.modules[Q0] == (6, 5, 4)
    assert adapter.entry(Q0).scale == 2.0
    assert adapter.path(Q1) == f"{PREFIX}1.self_attn.q_proj"
    assert (adapter.name, adapter.base_model) == ("adapter", "org/base")
    update = adapter.load(Q0)
    assert update.B.dtype == update.A.dtype == np.float32
    np.testing.assert_array_equal(update.B, tensors[QB])
    np.testing.assert_array_equal(update.A, tensors[QA])
    np.testing.assert_array_equal(update.dense(), 2.0 * dense(tensors))
    assert adapter.provenance["approximate"] is None
    assert adapter.provenance["format"] == "peft"
    json.dumps(adapter.provenance)


def test_rslora(write):
    assert load_one(write(use_rslora=True)).entry(Q0).scale == 8 / math.sqrt(4)
    assert load_one(write(peft_tensors(r=3), use_rslora=True)).entry(Q0).scale == 8 / math.sqrt(3)


def test_rank_is_the_tensors_own(write):
    adapter = load_one(write(peft_tensors(r=2)))
    assert adapter.entry(Q0).scale == 8 / 2
    assert "has rank 2, the config says 4" in adapter.provenance["notes"][0]
    agreeing = load_one(write(peft_tensors(r=2), rank_pattern={"q_proj": 2}))
    assert agreeing.entry(Q0).scale == 8 / 2
    assert agreeing.provenance["notes"] == []


@pytest.mark.parametrize(
    ("pattern", "alphas"),
    [
        ({"q_proj": 12, "layers.0.self_attn.q_proj": 20}, (12, 12)),
        ({"layers.0.self_attn.q_proj": 20, "q_proj": 12}, (20, 12)),
        ({r".*\.1\..*": 40, "q_proj": 12}, (12, 40)),
        ({"^model.layers.0.*": 24}, (24, 8)),
        ({"^layers.0.*": 24}, (8, 8)),
        ({"_proj": 24, "proj": 24, "layers.0": 24}, (8, 8)),
        ({"(q|v)_proj": 16.5}, (16.5, 16.5)),
    ],
)
def test_first_matching_alpha_pattern_wins(write, pattern, alphas):
    adapter = load_one(write(alpha_pattern=pattern))
    assert (adapter.entry(Q0).scale * 4, adapter.entry(Q1).scale * 4) == alphas


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_stored_types_are_read_exactly(write, stored):
    tensors = {name: t.astype(stored) for name, t in peft_tensors(dtype=np.float64).items()}
    adapter = load_one(write(tensors))
    expected = np.float64 if stored == np.float64 else np.float32
    assert adapter.dtype(Q0) == expected
    update = adapter.load(Q0)
    assert update.B.dtype == update.A.dtype == expected
    np.testing.assert_array_equal(update.B, tensors[QB].astype(np.float64))
    np.testing.assert_array_equal(update.A, tensors[QA].astype(np.float64))
    assert adapter.entry(Q0).eps == np.finfo(expected).eps


def test_bfloat16_special_values(write):
    """Signed zero, subnormals and the largest value survive the widening."""
    values = np.array([[-0.0, 1e-40, -9.2e-41, 3.3895e38, 1.0]], ml_dtypes.bfloat16)
    tensors = {QA: values, QB: np.ones((2, 1), ml_dtypes.bfloat16)}
    loaded = load_one(write(tensors)).load(Q0).A
    np.testing.assert_array_equal(loaded, values.astype(np.float32))
    assert np.signbit(loaded[0, 0])
    assert loaded[0, 1] != 0


def test_two_types_in_one_pair(write):
    tensors = peft_tensors()
    tensors[QA] = tensors[QA].astype(np.float64)
    adapter = load_one(write(tensors))
    update = adapter.load(Q0)
    assert update.B.dtype == update.A.dtype == adapter.dtype(Q0) == np.float64
    # The product is known no better than its float32 factor.
    assert adapter.entry(Q0).eps == np.finfo(np.float32).eps
    assert adapter.dtype(Q1) == np.float32


@pytest.mark.parametrize(
    ("stored", "name"), [(np.int8, "I8"), (np.int64, "I64"), (ml_dtypes.float8_e4m3fn, "F8_E4M3")]
)
def test_types_that_are_refused(write, stored, name):
    tensors = {**peft_tensors(), QA: np.ones((4, 5), stored)}
    with pytest.raises(AdapterError, match=f"q_proj.lora_A.weight' is stored as {name}"):
        load_adapters(write(tensors))


def test_embedding(write):
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((4, 20)), rng.standard_normal((7, 4))
    path = "base_model.model.model.embed_tokens"
    tensors = {f"{path}.lora_embedding_A": A, f"{path}.lora_embedding_B": B}
    tensors[f"{path}.weight"] = np.ones((20, 7))
    adapter = load_one(write(tensors))
    key = ModuleKey(-1, "embed_tokens")
    assert adapter.modules[key] == (20, 7, 4)
    update = adapter.load(key)
    assert update.B.flags.c_contiguous
    np.testing.assert_allclose(update.dense(), 2.0 * (B @ A).T, rtol=1e-14)
    assert "embedding matrix" in adapter.provenance["excluded"][f"{path}.weight"]


@pytest.mark.parametrize("kernel", [(3,), (2, 3), (2, 1, 3)])
def test_convolution(write, kernel):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((4, 5, *kernel))
    B = rng.standard_normal((6, 4, *[1] * len(kernel)))
    adapter = load_one(write({QA: A, QB: B}))
    update = adapter.load(Q0).dense()
    assert adapter.modules[Q0] == (6, 5 * math.prod(kernel), 4)
    expected = 2.0 * np.einsum("or,ri...->oi...", B.reshape(6, 4), A)
    np.testing.assert_allclose(update, expected.reshape(6, -1), rtol=1e-13)


def test_live_state_dict_keys(write):
    tensors = {k.replace(".weight", ".mine.weight"): t for k, t in peft_tensors().items()}
    tensors["base_model.model.model.norm.weight"] = np.ones(5, np.float32)
    adapter = load_one(write(tensors))
    np.testing.assert_array_equal(adapter.load(Q0).dense(), 2.0 * dense(peft_tensors()))
    assert list(adapter.provenance["excluded"]) == ["base_model.model.model.norm.weight"]


def test_two_live_adapters_are_refused(write):
    tensors = {}
    for name in ("one", "two"):
        tensors |= {k.replace(".weight", f".{name}.weight"): t for k, t in peft_tensors().items()}
    with pytest.raises(AdapterError, match="the adapters 'one' and 'two', expected one"):
        load_adapters(write(tensors))


EXTRA = {
    "base_model.model.classifier.weight": {"modules_to_save": ["classifier"]},
    "base_model.model.lora_head.weight": {"modules_to_save": ["lora_head"]},
    "base_model.model.lora_A_head.weight": {"modules_to_save": ["lora_A_head"]},
    "base_model.model.head.lora_A.weight": {"modules_to_save": ["head.lora_A"]},
    "base_model.model.lora_head.modules_to_save.weight": {"modules_to_save": ["lora_head"]},
    "base_model.model.score.weight": {},
    "base_model.model.pre_classifier.bias": {},
    "base_model.model.qa_outputs.weight": {},
    "base_model.model.classifier.out_proj.bias": {},
    "base_model.model.my_head.dense.weight": {"task_type": "SEQ_CLS"},
    "base_model.model.lm_head.bias": {},
    "base_model.model.transformer.wpe.weight": {},
    "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight": {},
    "base_model.model.model.layers.1.self_attn.q_proj.base_layer.bias": {},
    "base_model.model.classifier.original_module.weight": {},
    "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias": {"bias": "lora_only"},
    "base_model.model.model.layers.0.norm.bias": {"bias": "all"},
    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias": {"lora_bias": True},
    "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": {
        "trainable_token_indices": [1]
    },
}


@pytest.mark.parametrize("name", EXTRA)
def test_left_out_with_a_reason(write, name):
    tensors = {**peft_tensors(), name: np.ones((1, 4), np.float32)}
    adapter = load_one(write(tensors, **EXTRA[name]))
    excluded = adapter.provenance["excluded"]
    assert name in excluded
    assert set(EXTRA[name]) - {"task_type"} <= set(excluded)
    assert all(isinstance(reason, str) and reason for reason in excluded.values())
    np.testing.assert_array_equal(adapter.load(Q0).dense(), 2.0 * dense(peft_tensors()))


def test_adalora(write):
    rng = np.random.default_rng(0)
    B, A, E = rng.standard_normal((6, 3)), rng.standard_normal((3, 5)), rng.standard_normal((3, 1))
    path = f"{PREFIX}0.self_attn.q_proj"
    tensors = {f"{path}.lora_A": A, f"{path}.lora_B": B, f"{path}.lora_E": E}
    fields = {"peft_type": "ADALORA", "init_r": 12, "target_r": 8, "total_step": 10}
    masks = {"model.layers.0.self_attn.q_proj.lora_E": [True] * 3 + [False] * 9}
    adapter = load_one(write(tensors, rank_pattern=masks, **fields))
    expected = B @ (A * E) * 8 / (12 + 1e-5)
    np.testing.assert_allclose(adapter.load(Q0).dense(), expected, rtol=1e-12)
    del tensors[f"{path}.lora_E"]
    with pytest.raises(AdapterError, match="expected lora_A, lora_B and lora_E"):
        load_adapters(write(tensors, **fields))
    with pytest.raises(AdapterError, match="init_r is None"):
        load_adapters(write(tensors, peft_type="ADALORA"))


def test_adalora_without_any_rank_left(write):
    path = f"{PREFIX}0.self_attn.q_proj"
    tensors = {
        f"{path}.lora_A": np.zeros((0, 5), np.float32),
        f"{path}.lora_B": np.zeros((6, 0), np.float32),
        f"{path}.lora_E": np.zeros((0, 1), np.float32),
    }
    adapter = load_one(write(tensors, peft_type="ADALORA", init_r=12))
    assert adapter.modules[Q0] == (6, 5, 1)
    assert not adapter.load(Q0).dense().any()


def test_nothing_is_read_before_it_is_asked_for(tmp_path, write):
    """A file of 32 GB, nearly all hole: opening and loading one module touch neither much memory
    nor the other module.
    """
    folder = write()
    big = 2**30
    small = {"dtype": "F32", "shape": [1, 5], "data_offsets": [0, 20]}
    header = {
        QA: small,
        QB: {"dtype": "F32", "shape": [6, 1], "data_offsets": [20, 44]},
        QA.replace("0", "1"): {
            "dtype": "F32",
            "shape": [8, big],
            "data_offsets": [44, 44 + 32 * big],
        },
        QB.replace("0", "1"): {
            "dtype": "F32",
            "shape": [2, 8],
            "data_offsets": [44 + 32 * big, 108 + 32 * big],
        },
    }
    text = json.dumps(header).encode()
    B, A = make_pair(0, r=1)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + A.tobytes() + B.tobytes())
        file.truncate(8 + len(text) + 108 + 32 * big)
    adapter = load_one(folder)
    assert adapter.modules[Q1] == (2, big, 8)
    update = adapter.load(Q0)
    np.testing.assert_array_equal(update.B, B)
    np.testing.assert_array_equal(update.A, A)


def test_values_are_those_of_the_file_when_asked(write):
    folder = write()
    adapter = load_one(folder)
    changed = {name: t + 1 for name, t in peft_tensors().items()}
    save_file(changed, folder / WEIGHTS)
    np.testing.assert_array_equal(adapter.load(Q0).A, changed[QA])


def test_a_file_that_changes_its_size_is_noticed(write):
    folder = write()
    adapter = load_one(folder)
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(AdapterError, match="changed after it was opened"):
        adapter.load(Q0)
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match="cannot be read any more"):
        adapter.load(Q0)


def test_multihead_attention_is_one_module_for_patterns(write):
    """PEFT wraps it as a whole and gives its output projection the same rank and alpha."""
    tensors = peft_tensors(["0.attn", "0.attn.base_layer.out_proj"])
    adapter = load_one(write(tensors, rank_pattern={"attn": 4}, alpha_pattern={"attn": 20}, r=9))
    assert adapter.entry(ModuleKey(0, "attn")).scale == 5.0
    assert adapter.entry(ModuleKey(0, "attn.base_layer.out_proj")).scale == 5.0
    assert adapter.provenance["notes"] == []

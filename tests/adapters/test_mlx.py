"""Adapters of mlx-lm, against its arithmetic in NumPy float64: y = W·x + scale·(x·a)·b."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapters.adapter_files import CONFIG, PREFIX, peft_tensors
from jaxtask.adapters import ModuleKey, load_adapters
from jaxtask.errors import AdapterError

MLX = {
    "fine_tune_type": "lora",
    "num_layers": 4,
    "lora_parameters": {"rank": 2, "scale": 20.0, "dropout": 0.0},
    "model": "org/base",
    "learning_rate": 1e-5,
    "optimizer": "adamw",
}
Q, EMBED, UP = "model.layers.3.self_attn.q_proj", "model.embed_tokens", "mlp.switch_mlp.up_proj"


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def pair(path=Q, d_in=6, d_out=9, r=2):
    return {f"{path}.lora_a": normal(d_in, r), f"{path}.lora_b": normal(r, d_out)}


@pytest.fixture
def save(tmp_path):
    def _save(tensors=None, name="mlx", file="adapters.safetensors", drop=(), **config):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        fields = {k: v for k, v in {**MLX, **config}.items() if k not in drop}
        (folder / "adapter_config.json").write_text(json.dumps(fields))
        save_file(pair() if tensors is None else tensors, folder / file)
        return folder

    return _save


def only(path, **options):
    (adapter,) = load_adapters(path, **options).adapters
    return adapter


def test_linear_modules(save):
    given = pair()
    adapter = only(save())
    key = ModuleKey(3, "self_attn.q_proj")
    a, b = (given[f"{Q}.lora_{side}"].astype(float) for side in "ab")
    assert set(adapter.modules) == {key}
    assert tuple(adapter.modules[key]) == (9, 6, 2)
    assert (adapter.base_model, adapter.provenance["format"]) == ("org/base", "mlx")
    np.testing.assert_array_equal(adapter.load(key).dense(), 20 * (a @ b).T)
    x = normal(6).astype(float)
    np.testing.assert_allclose(adapter.load(key).dense() @ x, 20 * (x @ a) @ b, rtol=1e-12)


def test_keys_and_values_are_those_of_peft(save, write):
    """The same factors in both formats are one update of one module."""
    tensors = peft_tensors(("3.self_attn.q_proj",), r=2)
    name = f"{PREFIX}3.self_attn.q_proj"
    mlx = {
        f"{Q}.lora_a": np.ascontiguousarray(tensors[f"{name}.lora_A.weight"].T),
        f"{Q}.lora_b": np.ascontiguousarray(tensors[f"{name}.lora_B.weight"].T),
    }
    peft = write(tensors, r=2, lora_alpha=40)
    bank = load_adapters([save(mlx), peft])
    one, other = bank.adapters
    assert set(one.modules) == set(other.modules)
    for key in one.modules:
        np.testing.assert_array_equal(one.load(key).dense(), other.load(key).dense())


def test_embeddings_are_not_transposed(save):
    given = pair(EMBED, d_in=11, d_out=4)
    adapter = only(save(given))
    a, b = (given[f"{EMBED}.lora_{side}"].astype(float) for side in "ab")
    key = ModuleKey(-1, "embed_tokens")
    np.testing.assert_array_equal(adapter.load(key).dense(), 20 * a @ b)
    head = pair("lm_head", d_in=4, d_out=11)
    (key,) = (adapter := only(save(head))).modules
    assert tuple(adapter.modules[key])[:2] == (11, 4)


@pytest.mark.parametrize("flat", [False, True])
def test_each_expert_is_a_module(save, flat):
    a, b = normal(3, 2, 6), normal(3, 9, 2)
    path = f"model.layers.1.{UP}"
    stored = {f"{path}.lora_a": a.reshape(6, 6) if flat else a, f"{path}.lora_b": b}
    adapter = only(save(stored))
    assert list(adapter.modules) == [ModuleKey(1, f"mlp.experts.{e}.up_proj") for e in range(3)]
    for e, key in enumerate(adapter.modules):
        expected = 20 * b[e].astype(float) @ a[e].astype(float)
        np.testing.assert_allclose(adapter.load(key).dense(), expected, rtol=1e-12)


@pytest.mark.parametrize("field", ["alpha", "lora_alpha"])
def test_the_alpha_of_older_versions(save, field):
    adapter = only(save(lora_parameters={"rank": 2, "scale": 10.0, field: 16, "dropout": 0}))
    assert adapter.entry(next(iter(adapter.modules))).scale == 10 * 16 / 2
    assert "later versions take scale alone, 10" in adapter.provenance["notes"][0]


def test_a_rank_that_differs_is_noted(save):
    adapter = only(save(pair(r=5)))
    assert adapter.provenance["notes"] == [
        "the config says rank 2, the tensors have 5: the tensors' own ranks are used."
    ]
    assert only(save()).provenance["notes"] == []


def test_configs_of_other_times(save):
    old = only(save(drop=("fine_tune_type", "num_layers", "learning_rate"), lora_layers=16))
    assert old.entry(ModuleKey(3, "self_attn.q_proj")).scale == 20
    assert only(save(drop=("model",))).base_model is None


def test_checkpoints_and_names(save, tmp_path):
    save(file="0000100_adapters.safetensors")
    folder = save(file="0000200_adapters.safetensors")
    assert load_adapters(folder / "0000100_adapters.safetensors").tasks == ("0000100_adapters",)
    with pytest.raises(AdapterError, match="no weights"):
        load_adapters(folder)
    save()
    bank = load_adapters(tmp_path)
    assert bank.tasks == ("mlx",)
    assert bank.adapters[0].provenance["notes"] == [
        "2 checkpoint(s) beside it were not read: '0000100_adapters.safetensors', …."
    ]


def test_what_is_no_matrix_is_left_out(save):
    name = "model.layers.3.input_layernorm.weight"
    adapter = only(save({**pair(), name: normal(6)}))
    assert list(adapter.provenance["excluded"]) == [name]


@pytest.mark.parametrize(
    ("config", "extra", "what"),
    [
        ({"fine_tune_type": "dora"}, {}, "DoRA is refused"),
        ({"use_dora": True}, {}, "DoRA is refused"),
        ({}, {f"{Q}.m": normal(9)}, "DoRA is refused"),
        ({"lora_parameters": {"rank": 2, "scale": 1, "warp": 3}}, {}, "warp = 3 is refused"),
    ],
)
def test_kinds_of_which_only_the_direction_is_known(save, config, extra, what):
    folder = save({**pair(), **extra}, **config)
    with pytest.raises(AdapterError, match=what):
        load_adapters(folder)
    assert "direction only" in only(folder, directional=True).provenance["approximate"]


@pytest.mark.parametrize(
    ("config", "tensors", "what"),
    [
        ({"fine_tune_type": "full"}, {}, "whole weights"),
        ({"fine_tune_type": "vera"}, {}, "fine_tune_type is 'vera'"),
        ({"fine_tune_type": ["lora"]}, {}, "expected 'lora'"),
        ({"lora_parameters": None}, {}, "lora_parameters is None"),
        ({"lora_parameters": {"rank": 2}}, {}, "scale is None"),
        ({"lora_parameters": {"scale": 10**400}}, {}, "a whole number above"),
        ({"lora_parameters": {"scale": float("nan")}}, {}, "scale is nan"),
        ({"lora_parameters": {"scale": 1, "alpha": 2}}, {}, "rank is None"),
        ({"lora_parameters": {"scale": 1, "alpha": 2, "rank": 0}}, {}, "rank is 0"),
        ({"lora_parameters": {"scale": 1, "alpha": 2, "lora_alpha": 2}}, {}, "both alpha"),
        ({"lora_parameters": {"scale": 1e300, "alpha": 1e300, "rank": 1}}, {}, "inf"),
        ({"model": 3}, {}, "model is 3"),
        ({}, {f"{Q}.lora_a_scales": normal(2, 2)}, "quantised"),
        ({}, {f"{Q}.linear.weight": normal(2, 2)}, "neither lora_a nor lora_b"),
        ({}, {"x.lora_a": normal(2, 2)}, r"but not 'x\.lora_b'"),
        ({}, {"x.lora_b": normal(2, 2)}, r"but not 'x\.lora_a'"),
        ({}, pair("x") | {"x.lora_a": normal(6, 3)}, "do not chain"),
        ({}, pair("x") | {"x.lora_a": normal(6)}, "do not chain"),
        ({}, {"x.lora_a": normal(2, 0), "x.lora_b": normal(0, 2)}, "none empty"),
        ({}, {"x.lora_a": normal(3, 2, 5), "x.lora_b": normal(4, 5, 2)}, "experts"),
        ({}, {"x.lora_a": np.ones((2, 2), np.int8), "x.lora_b": normal(2, 2)}, "stored as I8"),
    ],
)
def test_what_is_refused(save, config, tensors, what):
    with pytest.raises(AdapterError, match=what) as error:
        load_adapters(save({**pair(), **tensors}, **config))
    assert "\n" not in str(error.value)


def test_the_wrong_half_of_a_folder(save):
    folder = save(peft_tensors())
    with pytest.raises(AdapterError, match="neither lora_a nor lora_b"):
        load_adapters(folder)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    save_file(pair(), folder / "adapters.safetensors")
    with pytest.raises(AdapterError, match="this reader does not know"):
        load_adapters(folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match=r"MLX tensors need .*adapter_config\.json"):
        load_adapters(folder)

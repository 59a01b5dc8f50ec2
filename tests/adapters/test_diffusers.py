"""Adapters of pipelines as diffusers saves them, against NumPy float64."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxtask.adapters import ModuleKey, load_adapters
from jaxtask.errors import AdapterError

UNET = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT = "text_encoder.text_model.encoder.layers.2.self_attn.q_proj"
KEYS = {
    UNET: ModuleKey(1, "unet.down_blocks.attentions.0.transformer_blocks.0.attn1.to_q"),
    TEXT: ModuleKey(2, "text_encoder.text_model.encoder.self_attn.q_proj"),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def pair(path, r=4, down="lora_A", up="lora_B"):
    return {f"{path}.{down}.weight": normal(r, 6), f"{path}.{up}.weight": normal(8, r)}


def dense(path, scale, r=4):
    given = pair(path, r)
    A, B = (given[f"{path}.lora_{side}.weight"].astype(float) for side in "AB")
    return scale * B @ A


@pytest.fixture
def save(tmp_path):
    def _save(tensors, told=None, name="pytorch_lora_weights.safetensors"):
        metadata = {"format": "pt"}
        if told is not None:
            text = told if isinstance(told, str) else json.dumps(told)
            metadata["lora_adapter_metadata"] = text
        save_file(tensors, tmp_path / name, metadata=metadata)
        return tmp_path / name

    return _save


def only(path, **options):
    (adapter,) = load_adapters(path, **options).adapters
    return adapter


def test_the_header_gives_the_scaling_of_each_component(save):
    told = {
        "unet.r": 4,
        "unet.lora_alpha": 2,
        "unet.alpha_pattern": {"attn2.to_q": 12},
        "unet.rank_pattern": {"attn2.to_q": 3},
        "unet.peft_type": "LORA",
        "text_encoder.r": 4,
        "text_encoder.lora_alpha": 8,
        "text_encoder.use_rslora": True,
    }
    other = UNET.replace("attn1", "attn2")
    adapter = only(save(pair(UNET) | pair(other, r=3) | pair(TEXT), told))
    assert adapter.provenance["format"] == "diffusers"
    assert adapter.provenance["notes"] == []
    key = ModuleKey(1, KEYS[UNET].module.replace("attn1", "attn2"))
    assert set(adapter.modules) == {*KEYS.values(), key}
    np.testing.assert_allclose(adapter.load(KEYS[UNET]).dense(), dense(UNET, 1 / 2))
    np.testing.assert_allclose(adapter.load(KEYS[TEXT]).dense(), dense(TEXT, 8 / 2))
    np.testing.assert_allclose(adapter.load(key).dense(), dense(other, 4, r=3))


def test_a_header_for_one_model(save):
    """`save_lora_adapter` of a model writes neither names nor fields with a component."""
    path = UNET.removeprefix("unet.")
    adapter = only(save(pair(path), {"r": 4, "lora_alpha": 12}))
    (key,) = adapter.modules
    assert key == ModuleKey(1, KEYS[UNET].module.removeprefix("unet."))
    np.testing.assert_allclose(adapter.load(key).dense(), dense(path, 3))


def test_silent_files_have_scaling_one(save):
    adapter = only(save(pair(UNET) | pair(TEXT, r=2)))  # ranks may differ between components
    np.testing.assert_array_equal(adapter.load(KEYS[UNET]).dense(), dense(UNET, 1))
    np.testing.assert_array_equal(adapter.load(KEYS[TEXT]).dense(), dense(TEXT, 1, r=2))
    assert any("unet: no alphas" in note for note in adapter.provenance["notes"])
    with pytest.raises(AdapterError, match=r"different ranks \(.* the scaling is unknown"):
        load_adapters(save(pair(UNET) | pair(UNET + "2", r=2)))


@pytest.mark.parametrize("middle", ["lora", "lora_linear_layer"])
def test_earlier_names_of_the_same(save, middle):
    told = {"unet.r": 4, "unet.lora_alpha": 8}
    adapter = only(save(pair(UNET, 4, f"{middle}.down", f"{middle}.up"), told))
    np.testing.assert_array_equal(adapter.load(KEYS[UNET]).dense(), dense(UNET, 2))


def test_alphas_of_modules(save):
    path = "transformer.transformer_blocks.0.attn.to_q"
    tensors = pair(path) | pair(path + "2", r=2)
    alphas = {f"{path}.alpha": np.array(6.0), f"{path}2.alpha": np.array([3], np.float32)}
    adapter = only(save(tensors | alphas))
    assert sorted(adapter.entry(key).scale for key in adapter.modules) == [1.5, 1.5]
    assert adapter.provenance["notes"] == []
    for name in alphas:
        with pytest.raises(AdapterError, match="but none for"):
            load_adapters(save({k: v for k, v in (tensors | alphas).items() if k != name}))
    with pytest.raises(AdapterError, match="belongs to no module"):
        load_adapters(save(tensors | alphas | {"transformer.x.alpha": np.array(1.0)}))
    with pytest.raises(AdapterError, match="two scalings"):
        load_adapters(save(tensors | alphas, {"transformer.r": 4, "transformer.lora_alpha": 4}))


def test_convolutions_and_folders(save, tmp_path):
    path = "unet.conv_in"
    tensors = {
        f"{path}.lora_A.weight": normal(2, 3, 3, 3),
        f"{path}.lora_B.weight": normal(5, 2, 1, 1),
    }
    save(tensors)
    adapter = only(tmp_path)
    assert adapter.name == tmp_path.name
    A, B = (tensors[f"{path}.lora_{side}.weight"].astype(float) for side in "AB")
    (key,) = adapter.modules
    np.testing.assert_allclose(adapter.load(key).dense(), B.reshape(5, 2) @ A.reshape(2, 27))


@pytest.mark.parametrize(
    ("tensors", "told", "what"),
    [
        (pair("unet.a.attn1.processor.to_q_lora", 4, "down", "up"), None, "attention processors"),
        (pair("a.attn1.processor.to_q_lora", 4, "down", "up"), None, "attention processors"),
        (pair(UNET), {"text_encoder.r": 4, "text_encoder.lora_alpha": 4}, "tensors of 'unet'"),
        (pair(UNET), {}, "tensors of 'unet'"),
        (pair(UNET), {"unet.r": 4}, "lora_alpha is None"),
        (pair(UNET), {"unet.r": 4, "lora_alpha": 4}, "one or the other"),
        (pair(UNET), {"unet.r": 4, "unet.lora_alpha": 4, "unet.peft_type": "LOHA"}, "Hadamard"),
        (pair(UNET), "[1]", "expected a JSON object"),
        (pair(UNET), "{", "not valid JSON"),
        (pair(UNET) | pair("vae.x"), None, "'vae.x.lora_A.weight' belongs to no component"),
        (pair(UNET) | {"unet.x.hada_w1_a": normal(2, 2)}, None, "'x.hada_w1_a' belongs to LoHa"),
        (pair(UNET) | {f"{UNET}.lora_magnitude_vector": normal(8)}, None, "DoRA"),
        ({f"{UNET}.lora_A.weight": normal(4, 6)}, None, "but not"),
        (pair("transformer.h.0.attn.c_attn"), None, r"PEFT tensors need"),
    ],
)
def test_what_is_refused(save, tensors, told, what):
    with pytest.raises(AdapterError, match=what) as error:
        load_adapters(save(tensors, told))
    assert "\n" not in str(error.value)


def test_the_direction_on_request(save):
    tensors = pair(UNET) | {f"{UNET}.lora_magnitude_vector": normal(8)}
    assert "DoRA" in only(save(tensors), directional=True).provenance["approximate"]

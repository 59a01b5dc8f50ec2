import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxtask.adapters import ModuleKey, load_adapters
from jaxtask.errors import AdapterError

TEXT = "lora_te_text_model_encoder_layers_3_self_attn_q_proj"
UNET = "lora_unet_down_blocks_1_attentions_0_proj_in"


def tensors():
    rng = np.random.default_rng(0)
    return {
        f"{TEXT}.lora_down.weight": rng.standard_normal((4, 6)).astype(np.float16),
        f"{TEXT}.lora_up.weight": rng.standard_normal((8, 4)).astype(np.float16),
        f"{TEXT}.alpha": np.array(1.0, np.float16),
        f"{UNET}.lora_down.weight": rng.standard_normal((4, 5, 3, 3)),
        f"{UNET}.lora_up.weight": rng.standard_normal((7, 4, 1, 1)),
    }


@pytest.fixture
def save(tmp_path):
    def _save(changed=None, name="style.safetensors"):
        save_file(tensors() if changed is None else changed, tmp_path / name)
        return tmp_path / name

    return _save


def test_values_and_scalings(save):
    given = tensors()
    bank = load_adapters(save())
    (adapter,) = bank.adapters
    assert bank.tasks == ("style",)
    assert adapter.provenance["format"] == "kohya"
    text = ModuleKey(3, "lora_te_text_model_encoder.layers.self_attn_q_proj")
    unet = ModuleKey(1, "lora_unet.down_blocks.attentions_0_proj_in")
    assert set(adapter.modules) == {text, unet}
    assert (adapter.entry(text).scale, adapter.entry(unet).scale) == (1 / 4, 1.0)
    B, A = (given[f"{TEXT}.lora_{side}.weight"].astype(float) for side in ("up", "down"))
    np.testing.assert_array_equal(adapter.load(text).dense(), B @ A / 4)
    B, A = (given[f"{UNET}.lora_{side}.weight"] for side in ("up", "down"))
    np.testing.assert_allclose(adapter.load(unet).dense(), B.reshape(7, 4) @ A.reshape(4, 45))
    assert "without alpha" in adapter.provenance["notes"][0]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (f"{TEXT}.dora_scale", "DoRA"),
        (f"{TEXT}.lora_mid.weight", "Tucker"),
        (f"{TEXT}.hada_w1_a", "LoHa"),
        (f"{TEXT}.diff", "full difference"),
        (f"{TEXT}.what", "does not know"),
    ],
)
def test_other_tensors_are_refused(save, name, what):
    with pytest.raises(AdapterError, match=what) as error:
        load_adapters(save({**tensors(), name: np.ones(3)}))
    assert f"'{name}'" in str(error.value)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["hada_w1_a", "hada_w1_b", "alpha"], "LoHa"),
        (["lokr_w1", "lokr_w2_a", "lokr_w2_b"], "LoKr"),
        (["alpha", "oft_blocks"], "OFT"),
        (["boft_R.default", "boft_s.default"], "BOFT"),
        (["ia3_l"], r"\(IA\)³"),
        (["weight", "on_input"], r"\(IA\)³"),
        (["diff", "diff_b"], "a full difference"),
        (["a1.weight", "a2.weight", "b1.weight", "b2.weight"], "GLoRA"),
        (["vera_lambda_b"], "VeRA"),
    ],
)
@pytest.mark.parametrize("module", [TEXT, "base_model.model.model.layers.0.self_attn.q_proj"])
def test_other_kinds_have_names(save, module, names, what):
    with pytest.raises(AdapterError, match=f"'{module}.* belongs to {what}"):
        load_adapters(save({f"{module}.{name}": np.ones((2, 2)) for name in names}))


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj", "h.3.c_attn", "b.1.x"])
def test_whole_models_are_no_adapters(save, name):
    given = {f"{name}.weight": np.ones((2, 2)), "model.embed_tokens.weight": np.ones((2, 2))}
    with pytest.raises(AdapterError, match=f"holds the weights of a whole model, such as '{name}"):
        load_adapters(save(given))


@pytest.mark.parametrize("missing", ["lora_up", "lora_down"])
def test_half_a_pair(save, missing):
    given = tensors()
    del given[f"{TEXT}.{missing}.weight"]
    with pytest.raises(AdapterError, match=f"but not '{TEXT}.{missing}.weight'"):
        load_adapters(save(given))


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        (f"{TEXT}.alpha", np.ones(2), "expected one number"),
        (f"{TEXT}.alpha", np.array(np.nan), "not finite"),
        (f"{TEXT}.alpha", np.array(True), "alpha' is stored as BOOL"),
        (f"{TEXT}.lora_up.weight", np.ones((8, 3)), "do not chain"),
        (f"{TEXT}.lora_up.weight", np.ones(8), "expected two dimensions"),
        (f"{UNET}.lora_up.weight", np.ones((7, 4, 3, 3)), "do not chain"),
    ],
)
def test_values_that_make_no_sense(save, name, value, what):
    with pytest.raises(AdapterError, match=what):
        load_adapters(save({**tensors(), name: value}))


@pytest.mark.parametrize("stored", [np.int64, np.int32, np.uint8, np.int16, np.float16])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_alpha_of_any_number_type(save, stored, shape):
    given = {**tensors(), f"{TEXT}.alpha": np.full(shape, 2, stored)}
    (adapter,) = load_adapters(save(given)).adapters
    key = ModuleKey(3, "lora_te_text_model_encoder.layers.self_attn_q_proj")
    assert adapter.entry(key).scale == 0.5


def test_containers_side_by_side_stay_apart(save):
    given = {}
    for block in ("down_blocks_1", "up_blocks_1", "down_blocks_2"):
        given[f"lora_unet_{block}_attn_to_q.lora_down.weight"] = np.ones((1, 3))
        given[f"lora_unet_{block}_attn_to_q.lora_up.weight"] = np.ones((3, 1))
    (adapter,) = load_adapters(save(given)).adapters
    assert len(adapter.modules) == 3


def test_peft_tensors_without_config(save):
    given = {"a.lora_A.weight": np.ones((1, 3)), "a.lora_B.weight": np.ones((3, 1))}
    with pytest.raises(AdapterError, match=r"adapter_config\.json for their scaling"):
        load_adapters(save(given))
    with pytest.raises(AdapterError, match="neither PEFT's"):
        load_adapters(save({"weight": np.ones((1, 3))}))

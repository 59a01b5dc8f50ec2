"""Every ΔW read here against the one a live PEFT model applies (`get_delta_weight`)."""

import math
import warnings

import numpy as np
import pytest

from jaxtask.adapters import ModuleKey, parse_module_path
from parity.live_peft import (
    Tiny,
    assert_same,
    live_deltas,
    load_one,
    lora,
    make,
    peft,
    save,
    torch,
    transformers,
)

pytestmark = pytest.mark.parity


PATTERNS = {
    "rank_pattern": {"k_proj": 2, r"layers\.[01]\.(q|k)_proj": 3, "down_proj": 6},
    "alpha_pattern": {r".*\.1\..*": 5, "q_proj": 7, "^layers.0.k_proj": 9, "^0.down_proj": 100},
}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"use_rslora": True},
        PATTERNS,
        {**PATTERNS, "use_rslora": True},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": "mica"},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"lora_bias": True},
        {"modules_to_save": ["head"]},
        {"layers_to_transform": [0, 2], "layers_pattern": "layers"},
        {"exclude_modules": r".*layers\.1\..*"},
        {"target_modules": r".*\.(q|k)_proj"},
        {"velora_config": {"num_groups": 2}},
        {"alora_invocation_tokens": [1, 2], "task_type": "CAUSAL_LM"},
    ],
    ids=lambda fields: ",".join(fields) or "plain",
)
def test_linear(tmp_path, fields):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = lora(**fields)
        task = config.task_type
        config.task_type = None
        model = make(config)
        config.task_type = task
    save(model, tmp_path)
    assert_same(load_one(tmp_path), live_deltas(model))


def test_patterns_are_not_trivial(tmp_path):
    """Several keys match one name, so a longest-match or last-match reader would differ."""
    save(make(lora(**PATTERNS)), tmp_path)
    adapter = load_one(tmp_path)
    assert adapter.modules[ModuleKey(0, "k_proj")].rank == 2
    assert adapter.entry(ModuleKey(1, "q_proj")).scale == 5 / 3
    assert adapter.entry(ModuleKey(0, "k_proj")).scale == 9 / 2
    assert adapter.entry(ModuleKey(2, "k_proj")).scale == 12 / 2


def test_rslora_scale_is_exact(tmp_path):
    save(make(lora(use_rslora=True, r=3)), tmp_path)
    assert load_one(tmp_path).entry(ModuleKey(0, "q_proj")).scale == 12 / math.sqrt(3)


def test_embedding(tmp_path):
    model = make(lora(target_modules=["embed", "q_proj"], alpha_pattern={"embed": 5}))
    save(model, tmp_path)
    adapter = load_one(tmp_path)
    assert adapter.modules[ModuleKey(-1, "embed")][:2] == (20, 12)
    assert_same(adapter, live_deltas(model))


def test_convolutions(tmp_path):
    model = make(lora(target_modules=["conv1", "conv2", "conv3"]))
    save(model, tmp_path)
    adapter = load_one(tmp_path)
    assert adapter.modules[ModuleKey(-1, "conv2")] == (6, 4 * 2 * 3, 4)
    assert_same(adapter, live_deltas(model))


def test_gpt2_conv1d_mixed_with_linear(tmp_path):
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=8, vocab_size=16, n_positions=8, n_inner=20
    )
    model = transformers.GPT2LMHeadModel(config)
    model.transformer.h[0].mlp.c_proj = torch.nn.Linear(20, 8)
    fields = {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}
    model = make(lora(**fields), model)
    save(model, tmp_path)
    deltas = live_deltas(model)
    # A Conv1D weight is (in, out): PEFT transposes the assembled update, the factors stay.
    linear = "base_model.model.transformer.h.0.mlp.c_proj"
    deltas = {p: d if p == linear else d.T for p, d in deltas.items()}
    assert_same(load_one(tmp_path), deltas)


def test_llama_and_its_keys(tmp_path):
    config = transformers.LlamaConfig(
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=16,
    )
    model = make(
        lora(target_modules="all-linear", alpha_pattern={"^model.layers.0": 3, "v_proj": 1}),
        transformers.LlamaForCausalLM(config),
    )
    save(model, tmp_path)
    adapter = load_one(tmp_path)
    assert ModuleKey(1, "self_attn.q_proj") in adapter.modules
    assert_same(adapter, live_deltas(model))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_stored_types(tmp_path, dtype, form):
    model = make(lora(), dtype=getattr(torch, dtype))
    folder = save(model, tmp_path, safe_serialization=form == "safetensors")
    if form == "bin":
        state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        torch.save(state, folder / "adapter_model.bin")
        (folder / "adapter_model.safetensors").unlink(missing_ok=True)
    adapter = load_one(folder)
    wide = make(lora(), dtype=torch.float64)
    own = dict(wide.named_parameters())
    for name, parameter in model.named_parameters():
        own[name].data.copy_(parameter.data.double())
    # Against PEFT's arithmetic in float64 on the stored bits: theirs in half precision rounds.
    assert_same(adapter, live_deltas(wide), tolerance=1e-12)
    expected = np.float64 if dtype == "float64" else np.float32
    assert all(adapter.dtype(key) == expected for key in adapter.modules)


def test_bin_with_views_and_parameters(tmp_path):
    """torch.save keeps views of one storage and wraps parameters: both are tensors all the same."""
    model = make(lora(target_modules=["q_proj"]))
    save(model, tmp_path)
    state = dict(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
    for name in state:
        if "lora_B" in name:
            wide = torch.zeros(10, 9)
            wide[:, 2:6] = state[name]
            state[name] = torch.nn.Parameter(wide[:, 2:6])
        else:
            state[name] = state[name].T.contiguous().T
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(state, tmp_path / "adapter_model.bin")
    assert_same(load_one(tmp_path), live_deltas(model))


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_live_state_dict(tmp_path, form):
    """The keys of model.state_dict() name the adapter and come with the whole model."""
    model = make(lora(target_modules=["embed", "q_proj"], modules_to_save=["head"]))
    save(model, tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if form == "bin":
        torch.save(state, tmp_path / "adapter_model.bin")
    else:
        from safetensors.torch import save_file

        save_file(state, tmp_path / "adapter_model.safetensors")
    adapter = load_one(tmp_path)
    assert_same(adapter, live_deltas(model))
    assert len(adapter.provenance["excluded"]) == 1 + len(state) - 2 * len(adapter.modules)


def test_trainable_tokens_are_left_out(tmp_path):
    model = make(lora(target_modules=["q_proj"], trainable_token_indices={"embed": [1, 3]}))
    save(model, tmp_path)
    adapter = load_one(tmp_path)
    assert_same(adapter, live_deltas(model))
    assert any("trainable_tokens_delta" in name for name in adapter.provenance["excluded"])


def test_saved_embedding_matrix_is_left_out(tmp_path):
    config = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
    )
    config.vocab_size = 16
    model = make(lora(target_modules=["embed_tokens"]), transformers.LlamaForCausalLM(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(tmp_path), save_embedding_layers=True)
    adapter = load_one(tmp_path)
    assert_same(adapter, live_deltas(model))
    assert any("base model's own" in why for why in adapter.provenance["excluded"].values())


def adalora(**fields):
    return peft.AdaLoraConfig(
        **{"init_r": 5, "target_r": 2, "total_step": 10, "lora_alpha": 12, **fields},
        target_modules=["q_proj", "down_proj"],
    )


@pytest.mark.parametrize("live", [False, True])
def test_adalora(tmp_path, live):
    model = make(adalora())
    save(model, tmp_path)
    if live:
        (tmp_path / "adapter_model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "adapter_model.bin")
    assert_same(load_one(tmp_path), live_deltas(model))


def test_adalora_after_pruning(tmp_path):
    """Saved ranks shrink, the divisor stays the initial rank; one module loses all of its rank."""
    model = make(adalora())
    pattern = {}
    for i, name in enumerate(n for n, _ in model.named_parameters() if "lora_E" in n):
        kept = [k % (i + 1) == 0 for k in range(5)] if i else [False] * 5
        pattern[name.removeprefix("base_model.model.")] = kept
        masked = dict(model.named_parameters())[name].data
        masked[~torch.tensor(kept)] = 0
    expected = live_deltas(model)
    model.peft_config["default"].rank_pattern = pattern
    save(model, tmp_path)
    adapter = load_one(tmp_path)
    keys = {parse_module_path(path): delta for path, delta in expected.items()}
    assert set(keys) == set(adapter.modules)
    for key, delta in keys.items():
        np.testing.assert_allclose(adapter.load(key).dense(), delta, rtol=0, atol=2e-6)
    assert sorted({shape.rank for shape in adapter.modules.values()})[0] == 1
    assert max(np.abs(delta).max() for delta in keys.values()) > 1


def test_multihead_attention(tmp_path):
    """It is wrapped as a whole: both of its weights share the module's rank and alpha."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = torch.nn.MultiheadAttention(8, 2)
            self.lin = torch.nn.Linear(8, 8)

    config = lora(target_modules=["attn"], rank_pattern={"attn": 3}, alpha_pattern={"attn": 5})
    model = make(config, Model())
    save(model, tmp_path)
    adapter = load_one(tmp_path)
    wrapper = model.base_model.model.attn
    out = wrapper.base_layer.out_proj
    with torch.no_grad():
        deltas = {
            "attn": wrapper.get_delta_weight("default").double().numpy(),
            "attn.base_layer.out_proj": out.get_delta_weight("default").double().numpy(),
        }
    assert_same(adapter, deltas)
    assert adapter.provenance["notes"] == []


def test_what_is_read_here_loads_back_in_peft(tmp_path):
    """The parameters, not only the products: scale and factors reproduce a second live model."""
    model = make(lora(use_rslora=True, rank_pattern={"k_proj": 2}))
    save(model, tmp_path)
    torch.manual_seed(0)
    again = peft.PeftModel.from_pretrained(Tiny(), str(tmp_path))
    assert_same(load_one(tmp_path), live_deltas(again))

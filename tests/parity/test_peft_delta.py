"""Every ΔW read here against the one a live PEFT model applies (`get_delta_weight`)."""

import math
import warnings

import numpy as np
import pytest

from jaxtask.adapters import ModuleKey, load_adapters, parse_module_path
from jaxtask.errors import AdapterError

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch", reason="parity tests need torch")
with warnings.catch_warnings():
    # Deprecations inside third-party packages while they are imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    peft = pytest.importorskip("peft", reason="parity tests need peft")
    import transformers


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(12, 10)
        self.k_proj = torch.nn.Linear(12, 6, bias=False)
        self.down_proj = torch.nn.Linear(6, 12)


class Tiny(torch.nn.Module):
    """Linear layers in a stack, an embedding, convolutions and a head."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(20, 12)
        self.layers = torch.nn.ModuleList([Block() for _ in range(3)])
        self.conv1 = torch.nn.Conv1d(4, 6, 3)
        self.conv2 = torch.nn.Conv2d(4, 6, (2, 3))
        self.conv3 = torch.nn.Conv3d(2, 6, 2)
        self.grouped = torch.nn.Conv2d(4, 8, 3, groups=2)
        self.head = torch.nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.embed(x))


def randomise(model):
    """Gives every adapter tensor values, as if trained (B starts at zero)."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if "lora_" in name and "ranknum" not in name:
            values = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(values.to(parameter.dtype))
    return model


def make(config, base=None, dtype=None):
    torch.manual_seed(0)
    base = Tiny() if base is None else base
    if dtype is not None:
        base = base.to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base, config, autocast_adapter_dtype=dtype is None)
    return randomise(model)


def save(model, folder, **options):
    with warnings.catch_warnings():
        # PEFT warns that it saves embeddings, and that it cannot look up a base model.
        warnings.simplefilter("ignore")
        model.save_pretrained(str(folder), save_embedding_layers=False, **options)
    return folder


def live_deltas(model):
    """Stored module path → ΔW as PEFT applies it, float64."""
    deltas = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and "default" in getattr(module, "r", {}):
            with torch.no_grad():
                deltas[name] = module.get_delta_weight("default").double().numpy()
    assert deltas
    return deltas


def assert_same(adapter, deltas, tolerance=1e-6, transposed=()):
    """Every live ΔW, and nothing else, is what the adapter gives."""
    expected = {}
    for path, delta in deltas.items():
        delta = delta.T if any(name in path for name in transposed) else delta
        expected[parse_module_path(path)] = delta.reshape(delta.shape[0], -1)
    assert set(adapter.modules) == set(expected)
    for key, delta in expected.items():
        ours = adapter.load(key).dense()
        assert ours.shape == delta.shape
        error = np.abs(ours - delta).max() / np.abs(delta).max()
        assert error <= tolerance, (key, error)


def load_one(folder, **options):
    (adapter,) = load_adapters(folder, **options).adapters
    return adapter


def lora(**fields):
    fields.setdefault("target_modules", ["q_proj", "k_proj", "down_proj"])
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 12, **fields})


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
    assert adapter.shape(ModuleKey(0, "k_proj")).rank == 2
    assert adapter.scale(ModuleKey(1, "q_proj")) == 5 / 3
    assert adapter.scale(ModuleKey(0, "k_proj")) == 9 / 2
    assert adapter.scale(ModuleKey(2, "k_proj")) == 12 / 2


def test_rslora_scale_is_exact(tmp_path):
    save(make(lora(use_rslora=True, r=3)), tmp_path)
    assert load_one(tmp_path).scale(ModuleKey(0, "q_proj")) == 12 / math.sqrt(3)


def test_embedding(tmp_path):
    model = make(lora(target_modules=["embed", "q_proj"], alpha_pattern={"embed": 5}))
    save(model, tmp_path)
    adapter = load_one(tmp_path)
    assert adapter.shape(ModuleKey(-1, "embed"))[:2] == (20, 12)
    assert_same(adapter, live_deltas(model))


def test_convolutions(tmp_path):
    model = make(lora(target_modules=["conv1", "conv2", "conv3"]))
    save(model, tmp_path)
    adapter = load_one(tmp_path)
    assert adapter.shape(ModuleKey(-1, "conv2")) == (6, 4 * 2 * 3, 4)
    assert_same(adapter, live_deltas(model))


def test_grouped_convolution_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(make(lora(target_modules=["grouped"])), tmp_path)
    with pytest.raises(AdapterError, match="grouped convolution \\(2 groups\\)"):
        load_adapters(tmp_path)


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


def test_legacy_bin_is_refused(tmp_path):
    model = save(make(lora()), tmp_path)
    (model / "adapter_model.safetensors").unlink()
    state = {"a": torch.ones(2)}
    torch.save(state, tmp_path / "adapter_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(AdapterError, match=r"before torch 1\.6"):
        load_adapters(tmp_path)


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


def moe(target_parameters, **fields):
    config = transformers.MixtralConfig(
        hidden_size=8,
        intermediate_size=6,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
        vocab_size=16,
    )
    fields = {"target_modules": ["q_proj"], "r": 2, **fields}
    model = transformers.MixtralForCausalLM(config)
    return make(lora(target_parameters=target_parameters, **fields), model)


@pytest.mark.parametrize(
    "target_parameters",
    [
        ["mlp.experts.down_proj"],
        ["mlp.experts.gate_up_proj"],
        ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        ["down_proj", "gate_up_proj"],
    ],
)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "use_rslora": True,
            "rank_pattern": {"down_proj": 3},
            "alpha_pattern": {"gate_up_proj": 5},
        },
    ],
    ids=["plain", "patterns"],
)
def test_experts(tmp_path, target_parameters, fields):
    model = moe(target_parameters, **fields)
    save(model, tmp_path)
    deltas = {}
    for path, delta in live_deltas(model).items():
        if delta.ndim == 3:
            deltas |= {f"{path}.{expert}": part for expert, part in enumerate(delta)}
        else:
            deltas[path] = delta
    adapter = load_one(tmp_path)
    assert_same(adapter, deltas)
    assert ModuleKey(1, "mlp.experts.2") in adapter.modules
    nested = ModuleKey(1, "mlp.experts.base_layer.2") in adapter.modules
    assert nested == (len(target_parameters) == 2)


def test_expert_parameters_are_named_right(tmp_path):
    """The file does not say which parameter is the inner one; the live model does."""
    model = moe(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"])
    save(model, tmp_path)
    adapter = load_one(tmp_path)
    for path, module in model.named_modules():
        if type(module).__name__ == "ParamWrapper":
            key = parse_module_path(f"{path}.0")
            assert adapter.entry(key).parameter == module.parameter_name


def test_transposed_experts(tmp_path):
    """gpt-oss stores its experts as (E, in, out): the factors still read (out, r) and (r, in)."""

    class Experts(torch.nn.Module):
        is_transposed = True

        def __init__(self):
            super().__init__()
            self.gate_up_proj = torch.nn.Parameter(torch.randn(3, 8, 10))

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = Experts()
            self.lin = torch.nn.Linear(3, 3)

    config = lora(target_modules=[], target_parameters=["experts.gate_up_proj"], r=2)
    model = make(config, Model())
    save(model, tmp_path)
    (delta,) = live_deltas(model).values()
    adapter = load_one(tmp_path)
    assert_same(adapter, {f"experts.{e}": part.T for e, part in enumerate(delta)})


def test_one_expert_or_matrix_parameter(tmp_path):
    model = make(lora(target_modules=[], target_parameters=["q_proj.weight"]))
    save(model, tmp_path)
    assert_same(load_one(tmp_path), live_deltas(model))


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


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "PiSSA"),
        ({"init_lora_weights": "pissa_niter_4"}, "PiSSA"),
        ({"init_lora_weights": "olora"}, "OLoRA"),
        ({"kasa_config": {}}, "kasa_config"),
        ({"monteclora_config": {}}, "monteclora_config"),
        ({"use_bdlora": {"nblocks": 2, "target_modules_bd_a": ["q_proj"]}}, "use_bdlora"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_refused_lora(tmp_path, fields, what):
    if "kasa_config" in fields:
        fields = {"kasa_config": peft.KasaConfig()}
    if "monteclora_config" in fields:
        fields = {"monteclora_config": peft.MontecloraConfig()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(lora(**fields, target_modules=["q_proj"]))
    save(model, tmp_path)
    with pytest.raises(AdapterError, match=what):
        load_adapters(tmp_path)
    if "use_bdlora" in fields:
        with pytest.raises(AdapterError, match=what):
            load_adapters(tmp_path, directional=True)
    else:
        adapter = load_one(tmp_path, directional=True)
        assert what in adapter.provenance["approximate"]
        layer = model.base_model.model.layers[0].q_proj
        A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        expected = (3.0 * B.double() @ A.double()).detach().numpy()
        ours = adapter.load(ModuleKey(0, "q_proj")).dense()
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_pissa_saved_converted_is_plain(tmp_path):
    torch.manual_seed(0)
    base = Tiny()
    reference = {name: p.detach().clone() for name, p in base.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = lora(init_lora_weights="pissa", target_modules=["q_proj"])
        model = peft.get_peft_model(base, config)
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(str(tmp_path / "start"))
        model.peft_config["default"].init_lora_weights = "pissa"
        randomise(model)
        model.save_pretrained(
            str(tmp_path / "end"), path_initial_model_for_weight_conversion=str(tmp_path / "start")
        )
    adapter = load_one(tmp_path / "end")
    assert adapter.shape(ModuleKey(0, "q_proj")).rank == 8
    layer = model.base_model.model.layers[0].q_proj
    with torch.no_grad():
        merged = layer.base_layer.weight + layer.get_delta_weight("default")
        expected = (merged - reference["layers.0.q_proj.weight"]).double().numpy()
    ours = adapter.load(ModuleKey(0, "q_proj")).dense()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        lambda: peft.LoHaConfig(target_modules=["q_proj"]),
        lambda: peft.LoKrConfig(target_modules=["q_proj"]),
        lambda: peft.OFTConfig(target_modules=["down_proj"], r=2, oft_block_size=0),
        lambda: peft.BOFTConfig(target_modules=["down_proj"], boft_block_size=2),
        lambda: peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
        lambda: peft.HRAConfig(target_modules=["q_proj"]),
        lambda: peft.VeraConfig(target_modules=["q_proj"]),
        lambda: peft.FourierFTConfig(target_modules=["q_proj"], n_frequency=5),
    ],
    ids=["LOHA", "LOKR", "OFT", "BOFT", "IA3", "HRA", "VERA", "FOURIERFT"],
)
def test_other_kinds_are_refused(tmp_path, config, request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(config())
        save(model, tmp_path)
    kind = request.node.callspec.id
    with pytest.raises(AdapterError, match=f"peft_type is '{kind}'"):
        load_adapters(tmp_path, directional=True)


def test_every_config_field_is_decided():
    """A field that a newer PEFT adds must be looked at, not slip through."""
    import dataclasses

    from jaxtask.adapters._fields import HARMLESS, REFUSED, USED

    known = USED | HARMLESS | set(REFUSED)
    for config in (peft.LoraConfig, peft.AdaLoraConfig):
        assert {field.name for field in dataclasses.fields(config)} - known == set()
    assert not USED & HARMLESS
    assert not (USED | HARMLESS) & set(REFUSED)


def test_every_other_peft_type_is_refused(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    kinds = {kind.value for kind in peft.PeftType} - {"LORA", "ADALORA"}
    assert len(kinds) > 30
    for kind in kinds:
        (tmp_path / "adapter_config.json").write_text(f'{{"peft_type": "{kind}"}}')
        with pytest.raises(AdapterError, match=f"peft_type is '{kind}'"):
            load_adapters(tmp_path, directional=True)


def test_what_is_read_here_loads_back_in_peft(tmp_path):
    """The parameters, not only the products: scale and factors reproduce a second live model."""
    model = make(lora(use_rslora=True, rank_pattern={"k_proj": 2}))
    save(model, tmp_path)
    torch.manual_seed(0)
    again = peft.PeftModel.from_pretrained(Tiny(), str(tmp_path))
    assert_same(load_one(tmp_path), live_deltas(again))

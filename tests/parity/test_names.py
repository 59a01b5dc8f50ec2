"""Module names of real architectures: keys that tell every module apart, whatever is put around."""

import pytest

from jaxtask.adapters import parse_module_path
from jaxtask.adapters.keys import module_keys, strip_wrappers
from parity.live_peft import (
    assert_same,
    live_deltas,
    load_one,
    lora,
    make,
    save,
    torch,
    transformers,
)

pytestmark = pytest.mark.parity

# Architecture (model type) → a class to build it with; two layers each, on the meta device.
CAUSAL = [
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "phi", "phi3",
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "mpt", "mamba", "codegen",
    "stablelm", "olmo2", "cohere", "starcoder2", "granite", "deepseek_v3", "xglm", "gpt_bigcode",
]  # fmt: skip
ENCODERS = [
    "bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "mpnet", "esm", "xlnet",
    "modernbert", "vit", "deit", "dinov2", "swin", "convnext", "wav2vec2", "hubert", "clip",
    "siglip", "t5", "bart", "whisper", "blip-2", "llava", "qwen2_vl", "qwen2_5_vl", "idefics2",
]  # fmt: skip
_SMALL = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers",
    "encoder_layers", "decoder_layers", "depth",
)  # fmt: skip


def shrink(config):
    for name in _SMALL:
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, 2)
    if vars(config).get("layer_types"):
        config.layer_types = config.layer_types[:2]
    if config.model_type == "esm":  # has no vocabulary of its own
        config.vocab_size = 33
    for name in getattr(config, "sub_configs", {}):
        if getattr(config, name, None) is not None:
            shrink(getattr(config, name))
    return config


def build(kind, auto):
    config = shrink(transformers.AutoConfig.for_model(kind))
    with torch.device("meta"):
        return auto.from_config(config)


def linear_paths(model):
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.Embedding)
        or type(module).__name__ == "Conv1D"
    ]


def check(model):
    paths = linear_paths(model)
    keys = {path: parse_module_path(path) for path in paths}
    assert len(set(keys.values())) == len(paths)
    assert module_keys(paths) == keys
    for path in paths:
        for around in ("module.base_model.model.{}", "base_model.model._orig_mod.{}"):
            assert parse_module_path(around.format(path)) == keys[path]
            assert strip_wrappers(around.format(path)) == path
    # The stack of the model is what its list of blocks is.
    stacks = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and not any(t.isdigit() for t in name.split("."))
    ]
    for path in paths:
        for stack in stacks:
            number, _, module = path.removeprefix(f"{stack}.").partition(".")
            if path.startswith(f"{stack}.") and module:
                assert keys[path].layer == int(number), path


@pytest.mark.parametrize("kind", CAUSAL)
def test_causal_models(kind):
    model = build(kind, transformers.AutoModelForCausalLM)
    check(model)
    # The bare model, without its head, has the same keys.
    with torch.device("meta"):
        bare = transformers.AutoModel.from_config(model.config)
    have = {parse_module_path(path) for path in linear_paths(model)}
    assert {parse_module_path(path) for path in linear_paths(bare)} <= have


@pytest.mark.parametrize("kind", ENCODERS)
def test_other_models(kind):
    check(build(kind, transformers.AutoModel))


class Wrapper(torch.nn.Module):
    """As TRL's value-head models hold a PEFT model."""

    def __init__(self, model):
        super().__init__()
        self.pretrained_model = model


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside torch.compile
@pytest.mark.parametrize(
    "wrap",
    [torch.nn.DataParallel, Wrapper, torch.compile, lambda m: torch.nn.DataParallel(Wrapper(m))],
    ids=["module", "pretrained_model", "_orig_mod", "both"],
)
def test_wrapped_around_a_live_model(tmp_path, wrap):
    """Tensors taken of the wrapped model, as trainers do, give what PEFT applies."""
    from safetensors.torch import save_file

    fields = {"alpha_pattern": {r"^layers\.0\.q_proj": 24}, "rank_pattern": {"^layers.1.*": 2}}
    model = make(lora(**fields))
    save(model, tmp_path)
    tensors = wrap(model).state_dict()
    factors = {n: t.contiguous() for n, t in tensors.items() if ".lora_" in n}
    assert not any(n.startswith("base_model") for n in factors)
    save_file(factors, tmp_path / "adapter_model.safetensors")
    assert_same(load_one(tmp_path), live_deltas(model))

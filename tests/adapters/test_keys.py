import numpy as np
import pytest

from adapters.adapter_files import make_pair
from jaxtask.adapters import AdapterBank, ModuleKey, load_adapters, parse_module_path
from jaxtask.adapters.keys import module_keys, parse_flat_name, strip_wrappers
from jaxtask.errors import AdapterError

PATHS = {
    "base_model.model.model.layers.3.self_attn.q_proj": (3, "self_attn.q_proj"),
    "model.layers.3.self_attn.q_proj": (3, "self_attn.q_proj"),
    "layers.0.self_attn.q_proj": (0, "self_attn.q_proj"),
    "base_model.model.roberta.encoder.layer.11.attention.self.query": (11, "attention.self.query"),
    "encoder.layer.2.output.dense": (2, "output.dense"),
    "bert.encoder.layer.2.output.dense": (2, "output.dense"),
    "distilbert.transformer.layer.1.attention.q_lin": (1, "attention.q_lin"),
    "base_model.model.transformer.h.7.attn.c_attn": (7, "attn.c_attn"),
    "gpt_neox.layers.4.attention.query_key_value": (4, "attention.query_key_value"),
    "encoder.block.5.layer.0.SelfAttention.q": (5, "encoder.layer.0.SelfAttention.q"),
    "decoder.block.5.layer.0.SelfAttention.q": (5, "decoder.layer.0.SelfAttention.q"),
    "model.encoder.layers.1.fc1": (1, "encoder.fc1"),
    "model.decoder.layers.1.fc1": (1, "decoder.fc1"),
    "encoder.encoder.layer.1.output.dense": (1, "encoder.output.dense"),
    "decoder.bert.encoder.layer.1.output.dense": (1, "decoder.bert.output.dense"),
    "model.layers.2.mlp.experts.7.down_proj": (2, "mlp.experts.7.down_proj"),
    "model.layers.2.block_sparse_moe.experts.0.w1": (2, "block_sparse_moe.experts.0.w1"),
    "model.language_model.layers.1.mlp.up_proj": (1, "mlp.up_proj"),
    "language_model.model.layers.1.mlp.up_proj": (1, "mlp.up_proj"),
    "vision_tower.vision_model.encoder.layers.1.mlp.fc1": (1, "vision_tower.mlp.fc1"),
    "visual.blocks.30.attn.qkv": (30, "visual.attn.qkv"),
    "model.visual.merger.mlp.0": (-1, "visual.merger.mlp.0"),
    "backbone.layers.5.mixer.in_proj": (5, "mixer.in_proj"),
    "transformer.blocks.2.attn.Wqkv": (2, "blocks.attn.Wqkv"),
    "transformer.encoder.layers.2.mlp.dense_h_to_4h": (2, "encoder.mlp.dense_h_to_4h"),
    "thinker.model.layers.2.self_attn.q_proj": (2, "self_attn.q_proj"),
    "talker.model.layers.2.self_attn.q_proj": (2, "talker.self_attn.q_proj"),
    "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn": (
        0,
        "encoder.albert_layer_groups.albert_layers.0.ffn",
    ),
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (
        1,
        "down_blocks.attentions.0.transformer_blocks.0.attn1.to_q",
    ),
    "stages.2.units.1.proj": (2, "stages.units.1.proj"),
    "layers.07.proj": (-1, "layers.07.proj"),
    "layers.12345678.proj": (-1, "layers.12345678.proj"),
    "layers.3": (-1, "layers.3"),
    "bbox_predictor.layers.0": (-1, "bbox_predictor.layers.0"),
    "0.auto_model.encoder.layer.3.output.dense": (3, "output.dense"),
    "vit.encoder.layer.0.attention.attention.query": (0, "attention.attention.query"),
    "transformer.transformer_blocks.3.attn.to_q": (3, "transformer_blocks.attn.to_q"),
    "transformer.single_transformer_blocks.3.attn.to_q": (3, "single_transformer_blocks.attn.to_q"),
    "base_model.model.model.embed_tokens": (-1, "embed_tokens"),
    "roberta.embeddings.word_embeddings": (-1, "embeddings.word_embeddings"),
    "lm_head": (-1, "lm_head"),
    "model": (-1, "model"),
    "0": (-1, "0"),
    "layer1.0.conv": (0, "layer1.conv"),
    "_orig_mod.model.layers.0._fsdp_wrapped_module.mlp.up_proj": (0, "mlp.up_proj"),
}


@pytest.mark.parametrize("path", PATHS)
def test_paths(path):
    assert parse_module_path(path) == PATHS[path]
    assert isinstance(parse_module_path(path), ModuleKey)


def test_keys_sort_by_layer_as_a_number():
    paths = ["layers.10.a", "layers.2.b", "layers.2.a", "embed"]
    keys = sorted(parse_module_path(path) for path in paths)
    assert keys == [(-1, "embed"), (2, "a"), (2, "b"), (10, "a")]


@pytest.mark.parametrize(
    "path", ["", ".", "a..b", "a.", "base_model.model.", "base_model.model", None, 3]
)
def test_not_a_path(path):
    with pytest.raises(AdapterError, match=r"is not a module path|names no module"):
        parse_module_path(path)


BARE = "model.layers.3.self_attn.q_proj"
WRAPPED = [
    "module.base_model.model.{}",
    "_orig_mod.base_model.model.{}",
    "module._orig_mod.module.base_model.model.{}",
    "base_model.model._orig_mod.{}",
    "base_model.model.module.{}",
    "base_model.model.base_model.model.{}",
    "pretrained_model.base_model.model.{}",
    "base_model.model.pretrained_model.{}",
    "_forward_module.module.base_model.model.{}",
    "_fsdp_wrapped_module.base_model._fsdp_wrapped_module.model.{}",
    "model.base_model.model.{}",
]


@pytest.mark.parametrize("around", WRAPPED)
@pytest.mark.parametrize("path", [BARE, "roberta.encoder.layer.1.output.dense", "lm_head"])
def test_wrappers_say_nothing(around, path):
    assert parse_module_path(around.format(path)) == parse_module_path(path)
    assert strip_wrappers(around.format(path)) == path


def test_wrappers_inside_the_model():
    path = "base_model.model.model.layers.3._fsdp_wrapped_module.self_attn.module.q_proj._orig_mod"
    assert parse_module_path(path) == (3, "self_attn.q_proj")
    assert strip_wrappers(path) == BARE


def test_patterns_match_the_name_within_a_tower():
    path = "language_model.base_model.model.model.layers.3.self_attn.q_proj"
    assert strip_wrappers(path) == BARE
    assert parse_module_path(path) == (3, "self_attn.q_proj")
    vision = path.replace("language_model", "vision_model")
    assert parse_module_path(vision) == (3, "vision_model.self_attn.q_proj")


@pytest.mark.parametrize("around", WRAPPED)
def test_wrapped_adapters_have_the_scale_of_the_bare_one(write, around):
    """alpha_pattern and rank_pattern, also with ^, match the name that PEFT matched."""
    scales = {}
    for name, wrap in (("bare", "base_model.model.{}"), ("wrapped", around)):
        tensors = {}
        for seed, path in enumerate([BARE, BARE.replace(".3.", ".10.")]):
            B, A = make_pair(seed)
            tensors[f"{wrap.format(path)}.lora_A.weight"] = A
            tensors[f"{wrap.format(path)}.lora_B.weight"] = B
        fields = {"alpha_pattern": {r"^model\.layers\.3\..*": 16}, "rank_pattern": {r"^model.*": 4}}
        (adapter,) = load_adapters(write(tensors, name, **fields)).adapters
        assert adapter.provenance["notes"] == []
        scales[name] = {key: adapter.entry(key).scale for key in adapter.modules}
    assert scales["wrapped"] == scales["bare"]
    assert scales["bare"] == {(3, "self_attn.q_proj"): 4.0, (10, "self_attn.q_proj"): 2.0}


# What releases of transformers called one module of one architecture.
RELEASES = {
    "Qwen2-VL": ["model.layers.2.mlp.up_proj", "model.language_model.layers.2.mlp.up_proj"],
    "Qwen2-VL vision": ["visual.blocks.2.attn.qkv", "model.visual.blocks.2.attn.qkv"],
    "LLaVA": ["language_model.model.layers.2.fc", "model.language_model.layers.2.fc"],
    "LLaVA vision": [
        "vision_tower.vision_model.encoder.layers.2.mlp.fc1",
        "model.vision_tower.vision_model.encoder.layers.2.mlp.fc1",
        "model.vision_tower.encoder.layers.2.mlp.fc1",
        "model.vision_tower.layers.2.mlp.fc1",
    ],
    "LLaVA head": ["language_model.lm_head", "lm_head"],
    "LLaVA embedding": ["language_model.model.embed_tokens", "model.language_model.embed_tokens"],
    "MiniCPM-V": ["llm.model.layers.2.fc", "model.llm.layers.2.fc", "model.layers.2.fc"],
    "Idefics": ["text_model.model.layers.2.fc", "model.text_model.layers.2.fc"],
    "CLIP text": ["text_model.encoder.layers.2.mlp.fc1", "encoder.layers.2.mlp.fc1"],
    "ViT": ["vit.encoder.layer.2.fc", "vit.layers.2.fc", "encoder.layer.2.fc", "layers.2.fc"],
    "BERT": ["bert.encoder.layer.2.fc", "encoder.layer.2.fc"],
    "DistilBERT": ["distilbert.transformer.layer.2.fc", "transformer.layer.2.fc"],
    "GPT-2": ["transformer.h.2.attn.c_attn", "h.2.attn.c_attn"],
    "GPT-NeoX": ["gpt_neox.layers.2.fc", "layers.2.fc", "model.layers.2.fc"],
    "MPT": ["transformer.blocks.2.attn.Wqkv", "blocks.2.attn.Wqkv"],
    "Mamba": ["backbone.layers.2.mixer.in_proj", "model.layers.2.mixer.in_proj"],
    "Whisper": ["model.encoder.layers.2.fc1", "encoder.layers.2.fc1"],
}


@pytest.mark.parametrize("release", RELEASES)
def test_releases_of_one_architecture(release):
    assert len({parse_module_path(path) for path in RELEASES[release]}) == 1


SIDE_BY_SIDE = [
    ["encoder.layers.0.q", "decoder.layers.0.q", "layers.0.q"],
    ["layers.0.q", "blocks.0.q", "stages.0.q", "mtp_layers.0.q", "nextn.layers.0.q"],
    ["text_model.encoder.layers.0.q", "vision_model.encoder.layers.0.q"],
    ["model.layers.0.q", "visual.blocks.0.q", "audio_tower.layers.0.q", "vision_tower.layers.0.q"],
    ["tower_a.layers.0.q", "tower_b.layers.0.q"],
    ["x.units.0.q", "x.cells.0.q", "x.q"],
    ["towers.0.layers.1.q", "towers.1.layers.0.q", "towers.1.layers.1.q"],
    ["transformer_blocks.0.q", "single_transformer_blocks.0.q"],
    ["decoder.block.0.layer.0.q", "decoder.block.0.layer.1.q", "decoder.block.1.layer.0.q"],
]


@pytest.mark.parametrize("paths", SIDE_BY_SIDE, ids=lambda paths: paths[0])
def test_stacks_never_meet(paths):
    """Also in adapters that have only one of them each."""
    assert len({parse_module_path(path) for path in paths}) == len(paths)
    flat = ["lora_x_" + path.replace(".", "_") for path in paths]
    assert len({parse_flat_name(path) for path in flat}) == len(paths)
    assert [parse_flat_name(f).layer for f in flat] == [parse_module_path(p).layer for p in paths]


def test_stacks_that_would_become_one_keep_their_names():
    paths = ["bert.encoder.layer.0.q", "roberta.encoder.layer.0.k", "bert.pooler", "decoder.h.0.q"]
    keys = module_keys(paths)
    assert keys[paths[0]] == (0, "bert.encoder.layer.q")
    assert keys[paths[1]] == (0, "roberta.encoder.layer.k")
    assert keys[paths[2]] == (-1, "pooler")
    assert keys[paths[3]] == (0, "decoder.h.q")
    assert module_keys(["model.lm_head", "lm_head"]) == {
        "model.lm_head": (-1, "model.lm_head"),
        "lm_head": (-1, "lm_head"),
    }


FLAT = {
    "lora_te1_text_model_encoder_layers_3_self_attn_q_proj": (
        3,
        "lora_te1_text_model_encoder.layers.self_attn_q_proj",
    ),
    "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q": (
        0,
        "lora_unet.down_blocks.attentions_1_transformer_blocks_0_attn1_to_q",
    ),
    "lora_unet__orig_mod_down_blocks_2_resnets_0_conv1": (
        2,
        "lora_unet.down_blocks.resnets_0_conv1",
    ),
    "lora_unet_double_blocks_12_img_attn_qkv": (12, "lora_unet_double.blocks.img_attn_qkv"),
    "lora_unet_mid_block_attentions_0_proj_in": (0, "lora_unet_mid_block_attentions.proj_in"),
    "lora_unet_time_embedding_linear_1": (-1, "lora_unet_time_embedding_linear_1"),
    "unet.down_blocks.0.conv": (0, "unet.down_blocks.conv"),
}


@pytest.mark.parametrize("path", FLAT)
def test_flat_names(path):
    assert parse_flat_name(path) == FLAT[path]


def test_two_paths_with_one_key_are_refused():
    pair = (np.ones((2, 1)), np.ones((1, 2)))
    factors = {"module.bert.encoder.layer.0.q": pair, "bert.encoder.layer.0.q": pair}
    with pytest.raises(AdapterError, match=r"'module\.bert.*' and 'bert.* cannot be told apart"):
        AdapterBank.from_factors({"task": factors})

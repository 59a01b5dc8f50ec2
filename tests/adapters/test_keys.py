import numpy as np
import pytest

from jaxtask.adapters import AdapterBank, ModuleKey, parse_module_path
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
    "model.language_model.layers.1.mlp.up_proj": (1, "language_model.mlp.up_proj"),
    "language_model.model.layers.1.mlp.up_proj": (1, "language_model.mlp.up_proj"),
    "vision_tower.vision_model.encoder.layers.1.mlp.fc1": (
        1,
        "vision_tower.vision_model.encoder.mlp.fc1",
    ),
    "visual.blocks.30.attn.qkv": (30, "visual.attn.qkv"),
    "vit.encoder.layer.0.attention.attention.query": (0, "attention.attention.query"),
    "transformer.transformer_blocks.3.attn.to_q": (3, "transformer_blocks.attn.to_q"),
    "transformer.single_transformer_blocks.3.attn.to_q": (3, "single_transformer_blocks.attn.to_q"),
    "base_model.model.model.embed_tokens": (-1, "embed_tokens"),
    "roberta.embeddings.word_embeddings": (-1, "embeddings.word_embeddings"),
    "lm_head": (-1, "lm_head"),
    "model": (-1, "model"),
    "0": (-1, "0"),
    "layer1.0.conv": (-1, "layer1.0.conv"),
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


@pytest.mark.parametrize("path", ["", ".", "a..b", "a.", "base_model.model.", "layers.3", None, 3])
def test_not_a_path(path):
    with pytest.raises(AdapterError, match=r"is not a module path|names no module|no module in it"):
        parse_module_path(path)


def test_two_paths_with_one_key_are_refused():
    pair = (np.ones((2, 1)), np.ones((1, 2)))
    factors = {"bert.encoder.layer.0.q": pair, "encoder.layer.0.q": pair}
    with pytest.raises(AdapterError, match=r"'bert\.encoder\.layer\.0\.q' and 'encoder\.layer\.0"):
        AdapterBank.from_factors({"task": factors})

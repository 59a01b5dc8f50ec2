"""GGUF files, written here by the `gguf` package from a known model."""

import random

import numpy as np
import pytest
from flax import nnx

from finetune.tiny import LLAMA, largest_difference, model
from jaxtask.errors import ModelError
from jaxtask.finetune.models.find import base_config
from jaxtask.finetune.models.load import load_model
from jaxtask.finetune.models.names import places
from jaxtask.finetune.models.rope import Rope

gguf = pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(rows, heads):
    """Feature n of each head and feature n + half side by side, as GGUF wants them."""
    out = np.empty_like(rows)
    size = len(rows) // heads
    for head in range(heads):
        for n in range(size // 2):
            out[head * size + 2 * n] = rows[head * size + n]
            out[head * size + 2 * n + 1] = rows[head * size + n + size // 2]
    return out


def write(file, made, change=lambda writer: None, architecture="llama"):
    own = made.config
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_context_length(own.positions)
    writer.add_embedding_length(own.width)
    writer.add_block_count(own.layers)
    writer.add_feed_forward_length(own.mlp_width)
    writer.add_head_count(own.heads)
    writer.add_head_count_kv(own.kv_heads)
    writer.add_layer_norm_rms_eps(own.norm_eps)
    writer.add_rope_freq_base(own.rope.theta)
    writer.add_eos_token_id(2)
    change(writer)
    state = dict(nnx.to_flat_state(nnx.split(made)[1]))
    for name, place in places(made).items():
        array = np.asarray(state[place.path].get_value())
        array = array if place.layer is None else array[place.layer]
        array = np.ascontiguousarray(array.T if place.transposed else array)
        short = name.removesuffix(".weight")
        if place.layer is not None:
            short = short.removeprefix(f"model.layers.{place.layer}.")
        if short.endswith(("q_proj", "k_proj")):
            array = interleaved(array, own.heads if "q_proj" in short else own.kv_heads)
        block = "" if place.layer is None else f"blk.{place.layer}."
        kind = gguf.GGMLQuantizationType.F32
        if short == "mlp.up_proj":
            kind = gguf.GGMLQuantizationType.Q8_0
            array = gguf.quants.quantize(array, kind)
        writer.add_tensor(f"{block}{NAMES[short]}.weight", array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


# Quantised blocks are of 32 features.
WIDE = {**LLAMA, "hidden_size": 32}


def test_values(tmp_path):
    made = model(WIDE)
    found = load_model(write(tmp_path / "model.gguf", made), "float32")
    assert found.config.rope == Rope(10000.0)
    assert (found.config.heads, found.config.kv_heads, found.config.ends) == (4, 2, (2,))
    first, second = (nnx.split(m)[1] for m in (made, found))
    for path, variable in nnx.to_flat_state(first):
        other = dict(nnx.to_flat_state(second))[path]
        apart = largest_difference(variable.get_value(), other.get_value())
        assert apart <= (0.01 if "up_proj" in path else 0), path


def test_tied_and_rotary_factors(tmp_path):
    def factors(writer):
        writer.add_tensor("rope_freqs.weight", np.asarray([1, 2, 4, 8], np.float32))

    file = write(tmp_path / "model.gguf", model({**WIDE, "tie_word_embeddings": True}), factors)
    found = load_model(file, "float32")
    assert found.config.tied
    plain = Rope(10000.0).frequencies(8)
    np.testing.assert_allclose(found.config.rope.frequencies(8), plain / [1, 2, 4, 8], rtol=1e-6)


def test_files_that_are_not_read(tmp_path):
    file = write(tmp_path / "model.gguf", model(WIDE), architecture="gemma")
    with pytest.raises(ModelError, match=r"general.architecture is 'gemma', expected 'llama'"):
        load_model(file)

    def scaled(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)

    file = write(tmp_path / "scaled.gguf", model(WIDE), scaled)
    with pytest.raises(ModelError, match=r"rope.scaling.type is 'yarn', which is not supported"):
        load_model(file)
    with pytest.raises(ModelError, match=r"absent.gguf: is missing"):
        load_model(tmp_path / "absent.gguf")
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"cut.gguf: is missing, cut off or no GGUF file"):
        load_model(tmp_path / "cut.gguf")


def test_headers_that_lie(tmp_path):
    """Every number of the header as another, and every end: read, or refused in one line."""
    file = tmp_path / "model.gguf"
    good = write(file, model({**WIDE, "num_hidden_layers": 1})).read_bytes()
    head = good.index(b"blk.0.ffn_down") + 100
    chance = random.Random(0)
    numbers = [0, 1, 255, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1]
    refused = []
    for n in range(400):
        content, place = bytearray(good), chance.randrange(head)
        if n % 4 == 0:
            del content[place:]
        elif n % 4 == 1:
            content[place] = chance.randrange(256)
        else:
            content[place : place + 8] = chance.choice(numbers).to_bytes(8, "little")
        file.write_bytes(content)
        try:
            base_config(file)
        except ModelError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all(said.startswith(str(file)) and "\n" not in said for said in refused)


def test_what_the_file_says_of_its_tensors(tmp_path):
    file = write(tmp_path / "model.gguf", model(WIDE))
    good = file.read_bytes()
    at = good.index(b"token_embd.weight") + len(b"token_embd.weight")
    kind = at + 4 + 16
    for place, value, said in (
        (at, 5, "says that there are 5 dimensions"),
        (at + 4, 2**62, "reaches over the end of the file"),
        (kind + 4, 2**60, "reaches over the end of the file"),
    ):
        size = 4 if place == at else 8
        content = bytearray(good)
        content[place : place + size] = value.to_bytes(size, "little")
        file.write_bytes(content)
        with pytest.raises(ModelError, match=said):
            load_model(file)
    content = bytearray(good)
    content[kind : kind + 4] = (999).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"'token_embd.weight' is of an unknown type, 999"):
        load_model(file)

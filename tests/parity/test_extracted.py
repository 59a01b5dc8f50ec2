"""An extracted adapter in PEFT itself: the base model becomes the fine-tuned one."""

import warnings

import pytest

import jaxtask as jt
from jaxtask.extract.write import write_difference
from parity.live_peft import assert_same, live_deltas, load_one, peft, torch, transformers

GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
VOCABULARY = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}


def llama(**fields):
    config = transformers.LlamaConfig(**LLAMA, **VOCABULARY, tie_word_embeddings=False, **fields)
    return transformers.LlamaForCausalLM(config)


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2, **VOCABULARY))


def two(make, tmp_path, rank=2):
    """A random model, and the same with updates of that rank on all matrices, saved."""
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                m, n = parameter.shape
                # Of unlike ranks, so that the ranks of the written adapter differ too.
                k = rank + (m > n)
                parameter += 0.05 * torch.randn(m, k) @ torch.randn(k, n)
    model.save_pretrained(tmp_path / "tuned")
    return model


@pytest.mark.parity
@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("outside", [False, True])
def test_peft_applies_what_was_extracted(make, outside, tmp_path):
    tuned = two(make, tmp_path)
    base, out = tmp_path / "base", tmp_path / "adapter"
    adapter = jt.from_checkpoints(base, tmp_path / "tuned", rank=4, outside_layers=outside)
    ranks = {shape.rank for shape in adapter.modules.values()}
    assert ranks == {2, 3}
    write_difference(adapter, out)
    plain = type(tuned).from_pretrained(base).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between PEFT and transformers
        live = peft.PeftModel.from_pretrained(plain, out)
    assert_same(
        load_one(out),
        live_deltas(live),
        transposed=("c_attn", "c_proj", "c_fc") if make is gpt2 else (),
    )
    if outside and make is llama:  # GPT-2's head is its embedding, which PEFT adapts as one
        tokens = torch.arange(12).reshape(2, 6)
        with torch.no_grad():
            ours, theirs = live(tokens).logits, tuned(tokens).logits
            untouched = type(tuned).from_pretrained(base).eval()(tokens).logits
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
        assert (untouched - theirs).abs().max() > 0.1 * theirs.abs().max()

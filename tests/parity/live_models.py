"""Tiny models of transformers with random weights, and their outputs. Skips without torch."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

from parity.live_peft import peft as peft
from parity.live_peft import torch, transformers

TINY = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
LLAMA31 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
DECODERS = {
    "llama-2": ("Llama", {}),
    "llama-3": (
        "Llama",
        {"num_key_value_heads": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    ),
    "llama-3.1": ("Llama", {"num_key_value_heads": 2, "rope_parameters": LLAMA31}),
    "llama-3.2-tied": (
        "Llama",
        {"num_key_value_heads": 1, "rope_parameters": LLAMA31, "tie_word_embeddings": True},
    ),
    "llama-biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "mistral-window": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 7}),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": None, "head_dim": 16}),
}
ENCODERS = {
    "roberta": ("Roberta", {"pad_token_id": 1, "type_vocab_size": 1}),
    "bert": ("Bert", {"pad_token_id": 0, "type_vocab_size": 2}),
}


def one_of_each(kinds):
    """The first of every family."""
    return list({family: kind for kind, (family, _) in reversed(kinds.items())}.values())


def quiet(function, *arguments, **options):
    """Calls into third-party packages, whose own warnings are not ours to fail on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


def shaken(model):
    """Gives norms and biases values of their own, which start as ones and zeros."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        noise = 0.1 * torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(noise)
    return model.eval()


def make_decoder(kind, **fields):
    family, own = DECODERS[kind]
    torch.manual_seed(0)
    # Eager attention is the one that spells the definition out.
    options = {"num_key_value_heads": 4, **TINY, **own, **fields, "attn_implementation": "eager"}
    config = getattr(transformers, f"{family}Config")(**options)
    return shaken(quiet(getattr(transformers, f"{family}ForCausalLM"), config))


def make_encoder(kind, **fields):
    family, own = ENCODERS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        **{**TINY, **own, **fields, "attn_implementation": "eager"}
    )
    return shaken(quiet(getattr(transformers, f"{family}ForSequenceClassification"), config))


def save(model, folder, **options):
    quiet(model.save_pretrained, str(folder), **options)
    return folder


def tensor(array):
    return torch.from_numpy(np.array(array, dtype=np.int64))


def text(rng, *shape, vocabulary=TINY["vocab_size"]):
    """Tokens that are neither padding, begin nor end."""
    return rng.integers(4, vocabulary, shape).astype(np.int32)


def right_padded(rng, lengths, width, pad):
    """Tokens, positions and segments [1, B, S] of rows of these lengths."""
    tokens = text(rng, len(lengths), width)
    place = np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape)
    inside = place < np.asarray(lengths)[:, None]
    tokens = np.where(inside, tokens, pad)
    return (a.astype(np.int32)[None] for a in (tokens, np.where(inside, place, 0), inside))


def package_file(package, pattern):
    """A file that an installed package carries, found without importing it; skips without it."""
    module = importlib.util.find_spec(package)
    if module is None:
        pytest.skip(f"the real model is in the package {package}, which is not installed")
    (found,) = Path(module.origin).parent.rglob(pattern)
    return found

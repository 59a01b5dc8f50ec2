"""The table of architectures: all that tells one from another, a row each.

Rows say what `config.py`, `names.py`, `decoder.py` and `encoder.py` ask of them. What a missing
field of a `config.json` means is as in the config classes of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


class LinearLayer(NamedTuple):
    """A linear layer of every layer of a model.

    Attributes:
        parameter: Its name here.
        divided: Which of its sides the mesh's "model" axis divides. Queries, keys and the first
            layers of the feed-forward part are divided by their outputs, the layers after them by
            their inputs, so that one sum over devices is enough for each pair.

    """

    parameter: str
    divided: Literal["output", "input"]


# By the path within the layer, in files and in adapters.
DECODER_LINEARS = {
    "self_attn.q_proj": LinearLayer("q_proj", "output"),
    "self_attn.k_proj": LinearLayer("k_proj", "output"),
    "self_attn.v_proj": LinearLayer("v_proj", "output"),
    "self_attn.o_proj": LinearLayer("o_proj", "input"),
    "mlp.gate_proj": LinearLayer("gate_proj", "output"),
    "mlp.up_proj": LinearLayer("up_proj", "output"),
    "mlp.down_proj": LinearLayer("down_proj", "input"),
}
ENCODER_LINEARS = {
    "attention.self.query": LinearLayer("query", "output"),
    "attention.self.key": LinearLayer("key", "output"),
    "attention.self.value": LinearLayer("value", "output"),
    "attention.output.dense": LinearLayer("attention_output", "input"),
    "intermediate.dense": LinearLayer("intermediate", "output"),
    "output.dense": LinearLayer("output", "input"),
}


@dataclass(frozen=True)
class DecoderArchitecture:
    """A causal decoder: RMS norms, rotary positions, grouped key heads, a gated network.

    Attributes:
        saved_as: The class of transformers that reads it.
        missing: Missing fields and what they mean; None for what follows from others.
        biases: Linear layers with a bias, by (the beginning of) their path: always, or where the
            field of this name says so.
        window: Whether ``sliding_window`` is the width of its attention.
        plain: Fields that would change the computation, and the values that do not.

    """

    saved_as: str
    missing: Mapping[str, Any]
    biases: Mapping[str, str | Literal[True]] = field(default_factory=dict)
    window: bool = False
    plain: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class EncoderArchitecture:
    """An encoder: layer norms after residuals, learned positions, a two-layer network.

    Attributes:
        missing: Missing fields and what they mean; None for what follows from others.
        pooler: Whether its classifier is one layer on the pre-trained pooler; otherwise it has a
            first layer of its own, and a pooler in the file is not used.
        counts_from_pad: Whether positions are counted from the padding token's id plus one.
        plain: Fields that would change the computation, and the values that do not.

    """

    missing: Mapping[str, Any]
    pooler: bool
    counts_from_pad: bool
    plain: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


Architecture = DecoderArchitecture | EncoderArchitecture

_DECODER: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,  # as many as heads
    "head_dim": None,  # hidden_size / heads
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_ENCODER: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,  # that of hidden features
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": DecoderArchitecture(
        saved_as="LlamaForCausalLM",
        missing={
            **_DECODER,
            "intermediate_size": 11008,
            "max_position_embeddings": 2048,
            "attention_bias": False,
            "mlp_bias": False,
        },
        biases={"self_attn.": "attention_bias", "mlp.": "mlp_bias"},
    ),
    "mistral": DecoderArchitecture(
        saved_as="MistralForCausalLM",
        missing={
            **_DECODER,
            "intermediate_size": 14336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
        },
        window=True,
    ),
    "roberta": EncoderArchitecture(
        missing={**_ENCODER, "vocab_size": 50265, "pad_token_id": 1},
        pooler=False,
        counts_from_pad=True,
    ),
    "bert": EncoderArchitecture(
        missing={**_ENCODER, "vocab_size": 30522, "pad_token_id": 0},
        pooler=True,
        counts_from_pad=False,
    ),
}
"""By ``model_type`` in a `config.json`."""

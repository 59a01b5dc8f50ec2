"""The table of architectures: one row says all that tells a model type from the others.

Modules and parameters have the names of the attributes in `decoder.py` and `encoder.py`, such as
"q_proj" or "input_norm".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtask.finetune.models.fields import Fields


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What rows of decoders and of encoders share.

    Attributes:
        family: Start of the names of its classes in transformers, "Llama" of `LlamaConfig`.
        defaults: Values of fields that a `config.json` may lack, as in the config class of
            transformers.
        layer: Name of a layer in the Hugging Face model, with {} in place of its number.
        names: Hugging Face names of all modules and parameters, by their name here; "{layer}"
            stands for the name of the layer. Modules that only some architectures have are made if
            they are here.
        unused: Patterns of tensors that files may hold and the model does not use.
        activation: Activation of the feed-forward network, a key of `layers.ACTIVATIONS`.

    """

    family: str
    defaults: Mapping[str, Any]
    layer: str
    names: Mapping[str, str]
    unused: tuple[str, ...]
    activation: str

    @property
    def prefix(self) -> str:
        """What names lack in files of the model without its head."""
        return self.layer.partition(".")[0] + "."

    def path(self, module: str) -> str:
        """The Hugging Face name of a module of a layer, within the layer."""
        return self.names[module].removeprefix("{layer}.")


@dataclass(frozen=True, kw_only=True)
class DecoderArchitecture(Architecture):
    """A row of the table for a causal decoder.

    Attributes:
        biased: Linear layers that always have a bias.
        bias_fields: Linear layers that have a bias where a field is true, by the field.
        window: Reads the attention window, None for none; architectures without it have no window.
        interleaved: Whether GGUF files hold the two halves of each head of q and k interleaved;
            None where GGUF files are not read.

    """

    layer: str = "model.layers.{}"
    unused: tuple[str, ...] = (r"(.*\.)?rotary_emb\.inv_freq",)  # computed from the config
    activation: str = "silu"
    biased: tuple[str, ...] = ()
    bias_fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    window: Callable[[Fields], int | None] | None = None
    interleaved: bool | None = None

    def biases(self, read: Fields) -> tuple[str, ...]:
        """The linear layers that have a bias in a model with these fields."""
        chosen = (modules for name, modules in self.bias_fields.items() if read.flag(name))
        return (*self.biased, *(module for modules in chosen for module in modules))


@dataclass(frozen=True, kw_only=True)
class EncoderArchitecture(Architecture):
    """A row of the table for an encoder.

    Attributes:
        head: Linear layers of the sequence classifier, first to last, by their Hugging Face names.
        after_padding: Whether positions are counted from the padding token's id plus one.

    """

    activation: str = "gelu"
    head: tuple[str, ...]
    after_padding: bool = False

    @property
    def pooler(self) -> str | None:
        """The Hugging Face name of the pre-trained pooler within the encoder, if it has one."""
        name = self.names.get("pooler")
        return name and name.removeprefix(self.prefix)


def sliding_window(read: Fields) -> int | None:
    """One window for all layers; null for none."""
    none = read.fields["sliding_window"] is None
    return None if none else read.whole("sliding_window")


def _bert_names(base: str) -> dict[str, str]:
    return {
        "words": f"{base}.embeddings.word_embeddings",
        "places": f"{base}.embeddings.position_embeddings",
        "types": f"{base}.embeddings.token_type_embeddings",
        "norm": f"{base}.embeddings.LayerNorm",
        "attention_norm": "{layer}.attention.output.LayerNorm",
        "output_norm": "{layer}.output.LayerNorm",
        "query": "{layer}.attention.self.query",
        "key": "{layer}.attention.self.key",
        "value": "{layer}.attention.self.value",
        "attention_output": "{layer}.attention.output.dense",
        "intermediate": "{layer}.intermediate.dense",
        "output": "{layer}.output.dense",
    }


_LLAMA_NAMES = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "input_norm": "{layer}.input_layernorm",
    "mlp_norm": "{layer}.post_attention_layernorm",
    "head": "lm_head",
    "q_proj": "{layer}.self_attn.q_proj",
    "k_proj": "{layer}.self_attn.k_proj",
    "v_proj": "{layer}.self_attn.v_proj",
    "o_proj": "{layer}.self_attn.o_proj",
    "gate_proj": "{layer}.mlp.gate_proj",
    "up_proj": "{layer}.mlp.up_proj",
    "down_proj": "{layer}.mlp.down_proj",
}
_DECODER = {
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
_ENCODER = {
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
_ENCODER_UNUSED = (
    r"(.*\.)?embeddings\.position_ids",  # 0, 1, 2, …
    r"(lm_head|cls)\..*",  # the pre-training head
    r"classifier\..*",  # trained per task, see `load_head`
)

DECODERS = {
    "llama": DecoderArchitecture(
        family="Llama",
        names=_LLAMA_NAMES,
        defaults={
            **_DECODER,
            "intermediate_size": 11008,
            "max_position_embeddings": 2048,
            "attention_bias": False,
            "mlp_bias": False,
        },
        bias_fields={
            "attention_bias": ("q_proj", "k_proj", "v_proj", "o_proj"),
            "mlp_bias": ("gate_proj", "up_proj", "down_proj"),
        },
        interleaved=True,
    ),
    "mistral": DecoderArchitecture(
        family="Mistral",
        names=_LLAMA_NAMES,
        defaults={
            **_DECODER,
            "intermediate_size": 14336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
        },
        window=sliding_window,
    ),
}
ENCODERS = {
    "roberta": EncoderArchitecture(
        family="Roberta",
        defaults={**_ENCODER, "vocab_size": 50265, "pad_token_id": 1},
        layer="roberta.encoder.layer.{}",
        names=_bert_names("roberta"),
        # Its classifier has its own first layer in place of the pre-trained pooler.
        unused=(*_ENCODER_UNUSED, r"(roberta\.)?pooler\..*"),
        head=("classifier.dense", "classifier.out_proj"),
        after_padding=True,
    ),
    "bert": EncoderArchitecture(
        family="Bert",
        defaults={**_ENCODER, "vocab_size": 30522, "pad_token_id": 0},
        layer="bert.encoder.layer.{}",
        names={**_bert_names("bert"), "pooler": "bert.pooler.dense"},
        unused=_ENCODER_UNUSED,
        head=("classifier",),
    ),
}
ARCHITECTURES: dict[str, DecoderArchitecture | EncoderArchitecture] = {**DECODERS, **ENCODERS}

"""The shape of a base model, read from the `config.json` of its Hugging Face folder.

Every number comes from the file. A field may be missing only where files older than the field are
in use; its value is then the one that such files mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtask.errors import ModelError
from jaxtask.finetune.models.rope import Rope, read_rope, rope_fields
from jaxtask.text_files import read_object

DECODERS = ("llama", "mistral")
ENCODERS = ("roberta", "bert")

# What changes a model in ways that are not written here, and the one value that is.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "partial_rotary_factor": (None, 1, 1.0),
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
    "position_embedding_type": (None, "absolute"),
}


@dataclass(frozen=True)
class DecoderConfig:
    """A Llama or Mistral decoder. Widths are numbers of features."""

    architecture: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    norm_eps: float
    rope: Rope
    window: int | None  # a token sees itself and the window − 1 tokens before it
    tied: bool  # the output layer is the transposed embedding
    attention_bias: bool
    mlp_bias: bool
    positions: int  # the longest text the model was made for; longer ones are not refused
    begin: int | None
    ends: tuple[int, ...]  # tokens that end a text

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one layer, by their path within it: (in, out)."""
        D, Q, K, M = (
            self.width,
            self.heads * self.head_width,
            self.kv_heads * self.head_width,
            self.mlp_width,
        )
        return {
            "self_attn.q_proj": (D, Q),
            "self_attn.k_proj": (D, K),
            "self_attn.v_proj": (D, K),
            "self_attn.o_proj": (Q, D),
            "mlp.gate_proj": (D, M),
            "mlp.up_proj": (D, M),
            "mlp.down_proj": (M, D),
        }

    def layer_name(self, layer: int) -> str:
        """The name of a layer in the Hugging Face causal language model."""
        return f"model.layers.{layer}"


@dataclass(frozen=True)
class EncoderConfig:
    """A RoBERTa or BERT encoder without its head."""

    architecture: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    norm_eps: float
    positions: int  # the longest row, in tokens
    types: int  # token types
    pad: int
    head_dropout: float
    hidden_dropout: float  # of the embeddings and of what attention and network add to them
    attention_dropout: float  # of the shares that queries give to keys

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one layer, by their path within it: (in, out)."""
        D, M = self.width, self.mlp_width
        return {
            "attention.self.query": (D, D),
            "attention.self.key": (D, D),
            "attention.self.value": (D, D),
            "attention.output.dense": (D, D),
            "intermediate.dense": (D, M),
            "output.dense": (M, D),
        }

    def layer_name(self, layer: int) -> str:
        """The name of a layer in the Hugging Face sequence classifier."""
        return f"{self.architecture}.encoder.layer.{layer}"


ModelConfig = DecoderConfig | EncoderConfig


def read_config(folder: Path) -> ModelConfig:
    """Reads `folder`/config.json.

    Raises `ModelError`, naming the file and the field, for a file that cannot be read, a missing
    field, an architecture that is not supported, or an option that would change the computation.
    """
    return parse_config(read_fields(folder), str(folder / "config.json"))


def read_fields(folder: Path) -> dict[str, Any]:
    """The fields of `folder`/config.json. Raises `ModelError` if it cannot be read."""
    return read_object(folder / "config.json", ModelError)


def parse_config(fields: dict[str, Any], where: str) -> ModelConfig:
    """The config in the fields of a `config.json`; `where` names their source in errors."""
    kind = fields.get("model_type")
    if kind not in (*DECODERS, *ENCODERS):
        raise ModelError(
            f"{where}: model_type is {kind!r}, expected one of the supported architectures: "
            f"{', '.join((*DECODERS, *ENCODERS))}."
        )
    for name, plain in _PLAIN.items():
        if fields.get(name) not in plain:
            raise ModelError(
                f"{where}: {name} is {fields[name]!r}, which is not supported (expected "
                f"{' or '.join(map(repr, plain))})."
            )
    read = _Fields(fields, where)
    return _decoder(kind, read) if kind in DECODERS else _encoder(kind, read)


def config_fields(config: ModelConfig) -> dict[str, Any]:
    """The fields of a `config.json` for `config`: what `parse_config` reads back."""
    if isinstance(config, EncoderConfig):
        offset = config.pad + 1 if config.architecture == "roberta" else 0
        return {
            "model_type": config.architecture,
            "vocab_size": config.vocabulary,
            "hidden_size": config.width,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.mlp_width,
            "layer_norm_eps": config.norm_eps,
            "max_position_embeddings": config.positions + offset,
            "type_vocab_size": config.types,
            "pad_token_id": config.pad,
            "classifier_dropout": config.head_dropout,
            "hidden_dropout_prob": config.hidden_dropout,
            "attention_probs_dropout_prob": config.attention_dropout,
            "hidden_act": "gelu",
        }
    architectures = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
    fields = {
        "architectures": [architectures[config.architecture]],
        "model_type": config.architecture,
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.mlp_width,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied,
        "max_position_embeddings": config.positions,
        "bos_token_id": config.begin,
        "eos_token_id": list(config.ends) if len(config.ends) != 1 else config.ends[0],
        "hidden_act": "silu",
        **rope_fields(config.rope),
    }
    if config.architecture == "mistral":
        return fields | {"sliding_window": config.window}
    return fields | {"attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}


@dataclass(frozen=True)
class _Fields:
    """Fields with their source, checked as they are read."""

    fields: dict[str, Any]
    where: str

    def whole(self, name: str, missing: int | None = None) -> int:
        value = self.fields.get(name)
        value = missing if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._refusal(name, value, "a whole number")
        return value

    def number(self, name: str, missing: float | None = None) -> float:
        value = self.fields.get(name)
        value = missing if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refusal(name, value, "a number")
        return value

    def share(self, name: str, missing: float) -> float:
        value = self.number(name, missing)
        if not 0 <= value < 1:
            raise self._refusal(name, value, "a number from 0 on and below 1")
        return value

    def flag(self, name: str) -> bool:
        value = self.fields.get(name) or False
        if not isinstance(value, bool):
            raise self._refusal(name, value, "true or false")
        return value

    def among(self, name: str, expected: str) -> None:
        if self.fields.get(name) != expected:
            raise self._refusal(name, self.fields.get(name), repr(expected))

    def tokens(self, name: str) -> tuple[int, ...]:
        value = self.fields.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(v, int) for v in values):
            raise self._refusal(name, value, "a token id or a list of them")
        return tuple(values)

    def _refusal(self, name: str, value: Any, expected: str) -> ModelError:
        found = "missing" if name not in self.fields else repr(value)
        return ModelError(f"{self.where}: {name} is {found}, expected {expected}.")


def _decoder(kind: str, read: _Fields) -> DecoderConfig:
    read.among("hidden_act", "silu")
    width, heads = read.whole("hidden_size"), read.whole("num_attention_heads")
    window = read.fields.get("sliding_window") if kind == "mistral" else None
    begin = read.tokens("bos_token_id")
    config = DecoderConfig(
        architecture=kind,
        vocabulary=read.whole("vocab_size"),
        width=width,
        layers=read.whole("num_hidden_layers"),
        heads=heads,
        kv_heads=read.whole("num_key_value_heads", missing=heads),
        head_width=read.whole("head_dim", missing=width // heads),
        mlp_width=read.whole("intermediate_size"),
        norm_eps=read.number("rms_norm_eps"),
        rope=read_rope(read.fields, read.where),
        window=None if window is None else read.whole("sliding_window"),
        tied=read.flag("tie_word_embeddings"),
        attention_bias=kind == "llama" and read.flag("attention_bias"),
        mlp_bias=kind == "llama" and read.flag("mlp_bias"),
        positions=read.whole("max_position_embeddings"),
        begin=begin[0] if begin else None,
        ends=read.tokens("eos_token_id"),
    )
    if config.heads % config.kv_heads:
        raise ModelError(
            f"{read.where}: num_key_value_heads is {config.kv_heads}, expected a divisor of "
            f"num_attention_heads ({config.heads})."
        )
    if config.head_width % 2:
        raise ModelError(f"{read.where}: head_dim is {config.head_width}, expected an even number.")
    return config


def _encoder(kind: str, read: _Fields) -> EncoderConfig:
    read.among("hidden_act", "gelu")
    pad = read.whole("pad_token_id", missing=1 if kind == "roberta" else 0)
    # RoBERTa counts positions from the padding token's id plus one.
    offset = pad + 1 if kind == "roberta" else 0
    width, heads = read.whole("hidden_size"), read.whole("num_attention_heads")
    hidden_dropout = read.share("hidden_dropout_prob", missing=0.1)
    if width % heads:
        raise ModelError(
            f"{read.where}: num_attention_heads is {heads}, expected a divisor of hidden_size "
            f"({width})."
        )
    return EncoderConfig(
        architecture=kind,
        vocabulary=read.whole("vocab_size"),
        width=width,
        layers=read.whole("num_hidden_layers"),
        heads=heads,
        mlp_width=read.whole("intermediate_size"),
        norm_eps=read.number("layer_norm_eps"),
        positions=read.whole("max_position_embeddings") - offset,
        types=read.whole("type_vocab_size"),
        pad=pad,
        head_dropout=read.share("classifier_dropout", missing=hidden_dropout),
        hidden_dropout=hidden_dropout,
        attention_dropout=read.share("attention_probs_dropout_prob", missing=0.1),
    )

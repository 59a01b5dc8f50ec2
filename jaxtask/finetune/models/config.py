"""The shape of a base model, read from the `config.json` of its Hugging Face folder.

Every number comes from the file, or is what transformers takes for a field that is missing
(`architectures.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtask.errors import ModelError
from jaxtask.finetune.models.architectures import (
    ARCHITECTURES,
    DECODERS,
    ENCODERS,
    DecoderArchitecture,
    EncoderArchitecture,
)
from jaxtask.finetune.models.fields import Fields, shown_value
from jaxtask.finetune.models.rope import Rope, read_rope, rope_fields
from jaxtask.text_files import read_object

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
    """A causal decoder. Widths are numbers of features.

    Attributes:
        architecture: Its key in `ARCHITECTURES`.
        window: A token sees itself and the window − 1 tokens before it.
        tied: The output layer is the transposed embedding.
        biases: Linear layers that have a bias.
        positions: The longest text the model was made for.
        ends: Tokens that end a text.

    """

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
    window: int | None
    tied: bool
    biases: tuple[str, ...]
    positions: int
    begin: int | None
    ends: tuple[int, ...]

    @property
    def row(self) -> DecoderArchitecture:
        """Its row in the table of architectures."""
        return DECODERS[self.architecture]

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one layer, by their path within it: (in, out)."""
        D, M = self.width, self.mlp_width
        Q, K = self.heads * self.head_width, self.kv_heads * self.head_width
        sizes = {
            "q_proj": (D, Q),
            "k_proj": (D, K),
            "v_proj": (D, K),
            "o_proj": (Q, D),
            "gate_proj": (D, M),
            "up_proj": (D, M),
            "down_proj": (M, D),
        }
        return {self.row.path(module): size for module, size in sizes.items()}

    def layer_name(self, layer: int) -> str:
        """The name of a layer in the Hugging Face causal language model."""
        return self.row.layer.format(layer)


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder without its head.

    Attributes:
        architecture: Its key in `ARCHITECTURES`.
        positions: The longest row, in tokens.
        first_position: The row of the position embeddings that belongs to a text's first token.
        types: Number of token types.
        pad: Id of the padding token.
        head_dropout: Dropout rate in the classifier.
        hidden_dropout: Dropout rate of the embeddings, and of the outputs of attention and of the
            feed-forward network.
        attention_dropout: Dropout rate of the attention weights.

    """

    architecture: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    norm_eps: float
    positions: int
    first_position: int
    types: int
    pad: int
    head_dropout: float
    hidden_dropout: float
    attention_dropout: float

    @property
    def row(self) -> EncoderArchitecture:
        """Its row in the table of architectures."""
        return ENCODERS[self.architecture]

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one layer, by their path within it: (in, out)."""
        D, M = self.width, self.mlp_width
        sizes = {
            "query": (D, D),
            "key": (D, D),
            "value": (D, D),
            "attention_output": (D, D),
            "intermediate": (D, M),
            "output": (M, D),
        }
        return {self.row.path(module): size for module, size in sizes.items()}

    def layer_name(self, layer: int) -> str:
        """The name of a layer in the Hugging Face sequence classifier."""
        return self.row.layer.format(layer)


ModelConfig = DecoderConfig | EncoderConfig


def read_config(folder: Path) -> ModelConfig:
    """Reads `folder`/config.json.

    Raises:
        ModelError: For a file that cannot be read, a number that no model has, an architecture that
            is not supported, or an option that would change the computation; names the file and the
            field.

    """
    return parse_config(read_fields(folder), str(folder / "config.json"))


def read_fields(folder: Path) -> dict[str, Any]:
    """The fields of `folder`/config.json.

    Raises:
        ModelError: It cannot be read.

    """
    return read_object(folder / "config.json", ModelError)


def parse_config(fields: dict[str, Any], where: str) -> ModelConfig:
    """The config in the fields of a `config.json`; `where` names their source in errors."""
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise ModelError(
            f"{where}: model_type is {shown_value(kind)}, expected one of the supported "
            f"architectures: {', '.join(ARCHITECTURES)}"
        )
    for name, plain in _PLAIN.items():
        if fields.get(name) not in plain:
            raise ModelError(
                f"{where}: {name} is {shown_value(fields[name])}, which is not supported "
                f"(expected {' or '.join(map(repr, plain))})"
            )
    read = Fields({**ARCHITECTURES[kind].defaults, **fields}, where)
    read.expect("hidden_act", ARCHITECTURES[kind].activation)
    return _decoder(kind, read) if kind in DECODERS else _encoder(kind, read)


def config_fields(config: ModelConfig) -> dict[str, Any]:
    """The fields of a `config.json` for `config`: what `parse_config` reads back."""
    if isinstance(config, EncoderConfig):
        return {
            "model_type": config.architecture,
            "vocab_size": config.vocabulary,
            "hidden_size": config.width,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.mlp_width,
            "layer_norm_eps": config.norm_eps,
            "max_position_embeddings": config.positions + config.first_position,
            "type_vocab_size": config.types,
            "pad_token_id": config.pad,
            "classifier_dropout": config.head_dropout,
            "hidden_dropout_prob": config.hidden_dropout,
            "attention_probs_dropout_prob": config.attention_dropout,
            "hidden_act": config.row.activation,
        }
    row = config.row
    fields = {
        "architectures": [f"{row.family}ForCausalLM"],
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
        "hidden_act": row.activation,
        **rope_fields(config.rope),
    }
    if row.window:
        fields["sliding_window"] = config.window
    for name, modules in row.bias_fields.items():
        fields[name] = set(modules) <= set(config.biases)
    return fields


def _decoder(kind: str, read: Fields) -> DecoderConfig:
    row = DECODERS[kind]
    width, heads = read.whole("hidden_size"), read.whole("num_attention_heads")
    begin = read.tokens("bos_token_id")
    config = DecoderConfig(
        architecture=kind,
        vocabulary=read.whole("vocab_size"),
        width=width,
        layers=read.whole("num_hidden_layers"),
        heads=heads,
        kv_heads=read.whole("num_key_value_heads", null=heads),
        head_width=read.whole("head_dim", null=width // heads),
        mlp_width=read.whole("intermediate_size"),
        norm_eps=read.number("rms_norm_eps"),
        rope=read_rope(read.fields, read.where),
        window=row.window and row.window(read),
        tied=read.flag("tie_word_embeddings"),
        biases=row.biases(read),
        positions=read.whole("max_position_embeddings"),
        begin=begin[0] if begin else None,
        ends=read.tokens("eos_token_id"),
    )
    check_heads(config, read.where)
    return config


def check_heads(config: DecoderConfig, where: str) -> None:
    """Raise `ModelError` for heads that attention cannot be made of."""
    if config.heads % config.kv_heads:
        raise ModelError(
            f"{where}: num_key_value_heads is {config.kv_heads}, expected a divisor of "
            f"num_attention_heads ({config.heads})"
        )
    if config.head_width % 2:
        raise ModelError(f"{where}: head_dim is {config.head_width}, expected an even number")


def _encoder(kind: str, read: Fields) -> EncoderConfig:
    row = ENCODERS[kind]
    pad = read.whole("pad_token_id", null=row.defaults["pad_token_id"], least=0)
    first = pad + 1 if row.after_padding else 0
    width, heads = read.whole("hidden_size"), read.whole("num_attention_heads")
    hidden_dropout = read.number("hidden_dropout_prob")
    if width % heads:
        raise ModelError(
            f"{read.where}: num_attention_heads is {heads}, expected a divisor of hidden_size "
            f"({width})"
        )
    places = read.whole("max_position_embeddings")
    if places <= first:
        raise read.refusal(
            "max_position_embeddings", f"more than {first}, where positions start (pad_token_id)"
        )
    return EncoderConfig(
        architecture=kind,
        vocabulary=read.whole("vocab_size"),
        width=width,
        layers=read.whole("num_hidden_layers"),
        heads=heads,
        mlp_width=read.whole("intermediate_size"),
        norm_eps=read.number("layer_norm_eps"),
        positions=places - first,
        first_position=first,
        types=read.whole("type_vocab_size"),
        pad=pad,
        head_dropout=read.number("classifier_dropout", null=hidden_dropout),
        hidden_dropout=hidden_dropout,
        attention_dropout=read.number("attention_probs_dropout_prob"),
    )

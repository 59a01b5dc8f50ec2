"""The shape of a base model, read from the `config.json` of its Hugging Face folder.

Every number comes from the file, or is what transformers takes for a field that is missing. Numbers
that no model has are refused, before anything is made of their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtask.errors import ModelError
from jaxtask.finetune.models.architectures import (
    ARCHITECTURES,
    DECODER_LINEARS,
    DecoderArchitecture,
    EncoderArchitecture,
)
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

# Far above any model there is, far below what fills a memory by being counted.
_MOST = {"num_hidden_layers": 10_000, "type_vocab_size": 10_000}
_WIDEST = 1 << 24


@dataclass(frozen=True)
class DecoderConfig:
    """A causal decoder. Widths are numbers of features.

    Attributes:
        architecture: A row of `ARCHITECTURES`.
        window: A token sees itself and the window − 1 tokens before it.
        tied: The output layer is the transposed embedding.
        biased: Paths of the linear layers that have a bias.
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
    biased: frozenset[str]
    positions: int
    begin: int | None
    ends: tuple[int, ...]

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

    @property
    def row(self) -> DecoderArchitecture:
        """What tells its architecture from others."""
        row = ARCHITECTURES[self.architecture]
        assert isinstance(row, DecoderArchitecture)
        return row


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder without its head.

    Attributes:
        architecture: A row of `ARCHITECTURES`.
        positions: The longest row, in tokens.
        types: Token types.
        hidden_dropout: Dropout rate of the embeddings and of each layer's two residual branches.
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
    types: int
    pad: int
    head_dropout: float
    hidden_dropout: float
    attention_dropout: float

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

    @property
    def row(self) -> EncoderArchitecture:
        """What tells its architecture from others."""
        row = ARCHITECTURES[self.architecture]
        assert isinstance(row, EncoderArchitecture)
        return row

    @property
    def first_position(self) -> int:
        """The place of a text's first token in the table of positions."""
        return self.pad + 1 if self.row.counts_from_pad else 0


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
            f"{where}: model_type is {_shown(kind)}, expected one of the supported architectures: "
            f"{', '.join(ARCHITECTURES)}"
        )
    row = ARCHITECTURES[kind]
    for name, plain in {**_PLAIN, **row.plain}.items():
        if fields.get(name) not in plain:
            raise ModelError(
                f"{where}: {name} is {_shown(fields[name])}, which is not supported (expected "
                f"{' or '.join(map(repr, plain))})"
            )
    read = _Fields({**row.missing, **fields}, where)
    if isinstance(row, DecoderArchitecture):
        return _decoder(kind, row, read)
    return _encoder(kind, row, read)


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
            "hidden_act": "gelu",
        }
    row = config.row
    fields = {
        "architectures": [row.saved_as],
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
    if row.window:
        fields["sliding_window"] = config.window
    for beginning, where in row.biases.items():
        if isinstance(where, str):
            fields[where] = any(path.startswith(beginning) for path in config.biased)
    return fields


def _shown(value: Any) -> str:
    """A value for a message, not longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True)
class _Fields:
    """Fields with their source, checked as they are read."""

    fields: dict[str, Any]
    where: str

    def whole(self, name: str, null: int | None = None, least: int = 1) -> int:
        """A size; `null` is what null means, if it may be null."""
        value, most = self.fields[name], _MOST.get(name, _WIDEST)
        value = null if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refusal(name, f"a whole number from {least} to {most:,}")
        return value

    def number(self, name: str, null: float | None = None) -> float:
        value = self.fields[name]
        value = null if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise self.refusal(name, "a number from 0 on and below 1")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.fields[name] or False
        if not isinstance(value, bool):
            raise self.refusal(name, "true or false")
        return value

    def among(self, name: str, expected: str) -> None:
        if self.fields[name] != expected:
            raise self.refusal(name, repr(expected))

    def tokens(self, name: str) -> tuple[int, ...]:
        value = self.fields[name]
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(v) is int and abs(v) < 1 << 31 for v in values):
            raise self.refusal(name, "a token id or a list of them")
        return tuple(values)

    def refusal(self, name: str, expected: str) -> ModelError:
        found = _shown(self.fields[name])
        return ModelError(f"{self.where}: {name} is {found}, expected {expected}")


def _decoder(kind: str, row: DecoderArchitecture, read: _Fields) -> DecoderConfig:
    read.among("hidden_act", "silu")
    width, heads = read.whole("hidden_size"), read.whole("num_attention_heads")
    windowed = row.window and read.fields["sliding_window"] is not None
    biases = tuple(
        beginning for beginning, where in row.biases.items() if where is True or read.flag(where)
    )
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
        window=read.whole("sliding_window") if windowed else None,
        tied=read.flag("tie_word_embeddings"),
        biased=frozenset(path for path in DECODER_LINEARS if path.startswith(biases)),
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


def _encoder(kind: str, row: EncoderArchitecture, read: _Fields) -> EncoderConfig:
    read.among("hidden_act", "gelu")
    pad = read.whole("pad_token_id", null=row.missing["pad_token_id"], least=0)
    offset = pad + 1 if row.counts_from_pad else 0
    width, heads = read.whole("hidden_size"), read.whole("num_attention_heads")
    hidden_dropout = read.number("hidden_dropout_prob")
    if width % heads:
        raise ModelError(
            f"{read.where}: num_attention_heads is {heads}, expected a divisor of hidden_size "
            f"({width})"
        )
    places = read.whole("max_position_embeddings")
    if places <= offset:
        raise read.refusal(
            "max_position_embeddings", f"more than {offset}, where positions start (pad_token_id)"
        )
    return EncoderConfig(
        architecture=kind,
        vocabulary=read.whole("vocab_size"),
        width=width,
        layers=read.whole("num_hidden_layers"),
        heads=heads,
        mlp_width=read.whole("intermediate_size"),
        norm_eps=read.number("layer_norm_eps"),
        positions=places - offset,
        types=read.whole("type_vocab_size"),
        pad=pad,
        head_dropout=read.number("classifier_dropout", null=hidden_dropout),
        hidden_dropout=hidden_dropout,
        attention_dropout=read.number("attention_probs_dropout_prob"),
    )

"""Encoders such as BERT, and the heads that T tasks put on their first token's features."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxtask.errors import TrainingError
from jaxtask.finetune.models.attention import Places, attend
from jaxtask.finetune.models.config import EncoderConfig
from jaxtask.finetune.models.layers import (
    ACTIVATIONS,
    BY_INPUT,
    BY_OUTPUT,
    Adapters,
    Dropout,
    LayerNorm,
    Linear,
    parameter,
    scan_layers,
    stacked,
)

Head = dict[str, dict[str, Array]]  # layer → "kernel" [T, in, out], "bias" [T, out]


class EncoderLayer(nnx.Module):
    """Attention and a two-layer network, each with a residual and a norm after it."""

    def __init__(self, config: EncoderConfig, dtype: Any) -> None:
        self.config = config

        def linear(name: str, split: int) -> Linear:
            module = config.row.path(name)
            return Linear(module, *config.linears[module], True, dtype, split)

        self.query = linear("query", BY_OUTPUT)
        self.key = linear("key", BY_OUTPUT)
        self.value = linear("value", BY_OUTPUT)
        self.attention_output = linear("attention_output", BY_INPUT)
        self.attention_norm = LayerNorm(config.width, config.norm_eps, dtype)
        self.intermediate = linear("intermediate", BY_OUTPUT)
        self.output = linear("output", BY_INPUT)
        self.output_norm = LayerNorm(config.width, config.norm_eps, dtype)

    def __call__(
        self, x: Array, adapters: Adapters | None, places: Places, dropout: Dropout | None
    ) -> Array:
        """`x` [T, B, S, D] → the same."""
        T, B, S, D = x.shape
        N, hidden, shares = self.config.heads, None, None
        if dropout is not None:
            hidden = dropout.at_rate(self.config.hidden_dropout)
            shares = partial(
                dropout.at_rate(self.config.attention_dropout).attention, use="attention"
            )

        def heads(linear: Linear) -> Array:
            return linear(x, adapters).reshape(T * B, S, N, D // N)

        mixed = attend(
            heads(self.query),
            heads(self.key),
            heads(self.value),
            places,
            places,
            causal=False,
            dropout=shares,
        )
        mixed = self.attention_output(mixed.reshape(T, B, S, D), adapters)
        x = self.attention_norm(x + _drop(mixed, hidden, "hidden, attention"))
        h = ACTIVATIONS[self.config.row.activation](self.intermediate(x, adapters))
        return self.output_norm(x + _drop(self.output(h, adapters), hidden, "hidden, output"))


class Encoder(nnx.Module):
    """An encoder on T tasks' texts at once, each with its own adapters.

    To be called inside `jax.jit`, as `Decoder` is.
    """

    def __init__(self, config: EncoderConfig, dtype: Any) -> None:
        self.config = config
        positions = config.positions + config.first_position
        self.words = parameter(dtype, config.vocabulary, config.width, split=-2)
        self.places = parameter(dtype, positions, config.width)
        self.types = parameter(dtype, config.types, config.width)
        self.norm = LayerNorm(config.width, config.norm_eps, dtype)
        self.layers = stacked(EncoderLayer(config, dtype), config.layers)
        D, pooler = config.width, config.row.pooler
        self.pooler = None if pooler is None else Linear(pooler, D, D, True, dtype)

    def __call__(
        self,
        tokens: Array,
        positions: Array,
        segments: Array,
        adapters: Adapters | None = None,
        *,
        types: Array | None = None,
        dropout: Dropout | None = None,
        remat: bool = False,
    ) -> Array:
        """The last features [T, B, S, D] of `tokens` [T, B, S], in the type of the weights.

        `types` [T, B, S] are token types, 0 by default. `dropout` is that of the frozen layers, at
        the rates of the config; that of LoRA is the adapters' own.

        Raises:
            TrainingError: For rows longer than the model's positions, which would otherwise be read
                from beyond their table.

        """
        T, B, S = tokens.shape
        if self.config.positions < S:
            raise TrainingError(
                f"rows of {S} tokens are too long for this {self.config.architecture} model: it "
                f"has {self.config.positions} positions"
            )
        first = self.config.first_position
        at = jnp.where(segments > 0, positions + first, max(first - 1, 0))
        x = self.words[...][tokens] + self.places[...][at]
        x = x + self.types[...][0 if types is None else types]
        places = Places(positions.reshape(T * B, S), segments.reshape(T * B, S))

        def step(
            layer: EncoderLayer, x: Array, adapters: Adapters | None, number: Array
        ) -> tuple[Array, None]:
            return layer(x, adapters, places, dropout and dropout.of_layer(number)), None

        x = self.norm(x)
        if dropout is not None:
            x = dropout.at_rate(self.config.hidden_dropout)(x, "hidden, embeddings")
        numbers = jnp.arange(self.config.layers)
        return scan_layers(self.layers, step, x, adapters, numbers, remat)[0]

    def pooled(self, features: Array) -> Array:
        """The classifier's input [T, B, D]: the first token's, pooled if there is a pooler."""
        if self.pooler is None:
            return features[:, :, 0]
        return jnp.tanh(self.pooler(features[:, :, :1], None))[:, :, 0]

    def scores(self, features: Array, head: Head, dropout: Dropout | None = None) -> Array:
        """The head's scores [T, B, C] float32 of `features` [T, B, S, D].

        `head` holds the layers of `head_shapes`. `dropout` is applied at the rate of the config.
        """
        if dropout is not None:
            dropout = dropout.at_rate(self.config.head_dropout)

        def drop(x: Array, use: str) -> Array:
            return _drop(x[:, :, None], dropout, use)[:, :, 0]

        def linear(x: Array, name: str) -> Array:
            kernel, bias = head[name]["kernel"], head[name]["bias"]
            return jnp.einsum("tbi,tio->tbo", x, kernel) + bias[:, None]

        x = self.pooled(features).astype(jnp.float32)
        *before, last = self.config.row.head
        for name in before:
            x = jnp.tanh(linear(drop(x, name), name))
        return linear(drop(x, last), last)


def _drop(x: Array, dropout: Dropout | None, use: str) -> Array:
    return x if dropout is None else dropout(x, use)


def head_shapes(config: EncoderConfig, classes: int) -> dict[str, tuple[int, int]]:
    """The layers of a head with `classes` scores (1 for regression): (in, out)."""
    *before, last = config.row.head
    return dict.fromkeys(before, (config.width, config.width)) | {last: (config.width, classes)}

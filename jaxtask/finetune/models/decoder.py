"""Causal decoders with rotary positions and grouped key heads, such as Llama, for T tasks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxtask.finetune.models.attention import Implementation, Places, attend
from jaxtask.finetune.models.config import DecoderConfig
from jaxtask.finetune.models.layers import (
    ACTIVATIONS,
    BY_INPUT,
    BY_OUTPUT,
    Adapters,
    Linear,
    RMSNorm,
    parameter,
    scan_layers,
    stacked,
)
from jaxtask.finetune.models.rope import rotate, rotation


class Cache(NamedTuple):
    """Keys and values of the tokens so far, each at the slot of its position; R = T·B rows.

    Attributes:
        key: [L, R, slots, M, H].
        value: [L, R, slots, M, H].

    """

    key: Array
    value: Array


class _Setting(NamedTuple):
    """What all layers share."""

    places: Places
    turn: tuple[Array, Array]
    implementation: Implementation


class DecoderLayer(nnx.Module):
    """Attention and a gated two-layer network, each behind a norm and around a residual."""

    def __init__(self, config: DecoderConfig, dtype: Any) -> None:
        self.config = config

        def linear(name: str, split: int) -> Linear:
            module = config.row.path(name)
            bias = name in config.biases
            return Linear(module, *config.linears[module], bias, dtype, split)

        self.input_norm = RMSNorm(config.width, config.norm_eps, dtype)
        self.q_proj = linear("q_proj", BY_OUTPUT)
        self.k_proj = linear("k_proj", BY_OUTPUT)
        self.v_proj = linear("v_proj", BY_OUTPUT)
        self.o_proj = linear("o_proj", BY_INPUT)
        self.mlp_norm = RMSNorm(config.width, config.norm_eps, dtype)
        self.gate_proj = linear("gate_proj", BY_OUTPUT)
        self.up_proj = linear("up_proj", BY_OUTPUT)
        self.down_proj = linear("down_proj", BY_INPUT)

    def __call__(
        self, x: Array, adapters: Adapters | None, cache: Cache | None, setting: _Setting
    ) -> tuple[Array, Cache | None]:
        """`x` [T, B, S, D] → the same, and the cache with this layer's new keys and values."""
        attended, cache = self._attention(self.input_norm(x), adapters, cache, setting)
        x = x + attended
        h = self.mlp_norm(x)
        active = ACTIVATIONS[self.config.row.activation](self.gate_proj(h, adapters))
        gated = active * self.up_proj(h, adapters)
        return x + self.down_proj(gated, adapters), cache

    def _attention(
        self, h: Array, adapters: Adapters | None, cache: Cache | None, setting: _Setting
    ) -> tuple[Array, Cache | None]:
        config, queries = self.config, setting.places
        T, B, S, _ = h.shape

        def heads(x: Array, number: int) -> Array:
            return x.reshape(T * B, S, number, config.head_width)

        query = rotate(heads(self.q_proj(h, adapters), config.heads), setting.turn)
        key = rotate(heads(self.k_proj(h, adapters), config.kv_heads), setting.turn)
        value = heads(self.v_proj(h, adapters), config.kv_heads)
        keys = queries
        if cache is not None:
            row = jnp.arange(T * B)[:, None]
            cache = Cache(
                cache.key.at[row, queries.positions].set(key),
                cache.value.at[row, queries.positions].set(value),
            )
            key, value = cache
            slots = jnp.broadcast_to(jnp.arange(key.shape[1]), key.shape[:2])
            keys = Places(slots, jnp.ones_like(slots))
        mixed = attend(
            query,
            key,
            value,
            queries,
            keys,
            causal=True,
            window=config.window,
            implementation=setting.implementation,
        )
        return self.o_proj(mixed.reshape(T, B, S, -1), adapters), cache


class Decoder(nnx.Module):
    """A decoder on T tasks' texts at once, each with its own adapters.

    To be called inside `jax.jit`: outside, the scan over layers is compiled for every call.
    """

    def __init__(self, config: DecoderConfig, dtype: Any) -> None:
        self.config = config
        words = (config.vocabulary, config.width)
        self.embedding = parameter(dtype, *words, split=-2)
        self.layers = stacked(DecoderLayer(config, dtype), config.layers)
        self.norm = RMSNorm(config.width, config.norm_eps, dtype)
        self.head = None if config.tied else parameter(dtype, *words, split=-2)

    def __call__(
        self,
        tokens: Array,
        positions: Array,
        segments: Array,
        adapters: Adapters | None = None,
        *,
        remat: bool = False,
        implementation: Implementation = "xla",
    ) -> Array:
        """The last features [T, B, S, D] of `tokens` [T, B, S], in the type of the weights."""
        return self._run(tokens, positions, segments, adapters, None, remat, implementation)[0]

    def extend(
        self, tokens: Array, positions: Array, adapters: Adapters | None, cache: Cache
    ) -> tuple[Array, Cache]:
        """The last features of `tokens`, which also see what is in `cache`; and it with theirs.

        A row holds one example.
        """
        one = jnp.ones_like(tokens)
        return self._run(tokens, positions, one, adapters, cache, False, "xla")

    def _run(
        self,
        tokens: Array,
        positions: Array,
        segments: Array,
        adapters: Adapters | None,
        cache: Cache | None,
        remat: bool,
        implementation: Implementation,
    ) -> tuple[Array, Any]:
        T, B, S = tokens.shape
        places = Places(positions.reshape(T * B, S), segments.reshape(T * B, S))
        turn = rotation(places.positions, self.config.rope.frequencies(self.config.head_width))
        setting = _Setting(places, turn, implementation)

        def step(
            layer: DecoderLayer, x: Array, adapters: Adapters | None, cache: Cache | None
        ) -> tuple[Array, Cache | None]:
            return layer(x, adapters, cache, setting)

        x = self.embedding[...][tokens]
        x, cache = scan_layers(self.layers, step, x, adapters, cache, remat)
        return self.norm(x), cache

    @property
    def output(self) -> Array:
        """The output layer [V, D]; the embedding where they are tied."""
        return self.embedding[...] if self.head is None else self.head[...]

    def logits(self, features: Array) -> Array:
        """Scores of the next token, float32 [..., V], of `features` [..., D]."""
        return jnp.einsum(
            "...d,vd->...v", features, self.output, preferred_element_type=jnp.float32
        )

    def empty_cache(self, rows: int, slots: int) -> Cache:
        """A cache for `rows` = T·B rows of at most `slots` tokens."""
        config = self.config
        shape = (config.layers, rows, slots, config.kv_heads, config.head_width)
        dtype = self.embedding[...].dtype
        return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

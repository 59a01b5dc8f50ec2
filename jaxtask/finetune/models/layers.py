"""The layers that models are made of: frozen linear layers with the adapters of T tasks, norms.

A model is made without values: its parameters hold shapes and types, and loading (or drawing at
random) gives it values. Axes: T tasks, B rows, S places; x is [T, B, S, features].
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.extend.random import threefry_2x32

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
}
# What a mesh divides of a linear layer. Queries, keys, values and the first layers of the
# feed-forward network are divided by their outputs, the layers after them by their inputs, so that
# one sum over devices is enough for each pair.
BY_OUTPUT, BY_INPUT = -1, -2

Factors = dict[str, Array]  # "A" [.., T, in, r], "B" [.., T, r, out]


class Dropout(NamedTuple):
    """Which features are left out in training: random bits by key and place.

    The counter of a feature's bits is its row, its place and its own number, so a token's mask
    depends on its task's key and on these only: it is the same however many tasks, rows and places
    are beside it. Rows, places, and places that attention looks at, count up to 2¹⁶.

    Attributes:
        keys: [T, 2] uint32, both words of a Threefry key.
        rows: [B] int32, the numbers of the rows.
        rate: [T] float32.

    """

    keys: Array
    rows: Array
    rate: Array

    def of_layer(self, layer: Array) -> Dropout:
        """With other keys for each layer."""
        return self._replace(keys=self.keys.at[:, 0].add(layer.astype(jnp.uint32)))

    def at_rate(self, rate: float) -> Dropout:
        """With one rate for all tasks."""
        return self._replace(rate=jnp.full_like(self.rate, rate))

    def __call__(self, x: Array, use: str) -> Array:
        """`x` [T, B, S, features] with a share `rate` of features 0 and the others larger.

        Features that are dropped for one `use` are not those of another.
        """
        S, D = x.shape[2:]
        place = self._place(jnp.arange(S))[:, :, None]
        return self._drop(x, use, place, jnp.arange(D, dtype=jnp.uint32))

    def attention(self, shares: Array, positions: Array, use: str) -> Array:
        """`shares` [T·B, N, Q, K] that queries at `positions` [T·B, Q] give to keys, likewise."""
        (_, N, Q, K), B = shares.shape, self.rows.shape[0]
        place = self._place(positions.reshape(-1, B, Q))
        head, key = (jnp.arange(n, dtype=jnp.uint32) for n in (N, K))
        feature = head[:, None, None] * 2**16 + key
        dropped = self._drop(
            shares.reshape(-1, B, N, Q, K), use, place[:, :, None, :, None], feature
        )
        return dropped.reshape(shares.shape)

    def _place(self, places: Array) -> Array:
        """The first words of counters, [..., B, S], of places that broadcast to it."""
        return self.rows.astype(jnp.uint32)[:, None] * 2**16 + places.astype(jnp.uint32)

    def _drop(self, x: Array, use: str, place: Array, feature: Array) -> Array:
        """`x` [T, ...] by counters of two words, which broadcast to its shape."""
        word = jnp.uint32(zlib.crc32(use.encode()))
        own = x.shape[1:]
        place = jnp.broadcast_to(place, x.shape).reshape(x.shape[0], -1)
        feature = jnp.broadcast_to(feature, own).ravel()

        def bits(key: Array, place: Array) -> Array:
            # A block of two words comes out for each block (place, feature) that goes in. All
            # first words stand before all second ones, which are not needed.
            counters = jnp.concatenate([place, feature])
            return threefry_2x32((key[0], key[1] ^ word), counters)[: place.size]

        drawn = jax.vmap(bits)(self.keys, place).reshape(x.shape)
        least, rate = (
            r.reshape(-1, *[1] * len(own))
            for r in ((self.rate * 2.0**32).astype(jnp.uint32), self.rate)
        )
        return jnp.where(drawn >= least, x / (1 - rate), 0).astype(x.dtype)


class Adapters(NamedTuple):
    """The adapters of T tasks: for all layers, [L, ...], or for one of them.

    ``scale[module]`` is [L, T] float32; the rows of A beyond a task's own rank are 0.
    """

    factors: dict[str, Factors]
    scale: dict[str, Array]
    dropout: Dropout | None = None

    def of_layer(
        self, layer: Array, factors: dict[str, Factors], scale: dict[str, Array]
    ) -> Adapters:
        """Those of one layer, with its slices of factors and scales."""
        return Adapters(factors, scale, self.dropout and self.dropout.of_layer(layer))

    def delta(self, module: str, x: Array) -> Array | int:
        """What the adapters of `module` add, scale · dropout(x) A B for `x` [T, B, S, in]; or 0."""
        if module not in self.factors:
            return 0
        A, B = (self.factors[module][side] for side in "AB")
        B = B * self.scale[module][:, None, None]
        if self.dropout is not None:
            x = self.dropout(x, module)
        # Every product, also of the backward pass, is one of the type of x: a float32 result would
        # have a float32 gradient, and that makes float32 copies of x and slow products.
        z = jnp.einsum("tbsi,tir->tbsr", x, A.astype(x.dtype))
        return jnp.einsum("tbsr,tro->tbso", z, B.astype(x.dtype))


def parameter(dtype: Any, *shape: int, split: int | None = None) -> nnx.Param:
    """A parameter without values. `split`, below 0, is the axis that a mesh may divide."""
    return nnx.Param(jax.ShapeDtypeStruct(shape, dtype), split=split)


class Linear(nnx.Module):
    """x W + b of a frozen layer, plus what the adapters of `module` add."""

    def __init__(
        self,
        module: str,
        d_in: int,
        d_out: int,
        bias: bool,
        dtype: Any,
        split: int | None = None,
    ) -> None:
        self.module = module
        self.kernel = parameter(dtype, d_in, d_out, split=split)
        self.bias = parameter(dtype, d_out) if bias else None

    def __call__(self, x: Array, adapters: Adapters | None) -> Array:
        """`x` [T, B, S, in] → [T, B, S, out]: one matrix product for all tasks."""
        y = x @ self.kernel[...]
        if self.bias is not None:
            y = y + self.bias[...]
        return y if adapters is None else y + adapters.delta(self.module, x)


class RMSNorm(nnx.Module):
    """Llama's norm, computed in float32."""

    def __init__(self, width: int, eps: float, dtype: Any) -> None:
        self.eps = eps
        self.scale = parameter(dtype, width)

    def __call__(self, x: Array) -> Array:
        """Same shape and type."""
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + self.eps)
        return wide.astype(x.dtype) * self.scale[...]


class LayerNorm(nnx.Module):
    """BERT's norm, computed in float32."""

    def __init__(self, width: int, eps: float, dtype: Any) -> None:
        self.eps = eps
        self.scale, self.bias = parameter(dtype, width), parameter(dtype, width)

    def __call__(self, x: Array) -> Array:
        """Same shape and type."""
        wide = x.astype(jnp.float32)
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + self.eps)
        scale, bias = (p[...].astype(jnp.float32) for p in (self.scale, self.bias))
        return (wide * scale + bias).astype(x.dtype)


def stacked(layer: nnx.Module, layers: int) -> nnx.Module:
    """`layers` of one kind as one: every parameter has a leading axis L."""
    definition, state = nnx.split(layer)
    grow = lambda s: jax.ShapeDtypeStruct((layers, *s.shape), s.dtype)  # noqa: E731
    return nnx.merge(definition, jax.tree.map(grow, state))


def scan_layers(
    stack: nnx.Module,
    step: Callable[[Any, Array, Adapters | None, Any], tuple[Array, Any]],
    x: Array,
    adapters: Adapters | None,
    per_layer: Any = None,
    remat: bool = False,
) -> tuple[Array, Any]:
    """`x` through all layers of `stack`, one after another, compiled once.

    ``step(layer, x, adapters, extra)`` returns the new x and what is to be kept of this layer;
    `per_layer` are extras with a leading axis L. With `remat` only the x of each layer is kept for
    the backward pass, and the rest is computed again.
    """
    definition, state = nnx.split(stack)
    L = jax.tree.leaves(state)[0].shape[0]
    own = adapters and (adapters.factors, adapters.scale)

    def body(x: Array, slices: Any) -> tuple[Array, Any]:
        n, state, own, extra = slices
        here = None if adapters is None else adapters.of_layer(n, *own)
        return step(nnx.merge(definition, state), x, here, extra)

    if remat:
        # What prevent_cse guards against does not happen inside a scan.
        body = jax.checkpoint(body, prevent_cse=False)
    return jax.lax.scan(body, x, (jnp.arange(L), state, own, per_layer))

"""Attention that keeps examples, order and window apart, at a bounded cost of memory.

Axes: R rows (of all tasks), Q and K places of queries and keys, N heads, M key heads, H features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxtask.errors import TrainingError

Implementation = Literal["xla", "cudnn"]

# Queries of longer rows are taken this many at a time, or the scores of all places with all would
# be the largest array of a training step.
_BLOCK = 512


class Places(NamedTuple):
    """Where tokens stand: position within the example, and which example of the row.

    Attributes:
        positions: [R, S] int32.
        segments: [R, S] int32.

    """

    positions: Array
    segments: Array


def may_see(queries: Places, keys: Places, causal: bool, window: int | None) -> Array:
    """Whether a query may see a key, [R, Q, K]: the same example, not later, within the window.

    Within one example positions grow with the place, so they decide the order. Padding sees
    padding, so that no query is without a key.
    """
    seen = queries.segments[:, :, None] == keys.segments[:, None, :]
    distance = queries.positions[:, :, None] - keys.positions[:, None, :]
    if causal:
        seen &= distance >= 0
    if window is not None:
        seen &= distance < window
    return seen


def attend(
    query: Array,
    key: Array,
    value: Array,
    queries: Places,
    keys: Places,
    *,
    causal: bool,
    window: int | None = None,
    implementation: Implementation = "xla",
    dropout: Callable[[Array, Array], Array] | None = None,
) -> Array:
    """softmax(q kᵀ/√H) v over the keys that each query may see, softmax in float32.

    `query` [R, Q, N, H], `key` and `value` [R, K, M, H] with N a multiple of M; returns
    [R, Q, N, H]. ``"cudnn"`` passes the mask as a dense bias and so honours it; it needs 16-bit
    numbers, an NVIDIA GPU and H a multiple of 8, and raises `TrainingError` without. `dropout` is
    given the softmax [R, N, Q, K] float32 and the positions [R, Q] of its queries, and needs N = M.
    """

    def block(query: Array, queries: Places, by_place: bool = False) -> Array:
        mask = may_see(queries, keys, causal, window)[:, None]
        if dropout is not None:
            scores = jnp.einsum("rqnh,rknh->rnqk", query, key, preferred_element_type=jnp.float32)
            shares = jax.nn.softmax(scores / math.sqrt(H), axis=-1, where=mask)
            shares = dropout(shares, queries.positions).astype(value.dtype)
            return jnp.einsum("rnqk,rknh->rqnh", shares, value)
        return jax.nn.dot_product_attention(
            query, key, value, mask=mask, is_causal=by_place, implementation=implementation
        )

    R, Q, N, H = query.shape
    if implementation == "cudnn":
        if query.dtype.itemsize != 2 or H % 8 or jax.default_backend() != "gpu":
            raise TrainingError(
                f"attention 'cudnn' needs 16-bit numbers, heads of a multiple of 8 features and an "
                f"NVIDIA GPU; found {query.dtype}, {H} features on {jax.default_backend()}"
            )
        # The mask forbids what comes later already; said by place, it is not even computed.
        return block(query, queries, by_place=causal and keys is queries)
    if Q <= _BLOCK:
        return block(query, queries)

    def blocks(x: Array) -> Array:
        padded = jnp.pad(x, [(0, 0), (0, -Q % _BLOCK)] + [(0, 0)] * (x.ndim - 2), mode="edge")
        return padded.reshape(R, -1, _BLOCK, *x.shape[2:]).swapaxes(0, 1)

    # Scores are made again for the backward pass rather than kept for every block.
    parts = jax.lax.map(
        jax.checkpoint(lambda part: block(*part)),
        (blocks(query), jax.tree.map(blocks, queries)),
    )
    return parts.swapaxes(0, 1).reshape(R, -1, N, H)[:, :Q]

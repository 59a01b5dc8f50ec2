"""Greedy decoding for T tasks at once, with the keys and values of earlier tokens kept."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxtask.finetune.models.decoder import Cache, Decoder
from jaxtask.finetune.models.layers import Adapters


class _Progress(NamedTuple):
    step: Array
    cache: Cache
    last: Array  # [T, B] the newest token, not yet seen by the model
    place: Array  # [T, B] its position
    done: Array  # [T, B] bool
    written: Array  # [T, B, new]


def generate(
    model: Decoder,
    prompts: Array,
    lengths: Array,
    new: int,
    adapters: Adapters | None = None,
    *,
    ends: tuple[int, ...] | None = None,
) -> Array:
    """The most likely next tokens, one after another, [T, B, new] int32.

    `prompts` [T, B, S] int32 are filled from the left, `lengths` [T, B] int32 says how far; a row
    of length 0 is left out. A row stops after one of `ends` (the model's own by default);
    from there on, and in rows left out, it holds −1.
    """
    definition, base = nnx.split(model)
    ends = model.config.ends if ends is None else ends
    stops = jnp.asarray(ends, jnp.int32)
    return _generate(definition, base, prompts, lengths, adapters, stops, new)


@partial(jax.jit, static_argnums=(0, 6))
def _generate(
    definition: Any,
    base: Any,
    prompts: Array,
    lengths: Array,
    adapters: Adapters | None,
    stops: Array,
    new: int,
) -> Array:
    model: Decoder = nnx.merge(definition, base)
    T, B, S = prompts.shape

    def next_token(features: Array) -> Array:
        return jnp.argmax(model.logits(features), axis=-1).astype(jnp.int32)

    # Slots beyond a row's length are filled with the padding's keys, which nothing sees: they have
    # later positions than all of the row's tokens, and new tokens replace them in turn.
    place = jnp.broadcast_to(jnp.arange(S), prompts.shape)
    cache = model.empty_cache(T * B, S + new)
    features, cache = model.extend(prompts, place, adapters, cache)
    last = jnp.maximum(lengths - 1, 0)[:, :, None, None]
    first = next_token(jnp.take_along_axis(features, last, axis=2)[:, :, 0])

    def step(now: _Progress) -> _Progress:
        written = now.written.at[:, :, now.step].set(jnp.where(now.done, -1, now.last))
        done = now.done | jnp.isin(now.last, stops)
        features, cache = model.extend(
            now.last[:, :, None], now.place[:, :, None], adapters, now.cache
        )
        return _Progress(
            now.step + 1, cache, next_token(features[:, :, 0]), now.place + 1, done, written
        )

    start = _Progress(
        jnp.int32(0), cache, first, lengths, lengths == 0, jnp.full((T, B, new), -1, jnp.int32)
    )
    unfinished = lambda now: (now.step < new) & ~jnp.all(now.done)  # noqa: E731
    return jax.lax.while_loop(unfinished, step, start).written

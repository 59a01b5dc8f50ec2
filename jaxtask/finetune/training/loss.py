"""Losses of T tasks, each as a sum and the weight it is to be divided by.

Dividing once, at the very end, is what makes gradient accumulation exact for ragged batches.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

# Scores held at a time, in float32 numbers: 256 MiB, and as much again in the backward pass.
_SCORES = 2**26

# Rows that devices take at a time in a matrix product: chunks are so many, or a multiple.
_TILE = 128


def completion_loss(
    features: Array, output: Array, tokens: Array, weights: Array, held: int = _SCORES
) -> tuple[Array, Array]:
    """Cross entropy of the tokens with weight, each predicted from those before it.

    `features` [T, B, S, D], `output` [V, D], `tokens` and `weights` [T, B, S] as in `Batch`.
    Returns (sum, weight), [T] float32. At most about `held` scores exist at once, and scores are
    computed only for places whose token has weight.
    """
    T, B, S, D = features.shape
    V, N = output.shape[0], B * (S - 1)
    x = features[:, :, :-1].reshape(T, N, D)
    target = tokens[:, :, 1:].reshape(T, N)
    weight = weights[:, :, 1:].reshape(T, N).astype(jnp.float32)
    chunk = max(1, min(N, held // (T * V)))
    chunk -= chunk % _TILE if chunk > _TILE else 0

    # What has no weight may be anything, of padding for instance: 0 times NaN would be NaN.
    target = jnp.where(weight == 0, 0, target)
    x = jnp.where(weight[:, :, None] == 0, 0, x)

    # Places with weight first, so that the chunks after them can be skipped.
    order = jnp.argsort(weight == 0, axis=1, stable=True)
    x = jnp.take_along_axis(x, order[:, :, None], axis=1)
    target, weight = (jnp.take_along_axis(a, order, axis=1) for a in (target, weight))

    def chunks(a: Array) -> Array:
        padded = jnp.pad(a, [(0, 0), (0, -N % chunk)] + [(0, 0)] * (a.ndim - 2))
        return padded.reshape(T, -1, chunk, *a.shape[2:]).swapaxes(0, 1)

    def loss(x: Array, target: Array, weight: Array) -> Array:
        return _weighted(weight, _cross_entropy(_scores(x, output), target))

    def step(total: Array, part: tuple[Array, Array, Array]) -> tuple[Array, None]:
        any_weight = jnp.any(part[2] != 0)
        return total + jax.lax.cond(any_weight, loss, lambda *_: jnp.zeros(T), *part), None

    parts = (chunks(x), chunks(target), chunks(weight))
    total, _ = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), jnp.zeros(T), parts)
    return total, weight.sum(axis=1)


def classification_loss(
    scores: Array, labels: Array, weights: Array, classes: Array
) -> tuple[Array, Array]:
    """Cross entropy of the labels [T, B] int32 under `scores` [T, B, C], weights [T, B].

    Task t has the first `classes[t]` of the C classes. Returns (sum, weight), [T] float32.
    """
    scores = own_scores(scores, classes)
    scores = jnp.where(weights[:, :, None] == 0, 0, scores)
    labels = jnp.where(weights == 0, 0, labels)
    return _weighted(weights, _cross_entropy(scores, labels)), weights.sum(axis=1)


def regression_loss(scores: Array, labels: Array, weights: Array) -> tuple[Array, Array]:
    """Squared error of the first score: `scores` [T, B, C], labels and weights [T, B] float32."""
    error = jnp.where(weights == 0, 0, scores[:, :, 0] - labels)
    return _weighted(weights, error**2), weights.sum(axis=1)


def own_scores(scores: Array, classes: Array) -> Array:
    """`scores` [T, B, C] with those of classes that a task does not have out of reach."""
    own = jnp.arange(scores.shape[-1]) < classes[:, None, None]
    return jnp.where(own, scores, jnp.finfo(scores.dtype).min)


def _weighted(weights: Array, losses: Array) -> Array:
    """The sums [T] of losses [T, N] with weights [T, N]; those without weight may be NaN."""
    return jnp.sum(jnp.where(weights == 0, 0, weights * losses), axis=1)


@jax.custom_vjp
def _scores(x: Array, output: Array) -> Array:
    """Scores [T, C, V] float32 of features [T, C, D] by the output layer [V, D].

    Its gradient is rounded to the features' type before the products of the backward pass, which
    would otherwise make a float32 copy of the output layer.
    """
    return jnp.einsum("tcd,vd->tcv", x, output, preferred_element_type=jnp.float32)


def _scores_forward(x: Array, output: Array) -> tuple[Array, tuple[Array, Array]]:
    return _scores(x, output), (x, output)


def _scores_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, output = kept
    gradient = gradient.astype(x.dtype)
    of_x = jnp.einsum("tcv,vd->tcd", gradient, output)
    return of_x, jnp.einsum("tcv,tcd->vd", gradient, x)


_scores.defvjp(_scores_forward, _scores_backward)


def _cross_entropy(scores: Array, target: Array) -> Array:
    chosen = jnp.take_along_axis(scores, target[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(scores, axis=-1) - chosen

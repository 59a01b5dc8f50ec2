"""Losses against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtask.finetune.training.loss import (
    classification_loss,
    completion_loss,
    own_scores,
    regression_loss,
)


def log_softmax(scores):
    scores = scores - scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def problem(T=3, B=4, S=9, D=6, V=17):
    rng = np.random.default_rng(0)
    features, output = rng.standard_normal((T, B, S, D)), rng.standard_normal((V, D))
    tokens = rng.integers(0, V, (T, B, S))
    weights = (rng.random((T, B, S)) < 0.4) * rng.random((T, B, S))
    weights[:, :, 0] = 0
    weights[2] = 0  # a task without any
    return features, output, tokens, weights


def oracle(features, output, tokens, weights):
    total = np.zeros(len(tokens))
    for t, b, s in np.argwhere(weights > 0):
        scores = log_softmax(features[t, b, s - 1] @ output.T)
        total[t] -= weights[t, b, s] * scores[tokens[t, b, s]]
    return total, weights.sum((1, 2))


@pytest.mark.parametrize("held", [1, 200, 10**9])
def test_completion(within, held):
    arrays = problem()
    f32 = [jnp.asarray(a, jnp.int32 if a.dtype == int else jnp.float32) for a in arrays]
    expected, weight = oracle(*arrays)
    loss, found = jax.jit(completion_loss, static_argnames="held")(*f32, held=held)
    within("completion loss", np.abs(loss - expected).max() / expected.max(), 1e-6)
    within("completion weight", np.abs(found - weight).max(), 1e-6)

    def mean(features):
        return completion_loss(features, *f32[1:], held=held)[0].sum()

    gradient = np.asarray(jax.grad(mean)(f32[0]), float)
    features, output, tokens, weights = arrays
    known = np.zeros_like(features)
    for t, b, s in np.argwhere(weights > 0):
        chances = np.exp(log_softmax(features[t, b, s - 1] @ output.T))
        chances[tokens[t, b, s]] -= 1
        known[t, b, s - 1] += weights[t, b, s] * chances @ output
    within("completion gradient", np.abs(gradient - known).max(), 2e-6)


@pytest.mark.slow
def test_what_has_no_weight_may_be_anything():
    """Padding: NaN features and tokens that the output layer has not. 0 times NaN would be NaN."""
    features, output, tokens, weights = problem()
    clean = [jnp.asarray(features, jnp.float32), jnp.asarray(tokens, jnp.int32)]
    bad = np.argwhere(weights == 0)
    for t, b, s in bad:
        tokens[t, b, s] = 10**6 if (b + s) % 2 else -5
        if s:
            features[t, b, s - 1] = np.nan
    features[:, :, -1] = np.inf
    odd = [jnp.asarray(features, jnp.float32), jnp.asarray(tokens, jnp.int32)]
    output, weights = jnp.asarray(output, jnp.float32), jnp.asarray(weights, jnp.float32)

    def total(features, tokens, output):
        return completion_loss(features, output, tokens, weights)[0].sum()

    for argument in (0, 2):
        known, found = (
            np.asarray(jax.grad(total, argument)(*given, output)) for given in (clean, odd)
        )
        np.testing.assert_array_equal(known, found)
    assert total(*clean, output) == total(*odd, output)


@pytest.mark.slow
def test_labels_without_weight_may_be_anything():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((2, 4, 3)).astype("f")
    labels, weights = rng.integers(0, 3, (2, 4)), np.ones((2, 4), "f")
    weights[:, 2] = 0
    odd = scores.copy()
    odd[:, 2] = np.nan
    classes = np.array([3, 2])
    labels[1] %= 2
    other = np.where(weights == 0, 99, labels)
    for loss, given in (
        (lambda s, y: classification_loss(s, y, weights, classes)[0].sum(), (labels, other)),
        (
            lambda s, y: regression_loss(s, y, weights)[0].sum(),
            (labels * 1.0, np.where(weights == 0, np.nan, labels)),
        ),
    ):
        for function in (loss, jax.grad(loss)):
            known, found = function(scores, given[0]), function(odd, given[1])
            np.testing.assert_array_equal(known, found)
            assert np.isfinite(known).all()


def test_scores_are_never_all_there_at_once():
    """The largest array of the compiled loss and its gradient stays near `held`."""
    T, B, S, D, V, held = 1, 8, 129, 8, 4096, 2**17
    shapes = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (
            ((T, B, S, D), jnp.float32),
            ((V, D), jnp.float32),
            ((T, B, S), jnp.int32),
            ((T, B, S), jnp.float32),
        )
    ]
    loss = jax.grad(lambda *a: completion_loss(*a, held=held)[0].sum())
    memory = jax.jit(loss).lower(*shapes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * B * (S - 1) * V / 4
    assert memory.temp_size_in_bytes < 6 * 4 * held


def test_a_packed_row_predicts_no_first_token():
    """What a token without weight is makes no difference."""
    features, output, tokens, weights = (jnp.asarray(a) for a in problem())
    other = jnp.where(weights > 0, tokens, 0)
    first, second = (completion_loss(features, output, t, weights)[0] for t in (tokens, other))
    np.testing.assert_array_equal(first, second)


def test_classification(within):
    rng = np.random.default_rng(1)
    scores, weights = rng.standard_normal((2, 5, 4)), rng.random((2, 5))
    classes = [3, 4]
    labels = np.stack([rng.integers(0, c, 5) for c in classes])
    expected = []
    for t in range(2):
        logs = log_softmax(scores[t, :, : classes[t]])
        expected.append(-sum(weights[t, b] * logs[b, labels[t, b]] for b in range(5)))
    loss, weight = classification_loss(
        *(jnp.asarray(a) for a in (scores, labels, weights, classes))
    )
    within("classification loss", np.abs(loss - np.asarray(expected)).max(), 1e-5)
    within("classification weight", np.abs(weight - weights.sum(1)).max(), 1e-6)
    assert (
        np.argmax(own_scores(jnp.asarray(scores) + 10 * jnp.arange(4), jnp.asarray(classes)), -1)[
            0
        ].tolist()
        == [2] * 5
    )


def test_regression(within):
    rng = np.random.default_rng(2)
    scores, labels, weights = (rng.standard_normal(s) for s in ((2, 5, 3), (2, 5), (2, 5)))
    loss, _ = regression_loss(*(jnp.asarray(a, jnp.float32) for a in (scores, labels, weights)))
    expected = (weights * (scores[:, :, 0] - labels) ** 2).sum(1)
    within("regression loss", np.abs(loss - expected).max(), 1e-5)

"""Dropout: how much is dropped, of what it depends, and when there is none."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune.tiny import BERT, label_batch, lora, model, numbers
from jaxtask.finetune.models.attention import _BLOCK, Places, attend
from jaxtask.finetune.models.layers import Dropout
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.step import StepOptions, init_state, make_eval_step, make_train_step

T, B, N, Q = 3, 2, 4, 24


def dropout(rate=0.3, tasks=T, rows=B):
    keys = jnp.arange(10, 10 + 2 * tasks, dtype=jnp.uint32).reshape(tasks, 2)
    return Dropout(keys, jnp.arange(rows, dtype=jnp.int32), jnp.full(tasks, rate))


def masks(given, keys=Q, use="attention"):
    """What is left of shares of 1, [T, B, N, Q, keys]."""
    tasks, rows = len(given.keys), len(given.rows)
    positions = jnp.broadcast_to(jnp.arange(Q), (tasks * rows, Q))
    drop = jax.jit(lambda given, *arrays: given.attention(*arrays, use))
    kept = drop(given, jnp.ones((tasks * rows, N, Q, keys)), positions)
    return np.asarray(kept).reshape(tasks, rows, N, Q, keys)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_the_rate_is_what_it_says(rate):
    kept = masks(dropout(rate))
    assert set(np.unique(kept)) <= {np.float32(0), np.float32(1) / np.float32(1 - rate)}
    spread = 4 * np.sqrt(rate * (1 - rate))  # four standard deviations
    assert abs((kept == 0).mean() - rate) <= spread / np.sqrt(kept.size)
    # Also of every task, row, head, query and key.
    for axis in range(kept.ndim):
        own = (kept == 0).mean(axis=tuple(set(range(kept.ndim)) - {axis}))
        assert np.abs(own - rate).max() <= 1.3 * spread / np.sqrt(kept.size / len(own))


def test_nothing_is_dropped_in_step_with_something_else():
    """Between any two tasks, rows, heads, queries or keys there is no correlation."""
    kept = masks(dropout(0.5)) == 0
    for axis in range(kept.ndim):
        first, second = (np.take(kept, n, axis=axis).ravel() for n in (0, 1))
        agree = (first == second).mean()
        assert abs(agree - 0.5) < 3 / np.sqrt(first.size)
    other = masks(dropout(0.5), use="another") == 0
    layer = masks(dropout(0.5).of_layer(jnp.int32(1))) == 0
    for mask in (other, layer):
        assert abs((kept == mask).mean() - 0.5) < 3 / np.sqrt(kept.size)


def test_masks_do_not_depend_on_what_is_beside():
    kept, alone = masks(dropout()), masks(dropout(tasks=1))
    np.testing.assert_array_equal(kept[:1], alone)
    np.testing.assert_array_equal(kept, masks(dropout(), keys=Q + 8)[..., :Q])
    np.testing.assert_array_equal(kept[:, :1], masks(dropout(rows=1)))


@pytest.mark.parametrize("S", [12, _BLOCK + 5])
def test_attention_that_drops_nothing(within, S):
    """The shares are written out for dropout: without any, the result is the same."""
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.standard_normal((2, S, 2, 4)), "f") for _ in range(3))
    inside = np.arange(S) < np.array([[S], [7]])
    places = Places(jnp.asarray(np.arange(S) * inside), jnp.asarray(inside, jnp.int32))
    seen = []

    def keep(shares, positions):
        seen.append(shares.shape)
        return shares

    plain, written = (
        jax.jit(partial(attend, causal=False, dropout=given))(query, key, value, places, places)
        for given in (None, keep)
    )
    assert seen[0][0] == 2
    assert seen[0][3] == S
    within("attention with shares", np.abs(plain - written)[inside].max(), 1e-6)


@pytest.mark.slow
def test_the_base_drops_in_training_only(within):
    base = model(BERT, num_hidden_layers=1, classifier_dropout=0.0, hidden_dropout_prob=0.3)
    specs = [Lora(r=2, targets=("query",))]
    batch = label_batch(np.random.default_rng(0), [[9, 4, 7, 8]], 12, [2])
    options = StepOptions(kind="classification", dropout=True, base_dropout=True)
    step = make_train_step(base, options)

    def loss(**settings):
        given = numbers(specs, base.config, classes=[2], **settings)
        state = init_state(lora(specs, base.config, [2]))
        return float(step(state, given, batch, jnp.ones(1, bool))[1].loss[0])

    settings = numbers(specs, base.config, classes=[2])
    sums = make_eval_step(base, options)(lora(specs, base.config, [2]), settings, batch)
    plain = float(sums.loss[0] / sums.weight[0])
    expected = StepOptions(kind="classification")
    sums = make_eval_step(base, expected)(lora(specs, base.config, [2]), settings, batch)
    assert float(sums.loss[0] / sums.weight[0]) == plain
    dropped = [loss(seed=seed) for seed in range(30)]
    assert dropped[0] == loss(seed=0)
    assert len(set(dropped)) == 30
    assert plain not in dropped
    # Dropout is right on average to first order; the loss bends upwards.
    assert abs(np.mean(dropped) - plain) < np.std(dropped)


def test_hidden_features_keep_their_mean():
    given = dropout(0.25)
    x = jnp.broadcast_to(jnp.arange(1.0, 401.0), (T, B, 5, 400))
    kept = np.asarray(jax.jit(lambda x: given(x, "hidden"))(x))
    assert abs(kept.sum() / np.asarray(x).sum() - 1) < 4 / np.sqrt(3 * kept.size) * 1.2

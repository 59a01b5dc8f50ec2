"""Intervals over layers, against a loop that draws layers one by one."""

import numpy as np
import pytest

from jaxtask.analysis.pooling import cell_weights
from jaxtask.analysis.significance import interval, layer_interval


def by_hand(values, norms, chosen):
    """The pooled mean of one pair over the chosen layers."""
    if norms is None:
        modules = [np.nanmean(values[chosen, m]) for m in range(values.shape[1])
                   if np.isfinite(values[chosen, m]).any()]  # fmt: skip
        return np.mean(modules) if modules else np.nan
    w = np.where(np.isfinite(values[chosen]), norms[chosen], 0)
    return np.nansum(w * values[chosen]) / w.sum() if w.sum() else np.nan


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    made = rng.standard_normal((6, 2, 3))
    made[:3, 1, 0] = np.nan  # a module type that half of the layers have
    made[1:, :, 2] = np.nan  # a pair that one layer has
    return made


@pytest.mark.parametrize("weights", ["equal", "norm"])
def test_quantiles_of_pooled_means(values, weights):
    norms = np.random.default_rng(1).uniform(1, 3, values.shape) if weights == "norm" else None
    low, high = layer_interval(values, norms, resamples=4000)
    rng = np.random.default_rng(2)
    for p in range(2):
        own = None if norms is None else norms[..., p]
        means = [by_hand(values[..., p], own, rng.integers(0, 6, 6)) for _ in range(4000)]
        expected = np.nanquantile(means, [0.025, 0.975])
        np.testing.assert_allclose([low[p], high[p]], expected, atol=0.06)
    assert np.isnan([low[2], high[2]]).all()


def test_the_same_seed_gives_the_same():
    values = np.random.default_rng(0).standard_normal((5, 1, 3000))
    np.testing.assert_array_equal(layer_interval(values), layer_interval(values))


def test_coverage():
    """About 95 of 100 intervals of 30 layers hold the true mean."""
    values = np.random.default_rng(3).standard_normal((30, 1, 400))
    low, high = layer_interval(values)
    assert 0.89 < np.mean((low < 0) & (high > 0)) < 0.98


def test_few_layers():
    values = np.random.default_rng(0).standard_normal((2, 3, 5))
    low, high, what = interval(values)
    assert what == "cells"
    assert (low < high).all()
    low, _, what = interval(values[:1, :1])
    assert what == "nothing"
    assert np.isnan(low).all()
    assert interval(np.zeros((4, 1, 2)))[2] == "layers"


@pytest.mark.parametrize("weights", ["equal", "norm"])
def test_weights_of_cells_give_the_pooled_mean(values, weights):
    norms = np.random.default_rng(1).uniform(1, 3, values.shape) if weights == "norm" else None
    mass = cell_weights(np.isfinite(values), norms)
    for p in range(3):
        own = None if norms is None else norms[..., p]
        expected = by_hand(values[..., p], own, np.arange(6))
        assert np.sum(mass[..., p] * np.nan_to_num(values[..., p])) == pytest.approx(expected)
    assert not cell_weights(np.zeros((2, 2, 1), bool)).any()

"""p values beyond the draws, and false discoveries, against SciPy and sums written out."""

import numpy as np
import pytest
from scipy import stats

from jaxtask.analysis.significance import adjusted, discoveries, draws_of, p_values


def test_within_the_draws_it_is_the_count():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 500))
    x = rng.uniform(-1, 1, 40)
    row = rng.integers(0, 3, 40)
    expected = [(1 + np.sum(values[r] >= v)) / 501 for r, v in zip(row, x, strict=True)]
    np.testing.assert_allclose(p_values(draws_of(values), row, x), expected)


def test_a_null_for_each_value_and_one_for_all_agree():
    rng = np.random.default_rng(1)
    values = rng.gamma(3, size=(1, 400))
    x = rng.gamma(3, size=30) * 3
    shared = p_values(draws_of(values), np.zeros(30, int), x)
    own = p_values(draws_of(np.repeat(values, 30, axis=0)), np.arange(30), x)
    np.testing.assert_allclose(own, shared)


@pytest.mark.parametrize(
    "true", [stats.norm(), stats.gamma(2), stats.gamma(20), stats.beta(8, 300)]
)
def test_the_tail_goes_on_where_the_draws_end(true):
    values = true.rvs((1, 20_000), random_state=2)
    for p in (1e-3, 1e-5, 1e-8):
        found = p_values(draws_of(values), np.array([0]), np.array([true.isf(p)]))[0]
        assert abs(np.log10(found / p)) < 0.15 * -np.log10(p)


def test_the_tail_is_monotone_and_never_zero():
    values = np.random.default_rng(3).gamma(2, size=(1, 300))
    x = np.concatenate([np.linspace(0, 30, 400), [1e3, 1e6]])
    p = p_values(draws_of(values), np.zeros(len(x), int), x)
    assert (np.diff(p) <= 0).all()
    assert (p > 0).all()
    assert p[-1] < 1e-100


def test_false_discoveries_by_hand():
    p = np.array([[0.001, 0.9, 0.03], [np.nan, 0.012, 0.04]])
    known = np.sort(p[np.isfinite(p)])
    m = len(known)
    largest = max(k for k in range(m) if known[k] <= 0.05 * (k + 1) / m)
    np.testing.assert_array_equal(discoveries(p, 0.05), np.nan_to_num(p, nan=1) <= known[largest])
    assert np.isnan(adjusted(p)[1, 0])
    assert not discoveries(np.full(3, np.nan), 0.05).any()

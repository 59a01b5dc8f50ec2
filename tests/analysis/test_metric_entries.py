"""What a metric's entry says of similarity and of its null distribution, for every metric."""

from dataclasses import replace

import numpy as np
import pytest

import jaxtask as jt
from analysis.random_banks import random_update
from jaxtask.analysis.null_models import Expected, expected
from jaxtask.analysis.result_view import updates_of
from jaxtask.metrics import METRICS

SIMILAR = [name for name, m in METRICS.items() if m.similar]


@pytest.fixture(scope="module")
def ds():
    """a and b are unrelated, "again" is a; c and d are unrelated, of rank 1."""
    rng = np.random.default_rng(2)
    made = {name: random_update(rng, 30, 20, rank) for name, rank in zip("abcd", (3, 3, 1, 1))}  # noqa: B905
    made["again"] = made["a"]
    factors = {name: {"layers.0.q": pair} for name, pair in made.items()}
    bank = jt.AdapterBank.from_factors(factors)
    return jt.compare(bank, dtype="float64", keep=["spectra"]).sel(layer=0, module="q")


def value(ds, name, source, target):
    variable = METRICS[name].variables(("out",))[0]
    return ds[variable].sel(source=source, target=target).item()


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMILAR)
def test_which_values_are_similar(ds, name):
    same, other = value(ds, name, "a", "again"), value(ds, name, "a", "b")
    assert same > other if METRICS[name].similar == "large" else same < other
    if METRICS[name].identical is not None:
        np.testing.assert_allclose(same, METRICS[name].identical, atol=1e-7)


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if not m.sided])
def test_what_is_constant_at_rank_1(ds, name):
    found = [value(ds, name, *pair) for pair in ("ca", "da", "cd", "dc", "cb")]
    assert (np.ptp(found) < 1e-7) == (METRICS[name].constant_at_rank_1 or name == "entropy_source")


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if m.null])
def test_unrelated_updates_are_within_the_null(ds, name):
    ds = ds.expand_dims(("layer", "module"))
    variable = METRICS[name].variables(("out",))[0]
    null = expected(ds, variable, updates_of(ds))
    pairs = np.array([0, 1]), np.array([1, 0])
    rows = null.rows((0, 0), null.labels((0, 0), *pairs))
    for draws, found in zip(rows.values, ds[variable].values[0, 0][pairs], strict=True):
        assert draws.min() - 3 * draws.std() <= found <= draws.max() + 3 * draws.std()


def test_metrics_without_a_null(ds, monkeypatch):
    """Are said to have none; a family that nobody samples raises."""
    assert {n for n, m in METRICS.items() if m.pooled and not m.null} == {"entropy_source"}
    made = updates_of(ds.expand_dims(("layer", "module")))
    monkeypatch.setitem(METRICS, "l2", replace(METRICS["l2"], null="other"))
    null = Expected("l2", "l2", made, "pi/2")
    labels = null.labels((0, 0), np.array([0]), np.array([1]))
    with pytest.raises(AssertionError, match="metric l2: its null 'other' is not sampled here"):
        null.rows((0, 0), labels)

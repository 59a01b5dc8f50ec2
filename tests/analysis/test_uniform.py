"""Null models are right: p values of random updates are uniform, through the real comparison."""

import numpy as np
import pytest
from scipy.stats import kstest

import jaxtask as jt
from analysis.random_banks import random_bank
from jaxtask.analysis.calibration import calibrate, cells_of, norms_of, pairs_of
from jaxtask.analysis.null_models import expected
from jaxtask.analysis.result_view import updates_of

BANKS = 120
VARIABLES = ("grassmann_out", "grassmann_in", "cosine", "rec", "spectral_l1", "energy_core",
             "residual")  # fmt: skip


@pytest.fixture(scope="module")
def p_of_banks():
    """p of independent pairs with random spectra: pooled, and in one cell."""
    rng = np.random.default_rng(0)
    found = {name: [] for name in VARIABLES}
    metrics = dict.fromkeys(name.removesuffix("_out").removesuffix("_in") for name in VARIABLES)
    metrics = [m for m in metrics if m in jt.metrics.METRICS]
    for bank in range(BANKS):
        factors = random_bank(rng, "ab")
        ds = jt.compare(jt.AdapterBank.from_factors(factors), metrics=metrics, keep=["spectra"])
        updates = updates_of(ds)
        for name in VARIABLES:
            pairs = pairs_of(ds, name)
            values = cells_of(ds, name, pairs)
            norms = norms_of(updates, pairs, "equal" if bank % 2 else "norm")
            chance = calibrate(expected(ds, name, updates), values, pairs, norms, bank)
            found[name].append((chance.pooled_p[0], chance.p[0, 0, 0]))
    return {name: np.array(values).T for name, values in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIABLES)
def test_p_values_are_uniform(p_of_banks, name):
    for p in p_of_banks[name]:
        assert len(np.unique(p)) > BANKS / 2
        assert kstest(p, "uniform").pvalue > 0.01

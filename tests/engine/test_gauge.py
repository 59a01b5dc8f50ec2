"""What must not change a score: factorisation, order of adapters, rotations of the model."""

import numpy as np
import pytest

import jaxtask as jt
import oracles
from makers import conditioned, near_update, orthonormal, random_update, spectrum, update

KEY = "layers.0.q"
D_OUT, D_IN, R = 40, 32, 4
TOLERANCE = {"float32": 1e-5, "float64": 2e-11}
"""Of a metric's scale: both of two results may be off by what `test_accuracy` allows a mode."""

DTYPES = ["float32", pytest.param("float64", marks=pytest.mark.slow)]


def updates():
    """Four float64 updates with well separated spectra: random, a near one, a lower rank."""
    rng = np.random.default_rng(0)
    U, V = orthonormal(rng, D_OUT, R), orthonormal(rng, D_IN, R)
    return {
        "a": update(rng, U, spectrum(R), V),
        "b": random_update(rng, D_OUT, D_IN, R),
        "near": near_update(rng, U, spectrum(R), V, (1e-3, 0.01, 0.1, 0.2), drift=0.01),
        "low": random_update(rng, D_OUT, D_IN, 2),
    }


def compared(every, dtype):
    bank = jt.AdapterBank.from_factors({n: {KEY: f} for n, f in every.items()})
    return jt.compare(bank, dtype=dtype).isel(layer=0, module=0)


def assert_same(found, expected, dtype):
    """All variables to the mode's tolerance, times their size and the slope of `martin`."""
    for name, values in expected.data_vars.items():
        values = values.values
        atol = TOLERANCE[dtype] * max(1.0, float(np.nanmax(np.where(np.isinf(values), 0, values))))
        if name.startswith("martin"):
            atol = TOLERANCE[dtype] * oracles.martin_slope(values)
        assert np.isclose(found[name].values, values, rtol=0, atol=atol, equal_nan=True).all(), name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_refactoring(dtype):
    """(B, A) and (B·G, G⁻¹·A) score the same, for G of condition 30, negative and not small."""
    rng = np.random.default_rng(1)
    every = updates()
    turned = {}
    for name, (B, A) in every.items():
        G = -7.0 * conditioned(rng, B.shape[1], 30.0)
        turned[name] = (B @ G, np.linalg.solve(G, A))
    assert_same(compared(turned, dtype), compared(every, dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["out", "in", "both"])
def test_rotations(side, dtype):
    """Orthogonal transforms of the output or input space, the same for all, change nothing."""
    rng = np.random.default_rng(2)
    P = orthonormal(rng, D_OUT, D_OUT) if side != "in" else np.eye(D_OUT)
    Q = orthonormal(rng, D_IN, D_IN) if side != "out" else np.eye(D_IN)
    every = updates()
    turned = {name: (P @ B, A @ Q) for name, (B, A) in every.items()}
    assert_same(compared(turned, dtype), compared(every, dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_of_adapters(dtype):
    """Permuting the adapters permutes the results."""
    every = updates()
    order = ["low", "a", "near", "b"]
    found = compared({name: every[name] for name in order}, dtype)
    expected = compared(every, dtype).sel(source=order, target=order, task=order)
    assert_same(found, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetric_metrics_are_symmetric_to_the_last_bit(dtype):
    """What is declared symmetric is stored so; what is not differs somewhere."""
    ds = compared(updates(), dtype)
    pairs = [name for name, v in ds.data_vars.items() if v.dims == ("source", "target")]
    declared = {name: m.symmetric for name, m in jt.metrics.METRICS.items()}
    for name in (n for n in pairs if n != "valid"):
        values = ds[name].values
        symmetric = (
            declared[name.removesuffix("_out").removesuffix("_in")]
            if (name not in declared)
            else declared[name]
        )
        assert symmetric == bool(ds[name].attrs["symmetric"])
        assert np.array_equal(values, values.T, equal_nan=True) == symmetric, name


@pytest.mark.parametrize("dtype", DTYPES)
def test_transposition_swaps_the_sides(dtype):
    """Comparing ΔWᵀ exchanges "out" and "in" and leaves what reads both sides alone."""
    every = updates()
    swapped = compared({name: (A.T, B.T) for name, (B, A) in every.items()}, dtype)
    names = {}
    for n in swapped.data_vars:
        stem, _, side = n.rpartition("_")
        names[n] = f"{stem}_{'in' if side == 'out' else 'out'}" if side in ("out", "in") else n
    assert_same(swapped.rename(names), compared(every, dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scales(dtype):
    """A scale kept apart acts as if multiplied in: sizes and signs follow, spaces do not move."""
    every = updates()
    scales = {"a": 2.5, "b": -0.3, "near": 1e-3, "low": -40.0}
    apart = {n: jt.LowRankUpdate(B, A, scales[n]) for n, (B, A) in every.items()}
    inside = {n: (B * scales[n], A) for n, (B, A) in every.items()}
    found = compared(apart, dtype)
    assert_same(found, compared(inside, dtype), dtype)
    plain = compared(every, dtype)
    assert_same(
        found[["grassmann_out", "overlap_in"]], plain[["grassmann_out", "overlap_in"]], dtype
    )
    sign = np.sign(np.outer(list(scales.values()), list(scales.values())))
    np.testing.assert_allclose(found["cosine"], sign * plain["cosine"], atol=TOLERANCE[dtype])

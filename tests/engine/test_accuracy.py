"""Angles against truth from the stored bits, where float32 is hardest: tiny and right ones."""

from functools import cache

import jax
import numpy as np
import pytest

import jaxtask as jt
import oracles
from jaxtask_kernels import principal_angles
from makers import MIXED_ANGLES, bases_at_angles, conditioned, pair_at_angles, spectrum_matrix

pytestmark = pytest.mark.usefixtures("compile_fully")

SHAPES = [
    (64, 1, 1),
    (64, 32, 32),
    (1024, 8, 5),
    (4096, 40, 7),
    (14336, 16, 1),
    (14336, 32, 32),
]
KEY = "layers.0.q"


def angle_error(found, truth):
    """Largest error [rad]; what is padded must be NaN and nothing else may be."""
    found = np.asarray(found, np.float64)
    assert not np.isnan(found[: len(truth)]).any()
    assert np.isnan(found[len(truth) :]).all()
    return np.max(np.abs(found[: len(truth)] - truth))


@cache
def case(d, k, l, kappa, dtype):  # noqa: E741
    """A pair with mixed angles and the truth from its stored bits."""
    rng = np.random.default_rng([d, k, l, int(kappa)])
    X, Y = pair_at_angles(rng, d, k, l, MIXED_ANGLES, kappa, dtype)
    return X, Y, oracles.angles(X, Y)


def measured(outs, ins, dtype):
    """Kept angles (out, in) of `compare` for ΔW = out · inᵀ, of two tasks."""
    factors = {name: {KEY: (B, A.T)} for name, B, A in zip("ab", outs, ins, strict=True)}
    bank = jt.AdapterBank.from_factors(factors)
    ds = jt.compare(bank, metrics=["grassmann"], dtype=dtype, keep=["angles"])
    assert ds["rank"].values.ravel().tolist() == [B.shape[1] for B in outs]
    return ds["angles_out"].values[0, 0, 0, 1], ds["angles_in"].values[0, 0, 0, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "k", "l", "dtype"),
    [(*shape, "float32") for shape in SHAPES] + [(*shape, "float64") for shape in SHAPES[:-1]],
)
def test_compare_angles(within, d, k, l, dtype):  # noqa: E741
    """Every angle of `compare`: 5e-6 in float32 up to κ = 1e4, 1e-11 in float64 up to κ = 1e6.

    The ill-conditioned factor is once B and once A, with one of κ = 1 on the other side; float32
    mode reads float32 factors, float64 mode float64 ones.
    """
    bound, kappa = (5e-6, 1e4) if dtype == "float32" else (1e-11, 1e6)
    *good, truth_good = case(d, k, l, 1.0, dtype)
    *bad, truth_bad = case(d, k, l, kappa, dtype)
    for outs, ins, truths in (
        (bad, good, (truth_bad, truth_good)),
        (good, bad, (truth_good, truth_bad)),
    ):
        for found, truth in zip(measured(outs, ins, dtype), truths, strict=True):
            label = kappa if truth is truth_bad else 1.0
            within(f"compare angles, {dtype}, κ={label:g}", angle_error(found, truth), bound)


@pytest.mark.parametrize("r", [2, 16])
def test_compare_float32_of_float64_factors(within, r):
    """Float32 mode on float64 factors keeps the float32 bound at κ = 1e4."""
    rng = np.random.default_rng(r)
    X, Y = pair_at_angles(rng, 600, r, r, MIXED_ANGLES, 1e4, np.float64)
    mate = np.eye(72, r) @ conditioned(rng, r, 3.0)
    found, _ = measured((X, Y), (mate, mate), "float32")
    error = angle_error(found, oracles.angles(X, Y))
    within("compare angles, float32 of float64 factors, κ=1e4", error, 5e-6)


CASES32 = [(*shape, kappa) for shape in SHAPES for kappa in (1.0, 1e4)]
CASES32 += [(1024, 8, 5, 10.0), (4096, 16, 16, 1e2), (4096, 40, 7, 1e3)]


@pytest.mark.slow
@pytest.mark.parametrize(("d", "k", "l", "kappa"), CASES32)
def test_principal_angles_float32(within, d, k, l, kappa):  # noqa: E741
    """In a caller's float32 code, without x64: 5e-6·(1 + κ/10) at worst."""
    assert jax.config.jax_enable_x64 is False
    X, Y, truth = case(d, k, l, kappa, "float32")
    found = jax.jit(principal_angles)(X, Y)
    assert found.dtype == np.float32
    bound = 5e-6 * (1 + kappa / 10)
    within(f"principal_angles, float32, κ={kappa:g}", angle_error(found, truth), bound)


@pytest.mark.slow
@pytest.mark.parametrize("kappa", [1.0, 1e6])
@pytest.mark.parametrize(("d", "k", "l"), [(64, 8, 5), (4096, 16, 40)])
def test_principal_angles_float64(within, d, k, l, kappa):  # noqa: E741
    """With x64 the kernel holds what `compare` promises in float64: 1e-11 up to κ = 1e6."""
    rng = np.random.default_rng(d + l)
    X, Y = pair_at_angles(rng, d, k, l, MIXED_ANGLES, kappa, np.float64)
    with jax.enable_x64(True):
        found = jax.jit(principal_angles)(X, Y)
    error = angle_error(found, oracles.angles(X, Y))
    within(f"principal_angles, float64, κ={kappa:g}", error, 1e-11)


@pytest.mark.parametrize("d", [512, 4096])
def test_orthonormal_inputs(within, d):
    """`orthonormal=True` takes float32 bases as they are: 5e-6 against the spans of their bits."""
    rng = np.random.default_rng(d)
    X, Y = (Z.astype(np.float32) for Z in bases_at_angles(rng, d, 12, 10, MIXED_ANGLES))
    found = principal_angles(X, Y, orthonormal=True)
    error = angle_error(found, oracles.angles(X, Y))
    within("principal_angles, float32, orthonormal", error, 5e-6)


@pytest.mark.slow
def test_scipy_is_wrong_where_this_is_right():
    """The trap of the notes, (1.4, 1e-9): the oracle and the kernel agree to 1e-14."""
    rng = np.random.default_rng(9)
    X, Y = bases_at_angles(rng, 64, 2, 2, (1e-9, 1.4))
    with jax.enable_x64(True):
        found = np.asarray(principal_angles(X, Y))
    np.testing.assert_allclose(found, oracles.angles(X, Y), rtol=0, atol=1e-14)
    np.testing.assert_allclose(found, [1e-9, 1.4], rtol=0, atol=1e-14)


@pytest.mark.parametrize("factors", [np.float32, np.float64])
@pytest.mark.parametrize(("d", "r"), [(64, 1), (64, 8), (1024, 16), (14336, 64)])
def test_adapter_against_itself(within, d, r, factors):
    """Itself, a copy and a re-factored copy: Grassmann ≤ 1e-6·r in float32, cosine 1 within 1e-6.

    The copy (B·D, D⁻¹·A), D of powers of two, has the same ΔW exactly, from other bits.
    """
    rng = np.random.default_rng(r)
    B = (rng.standard_normal((d, r)) @ conditioned(rng, r, 100.0)).astype(factors)
    A = rng.standard_normal((r, 80)).astype(factors)
    D = factors(2.0) ** rng.integers(-3, 4, r).astype(factors)
    bank = jt.AdapterBank.from_factors(
        {"one": {KEY: (B, A)}, "copy": {KEY: (B * D, A / D[:, None])}}
    )
    ds = jt.compare(bank, metrics=["grassmann", "cosine"])
    worst = max(ds[f"grassmann_{side}"].values.max() for side in ("out", "in"))
    slip = np.abs(ds["cosine"].values - 1).max()
    within("self: grassmann", worst, 1e-6 * r)
    within("self: cosine", slip, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 1e-4])
@pytest.mark.parametrize("theta", [0.3, 0.33, 0.9])
def test_clustered_angles(within, theta, spread):
    """32 equal or nearly equal angles: where float32 singular values are least accurate.

    On both sides of the cosine (.95, θ = 0.318) at which the engine changes its formula.
    """
    rng = np.random.default_rng(12)
    X, Y = bases_at_angles(rng, 256, 32, 32, theta * (1 + spread * rng.standard_normal(32)))
    X, Y = X.astype(np.float32), (Y @ conditioned(rng, 32, 2.0)).astype(np.float32)
    mate = np.eye(72, 32, dtype=np.float32)
    truth = oracles.angles(X, Y)
    found = jax.jit(principal_angles)(X, Y)
    within("principal_angles, float32, clustered angles", angle_error(found, truth), 5e-6)
    found, _ = measured((X, Y), (mate, mate), "float32")
    within("compare angles, float32, clustered angles", angle_error(found, truth), 5e-6)


def test_clustered_spectrum_changes_no_angle(within):
    """Equal singular values leave the singular vectors undetermined but not the spaces."""
    rng = np.random.default_rng(11)
    X, Y = bases_at_angles(rng, 300, 6, 6, MIXED_ANGLES[2:8])
    X, Y = (Q @ spectrum_matrix(rng, (1, 1, 1, 0.5, 0.5, 0.5)) for Q in (X, Y))
    X, Y = X.astype(np.float32), Y.astype(np.float32)
    mate = np.eye(72, 6, dtype=np.float32)
    found, _ = measured((X, Y), (mate, mate), "float32")
    error = angle_error(found, oracles.angles(X, Y))
    within("compare angles, float32, clustered spectrum", error, 5e-6)

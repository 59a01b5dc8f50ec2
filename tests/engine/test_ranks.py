"""Ranks that differ, are deficient, zero, or exceed a dimension: nothing is invented."""

from functools import cache
from itertools import product

import ml_dtypes
import numpy as np
import pytest

import jaxtask as jt
import oracles
from makers import orthonormal, random_update, spectrum, update

KEY = "layers.0.q"
D_OUT, D_IN = 30, 24
SIDED = [name for name, m in jt.metrics.METRICS.items() if m.sided]
NAN_AT_ZERO = {
    *("cosine", "rec", "entropy_source", "entropy_projected", "negative_mass", "residual"),
    *("energy_diag", "energy_core", "energy_out", "energy_in"),
}


def makers():
    """{name: (B, A, rank)}: stored widths from 1 to 8, ranks from 0 to 6."""
    rng = np.random.default_rng(0)
    U, V = orthonormal(rng, D_OUT, 6), orthonormal(rng, D_IN, 6)
    big, small = update(rng, U, spectrum(6), V), update(rng, U[:, :2], spectrum(2), V[:, :2])
    B, A = random_update(rng, D_OUT, D_IN, 3)
    dead = np.zeros((D_OUT, 1))
    return {
        "six": (*big, 6),
        "within six": (*small, 2),
        "one": (*random_update(rng, D_OUT, D_IN, 1), 1),
        "repeated": (np.hstack([B, B[:, :2]]), np.vstack([A, A[1:]]), 3),
        "dead": (np.hstack([dead, B, dead]), np.vstack([A[:1], A, A[1:2]]), 3),
        "dead rows of A": (np.hstack([B, B]), np.vstack([A, 0 * A]), 3),
        "untrained": (np.zeros((D_OUT, 4)), rng.standard_normal((4, D_IN)), 0),
        "nothing": (np.zeros((D_OUT, 8)), np.zeros((8, D_IN)), 0),
    }


@cache
def measured(dtype, padding):
    every = {n: (B.astype(dtype), A.astype(dtype), k) for n, (B, A, k) in makers().items()}
    bank = jt.AdapterBank.from_factors({n: {KEY: (B, A)} for n, (B, A, _) in every.items()})
    ds = jt.compare(bank, dtype=dtype, padding=padding, keep=["angles", "spectra"])
    return {n: oracles.Dense(*f) for n, f in every.items()}, ds.isel(layer=0, module=0)


CASES = [
    *product(["float32"], ("pi/2", "none")),
    *(pytest.param("float64", padding, marks=pytest.mark.slow) for padding in ("pi/2", "none")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "padding"), CASES)
def test_ranks_and_validity(dtype, padding):
    """The numerical rank is what is there; `valid` is false against a zero update and only then."""
    dense, ds = measured(dtype, padding)
    ranks = [d.rank for d in dense.values()]
    assert ds["rank"].values.tolist() == ranks
    live = np.array(ranks) > 0
    np.testing.assert_array_equal(ds["valid"], live[:, None] & live)
    np.testing.assert_array_equal(ds["frobenius"].values == 0, ~live)


@pytest.mark.parametrize(("dtype", "padding"), CASES)
def test_distances(within, dtype, padding):
    """Every distance between any two ranks follows the padding rule, also at rank 0."""
    dense, ds = measured(dtype, padding)
    angle_error, tolerance = (5e-6, 1e-5) if dtype == "float32" else (1e-11, 1e-10)
    for i, j, side in product(dense, dense, ("out", "in")):
        k, l = dense[i].rank, dense[j].rank  # noqa: E741
        theta = oracles.DensePair(dense[i], dense[j]).angles(side) if k and l else []
        truth = oracles.distances(theta, k, l, padding, angle_error)
        for name in SIDED:
            found = float(ds[f"{name}_{side}"].sel(source=i, target=j))
            if not np.isfinite(truth[name]):
                np.testing.assert_equal(found, truth[name], err_msg=f"{name} {i} {j}")
                continue
            bound = truth["martin_slack"] if name == "martin" else tolerance
            bound *= max(k, l, 1) * np.pi / 2 if name == "grassmann" else 1
            within(f"ranks, {dtype}: {name}", abs(found - truth[name]), bound)


@pytest.mark.parametrize(("dtype", "padding"), CASES)
def test_what_reads_both_sides(within, dtype, padding):
    """NaN of and against a zero update where the notes say so; the dense value everywhere else."""
    dense, ds = measured(dtype, padding)
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    for i, j in product(dense, dense):
        pair = oracles.DensePair(dense[i], dense[j])
        for name, truth in pair.unsided().items():
            found = float(ds[name].sel(source=i, target=j))
            if not pair.both and name in NAN_AT_ZERO:
                assert np.isnan(found), (name, i, j)
                continue
            scale = max(1.0, pair.one.norm + pair.two.norm, pair.one.norm * pair.two.norm)
            within(f"ranks, {dtype}: {name}", abs(found - truth), tolerance * scale)


@pytest.mark.parametrize(("dtype", "padding"), CASES)
def test_kept_vectors_end_at_the_rank(dtype, padding):
    """min(k, l) angles, k values of S₁ and of S₂, then NaN: nothing made up beyond a rank."""
    dense, ds = measured(dtype, padding)
    for i, j in product(dense, dense):
        k, l = dense[i].rank, dense[j].rank  # noqa: E741
        at = {"source": i, "target": j}
        for side in ("out", "in"):
            there = np.isfinite(ds[f"angles_{side}"].sel(at).values)
            assert there.tolist() == [n < min(k, l) for n in range(8)]
        assert np.isfinite(ds["projected"].sel(at)).values.tolist() == [n < k for n in range(8)]
        assert np.isfinite(ds["spectra"].sel(task=i)).values.tolist() == [n < k for n in range(8)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_containment(dtype):
    """0 exactly when the target lies in the source; a right angle for each direction too many."""
    _, ds = measured(dtype, "pi/2")
    atol = 1e-6 if dtype == "float32" else 1e-14
    for side in ("out", "in"):
        table = ds[f"containment_{side}"]
        assert float(table.sel(source="six", target="within six")) <= atol
        back = float(table.sel(source="within six", target="six"))
        assert back == pytest.approx(np.pi, abs=10 * atol)  # √4 · π/2
        none = measured(dtype, "none")[1]
        assert float(none[f"grassmann_{side}"].sel(source="six", target="within six")) <= 10 * atol


def test_padding_changes_nothing_between_equal_ranks():
    """The two conventions differ only where ranks do."""
    _, right = measured("float64", "pi/2")
    _, none = measured("float64", "none")
    equal = right["rank"].values[:, None] == right["rank"].values
    for name in SIDED:
        a, b = right[f"{name}_out"].values, none[f"{name}_out"].values
        np.testing.assert_array_equal(a[equal], b[equal])
    differs = right["grassmann_out"].values != none["grassmann_out"].values
    np.testing.assert_array_equal(differs, ~equal)


@pytest.mark.slow
def test_head_with_two_outputs():
    """A LoRA of rank 16 on a 2-output head: rank 2, equal output spaces, no spurious angle."""
    rng = np.random.default_rng(3)
    every = {
        n: (rng.standard_normal((2, 16)).astype("f4"), rng.standard_normal((16, 50)).astype("f4"))
        for n in "ab"
    }
    ds = jt.compare(jt.AdapterBank.from_factors({n: {"score": f} for n, f in every.items()}))
    ds = ds.isel(layer=0, module=0)
    assert ds["rank"].values.tolist() == [2, 2]
    np.testing.assert_allclose(ds["grassmann_out"], 0, atol=2e-6)
    dense = [oracles.Dense(*f, 2) for f in every.values()]
    truth = oracles.DensePair(*dense)
    found = float(ds["grassmann_in"][0, 1])
    assert found == pytest.approx(truth.angles("in").sum(), abs=1e-5 * np.pi)
    for name, value in truth.unsided().items():
        scale = max(1.0, dense[0].norm * dense[1].norm)
        assert float(ds[name][0, 1]) == pytest.approx(value, abs=1e-5 * scale), name


@pytest.mark.parametrize(
    ("stored", "ratio", "rank"),
    [("f4", 1e-5, 4), ("f4", 1e-7, 3), ("f8", 1e-7, 4), ("f8", 1e-13, 4), ("f8", 1e-16, 3)],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threshold_is_that_of_the_stored_precision(stored, ratio, rank, dtype):
    """4√r·eps of the store (9.5e-7, 1.8e-15 for r = 4), whichever mode computes."""
    rng = np.random.default_rng(4)
    s = np.array([1, 0.7, 0.4, ratio])
    B = (orthonormal(rng, D_OUT, 4) * s).astype(stored)
    A = orthonormal(rng, D_IN, 4).T.astype(stored)
    bank = jt.AdapterBank.from_factors({"a": {KEY: (B, A)}})
    assert jt.compare(bank, metrics="inner", dtype=dtype)["rank"].item() == rank
    assert jt.compare(bank, metrics="inner", dtype=dtype, rank_rtol=0.5)["rank"].item() == 2


@pytest.mark.parametrize("narrow", [np.float16, ml_dtypes.bfloat16])
def test_narrow_stores_keep_their_rank(narrow):
    """A bfloat16 file is no reason to drop directions: 4√r·eps of bfloat16 would be .125 here."""
    rng = np.random.default_rng(5)
    B, A = random_update(rng, 200, 100, 16)
    bank = jt.AdapterBank.from_factors({"a": {KEY: (B.astype(narrow), A.astype(narrow))}})
    assert jt.compare(bank, metrics="inner")["rank"].item() == 16


@pytest.mark.parametrize("rtol", [-0.1, 1.0, np.nan])
def test_rank_rtol_out_of_range(rtol):
    """A threshold that is no share of σ_max is refused."""
    bank = jt.AdapterBank.from_factors({"a": {KEY: makers()["one"][:2]}})
    with pytest.raises(jt.JaxtaskError, match="rank_rtol"):
        jt.compare(bank, metrics="inner", rank_rtol=rtol)

"""Every metric of `compare` against dense float64 matrices with plain SVDs."""

import re
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import jaxtask as jt
import oracles
from makers import near_update, orthonormal, random_update, spectrum, update

KEY = "layers.3.q"
D_OUT, D_IN, R = 48, 40, 5
KINDS = ("random", "near", "shared-A", "unrelated")
ANGLE_ERROR = {"float32": 5e-6, "float64": 1e-11}
"""What is promised of every angle; it bounds `martin` through its slope."""
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
"""Of a metric's scale."""

DISTANCES = [name for name, m in jt.metrics.METRICS.items() if m.sided]
UNSIDED = [name for name, m in jt.metrics.METRICS.items() if not m.sided]


def factors(kind):
    """Updates that are `kind` to each other, as float64 factors, by task."""
    rng = np.random.default_rng(KINDS.index(kind))
    s = 3.0 * spectrum(R)
    U, V = orthonormal(rng, D_OUT, R), orthonormal(rng, D_IN, R)
    if kind == "random":  # of different sizes and ranks, with something in common
        W = orthonormal(rng, D_OUT, R)
        return {
            "a": update(rng, U, s, V),
            "b": update(rng, np.linalg.qr(U + 0.3 * W)[0], 5 * s, V),
            "c": random_update(rng, D_OUT, D_IN, 3, scale=0.2),
            "d": random_update(rng, D_OUT, D_IN, 1, scale=7.0),
        }
    if kind == "near":
        every = {"a": update(rng, U, s, V)}
        for theta in (1e-6, 1e-4, 1e-2):
            every[f"{theta:g}"] = near_update(rng, U, s, V, theta, drift=theta)
        every["mixed"] = near_update(rng, U, s, V, (1e-6, 1e-5, 1e-4, 1e-3, 1e-2))
        every["same spaces"] = update(rng, U, s[::-1].copy(), V)
        return every
    if kind == "shared-A":
        A = update(rng, U, s, V)[1]
        return {name: (rng.standard_normal((D_OUT, R)), A) for name in "abc"}
    Q, P = orthonormal(rng, D_OUT, 3 * R), orthonormal(rng, D_IN, 3 * R)
    blocks = [slice(i * R, (i + 1) * R) for i in range(3)]
    every = {name: update(rng, Q[:, b], s, P[:, b]) for name, b in zip("abc", blocks, strict=True)}
    # Exactly orthogonal updates have no spectral projection to speak of: add noise beyond rounding.
    return {
        n: (B + 0.05 * rng.standard_normal(B.shape), A + 0.05 * rng.standard_normal(A.shape))
        for n, (B, A) in every.items()
    }


@cache
def results(dtype, stored):
    """(dense updates by kind, result of `compare`): one layer a kind, tasks numbered in each."""
    tasks, dense = {}, {}
    for layer, kind in enumerate(KINDS):
        dense[kind] = []
        for i, pair in enumerate(factors(kind).values()):
            B, A = (x.astype(stored) for x in pair)
            tasks.setdefault(f"t{i}", {})[f"layers.{layer}.q"] = (B, A)
            dense[kind].append(oracles.Dense(B, A, B.shape[1]))
    return dense, jt.compare(jt.AdapterBank.from_factors(tasks), dtype=dtype)


def measured(kind, dtype, stored):
    """(dense updates, result of their layer)."""
    dense, ds = results(dtype, stored)
    n = len(dense[kind])
    ds = ds.isel(layer=KINDS.index(kind), module=0)
    ds = ds.isel(source=slice(n), target=slice(n), task=slice(n))
    assert ds["rank"].values.tolist() == [d.rank for d in dense[kind]]
    return dense[kind], ds


@cache
def unsided_truth(kind, stored):
    """{(i, j): (pair, every metric of both sides)}."""
    dense = measured(kind, "float32", stored)[0]
    pairs = {
        (i, j): oracles.DensePair(dense[i], dense[j])
        for i, j in product(range(len(dense)), repeat=2)
    }
    return {ij: (pair, pair.unsided()) for ij, pair in pairs.items()}


def scale(name, pair, r):
    """What the errors of a metric are measured against."""
    if name == "grassmann":
        return r * np.pi / 2
    if name.startswith("spectral_l"):
        return np.linalg.norm(pair.one.s) + np.linalg.norm(pair.projected)
    if name == "l2":
        return pair.one.norm + pair.two.norm
    return pair.one.norm * pair.two.norm if name == "inner" else 1.0


CASES = [
    ("float32", np.float32),
    ("float32", np.float64),
    ("float64", np.float32),
    ("float64", np.float64),
]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "stored"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_distances(within, kind, dtype, stored):
    """Every distance of every ordered pair, both sides, from the angles of the dense SVDs.

    1e-5 (float32) and 1e-10 (float64) of the scale. `martin` has no bound: its tolerance is
    what the promised angle error comes to along its slope tan θ/martin, and ∞ must be ∞.
    """
    dense, ds = measured(kind, dtype, stored)
    every = range(len(dense))
    for i, j, side in product(every, every, ("out", "in")):
        pair = oracles.DensePair(dense[i], dense[j])
        k, l = pair.one.rank, pair.two.rank  # noqa: E741
        truth = oracles.distances(pair.angles(side), k, l, angle_error=ANGLE_ERROR[dtype])
        for name in DISTANCES:
            found = float(ds[f"{name}_{side}"][i, j])
            bound = TOLERANCE[dtype] * scale(name, pair, max(k, l))
            if name == "martin":
                bound = truth["martin_slack"]
                if np.isinf(truth[name]):
                    assert found == np.inf, (i, j, side)
                    continue
            within(f"{dtype}: {name}", abs(found - truth[name]), bound)


@pytest.mark.parametrize(("dtype", "stored"), CASES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", UNSIDED)
def test_vectors_energies_and_spectra(within, name, kind, dtype, stored):
    """Every other metric of every ordered pair, literally from the dense matrices."""
    _, ds = measured(kind, dtype, stored)
    for (i, j), (pair, truth) in unsided_truth(kind, stored).items():
        found = float(ds[name][i, j])
        bound = TOLERANCE[dtype] * scale(name, pair, R)
        within(f"{dtype}: {name}", abs(found - truth[name]), bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_ranks_and_gaps(dtype):
    """`frobenius`, `gap` and `valid` beside the pairs."""
    dense, ds = measured("random", dtype, np.float64)
    rtol = 1e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(ds["frobenius"], [d.norm for d in dense], rtol=rtol)
    gaps = [min([1.0, *((d.s[:-1] - d.s[1:]) / d.s[:-1])]) for d in dense]
    np.testing.assert_allclose(ds["gap"], gaps, atol=10 * rtol)
    assert ds["valid"].values.all()


def test_kept_spectra():
    """`keep=["spectra"]`: S₁ and S₂ of the dense SVD, NaN beyond each rank."""
    every = factors("random")
    bank = jt.AdapterBank.from_factors({n: {KEY: f} for n, f in every.items()})
    ds = jt.compare(bank, metrics="cosine", keep=["spectra"], dtype="float64")
    dense = [oracles.Dense(B, A, B.shape[1]) for B, A in every.values()]
    for (i, one), (j, two) in product(enumerate(dense), enumerate(dense)):
        pair = oracles.DensePair(one, two)
        s1 = ds["spectra"].values[0, 0, i]
        s2 = ds["projected"].values[0, 0, i, j]
        np.testing.assert_allclose(s1[: one.rank], one.s, rtol=1e-12)
        np.testing.assert_allclose(s2[: one.rank], pair.projected, atol=1e-12 * two.norm)
        assert np.isnan(s1[one.rank :]).all()
        assert np.isnan(s2[one.rank :]).all()


def test_the_default_is_every_metric_and_martin_is_flagged():
    """All metrics come by default; only what can be infinite is kept out of pooled tables."""
    _, ds = measured("random", "float32", np.float64)
    expected = {f"{n}_{side}" for n in DISTANCES for side in ("out", "in")} | set(UNSIDED)
    pairs = {n for n, v in ds.data_vars.items() if v.dims == ("source", "target")} - {"valid"}
    assert pairs == expected
    assert {n for n in pairs if not ds[n].attrs["pooled"]} == {"martin_out", "martin_in"}


def test_refactoring_is_seen_as_the_same_vector():
    """Two files with the same ΔW score cosine 1 and l2 0, whatever their factors look like."""
    rng = np.random.default_rng(7)
    B, A = random_update(rng, D_OUT, D_IN, R)
    G = rng.standard_normal((R, R)) + 3 * np.eye(R)
    bank = jt.AdapterBank.from_factors(
        {"a": {KEY: (B, A)}, "b": {KEY: (B @ G, np.linalg.solve(G, A))}}
    )
    ds = jt.compare(bank, metrics=["cosine", "l2"], dtype="float64")
    np.testing.assert_allclose(ds["cosine"].values, 1, atol=1e-12)
    np.testing.assert_allclose(ds["l2"].values, 0, atol=1e-12 * np.linalg.norm(B @ A))


def test_the_readme_lists_every_metric_and_no_other():
    readme = Path(jt.metrics.__file__).parent / "README.md"
    rows = re.findall(r"^\| (`.*?) \|", readme.read_text(encoding="utf-8"), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(\w+?)(?:_\*)?`", row)]
    assert listed == list(jt.metrics.METRICS)

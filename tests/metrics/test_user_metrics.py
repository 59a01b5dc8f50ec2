"""Metrics that users build or write, and what they are told when they ask for something else."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxtask as jt
import oracles
from jaxtask.metrics import entropy_projected, entropy_source, rec, residual, spectral_lp
from makers import near_update, orthonormal, random_update, spectrum

KEY = "layers.0.q"
D_OUT, D_IN, R = 20, 16, 4


@pytest.fixture(scope="module")
def every():
    """Updates with negative entries in S₂: one the near-negative of another's direction."""
    rng = np.random.default_rng(0)
    U, V = orthonormal(rng, D_OUT, R), orthonormal(rng, D_IN, R)
    B, A = near_update(rng, U, spectrum(R), V, 0.4)
    signs = np.array([1, -1, 1, -1])
    return {
        "a": random_update(rng, D_OUT, D_IN, R),
        "b": ((U * spectrum(R)), V.T),
        "c": ((U * signs) @ (U.T @ B), A),
        "d": random_update(rng, D_OUT, D_IN, 2),
    }


@pytest.fixture(scope="module")
def bank(every):
    return jt.AdapterBank.from_factors({n: {KEY: f} for n, f in every.items()})


@pytest.fixture(scope="module")
def pairs(every):
    dense = [oracles.Dense(B, A, B.shape[1]) for B, A in every.values()]
    return {(i, j): oracles.DensePair(dense[i], dense[j]) for i in range(4) for j in range(4)}


def unit(s, how):
    size = {"none": lambda x: 1, "sum": np.sum, "max": np.max, "l2": np.linalg.norm}[how]
    return s / size(np.abs(s))


def keep(s):
    return s


def clip(s):
    return np.maximum(s, 0)


BUILT = {
    "p3": (
        spectral_lp(p=3, normalize="sum", sign="clip", projection="nonnegative"),
        lambda q: oracles.lp(unit(q.one.s, "sum"), unit(clip(q.projected), "sum"), 3),
    ),
    "p inf": (spectral_lp(p=np.inf), lambda q: oracles.lp(q.one.s, q.projected, np.inf)),
    "p 1.5, abs, max": (
        spectral_lp(p=1.5, normalize="max", sign="abs"),
        lambda q: oracles.lp(unit(q.one.s, "max"), unit(np.abs(q.projected), "max"), 1.5),
    ),
    "p 2, keep, l2": (
        spectral_lp(2, normalize="l2"),
        lambda q: oracles.lp(unit(q.one.s, "l2"), unit(q.projected, "l2"), 2),
    ),
    "p 1, keep, sum": (
        spectral_lp(1, normalize="sum"),
        lambda q: oracles.lp(unit(q.one.s, "sum"), unit(q.projected, "sum"), 1),
    ),
    "rec clip": (rec(sign="clip"), lambda q: oracles.rec(q.one.s, clip(q.projected))),
    "rec nonnegative": (
        rec(projection="nonnegative"),
        lambda q: oracles.rec(q.one.s, clip(q.projected)),
    ),
    "bits": (entropy_source(base=2), lambda q: oracles.entropy(q.one.s, 2)),
    "projected bits": (
        entropy_projected(base=2),
        lambda q: oracles.entropy(np.abs(q.projected), 2),
    ),
    "projected clip nats": (
        entropy_projected(base=np.e, sign="clip"),
        lambda q: oracles.entropy(clip(q.projected), np.e),
    ),
    "residual nonnegative": (
        residual(projection="nonnegative"),
        lambda q: q.residual(clip(q.projected)),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_built_metrics(within, bank, pairs, dtype):
    """Every parameter does what its name says, for every pair (some S₂ are negative)."""
    made = [metric for metric, _ in BUILT.values()]
    assert len({m.name for m in made}) == len(made)
    assert any((q.projected < -0.1).any() for q in pairs.values())
    ds = jt.compare(bank, metrics=made, dtype=dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    for metric, by_hand in BUILT.values():
        for (i, j), pair in pairs.items():
            error = abs(float(ds[metric.name][0, 0, i, j]) - by_hand(pair))
            within(f"{dtype}: built metrics", error, tolerance)


def test_own_metrics(bank, pairs):
    """`jt.metric` in `compare` equals the same by hand: of a pair, of a side, symmetric or not."""

    def trace_of_core(pair):
        return jnp.trace(pair.core)

    def second_angle(side):
        return side.principal[1]

    def rank_gap(side):
        return jnp.abs(side.rank_source - side.rank_target)

    def sum_of_norms(pair):
        return jnp.linalg.norm(pair.s_source) + jnp.linalg.norm(pair.s_target)

    own = [
        jt.metric(trace_of_core, name="mine"),
        jt.metric(second_angle, name="second", sided=True, symmetric=True),
        jt.metric(rank_gap, name="rank_gap", sided=True),
        jt.metric(sum_of_norms, name="norms", symmetric=True),
        jt.metric(lambda side: jnp.trace(side.outside), name="outside", sided=True),
    ]
    ds = jt.compare(bank, metrics=["cosine", *own], dtype="float64").isel(layer=0, module=0)
    for (i, j), pair in pairs.items():
        one, two = pair.one, pair.two
        assert float(ds["mine"][i, j]) == pytest.approx(pair.projected.sum(), abs=1e-12)
        assert float(ds["norms"][i, j]) == pytest.approx(one.norm + two.norm, abs=1e-12)
        for side, P, Q in (("out", one.U, two.U), ("in", one.V, two.V)):
            angle = pair.angles(side)[1]
            assert float(ds[f"second_{side}"][i, j]) == pytest.approx(angle, abs=1e-12)
            assert float(ds[f"rank_gap_{side}"][i, j]) == abs(one.rank - two.rank)
            lost = two.rank - np.sum((P.T @ Q) ** 2)
            assert float(ds[f"outside_{side}"][i, j]) == pytest.approx(lost, abs=1e-12)


def test_only_the_sides_asked_for(bank):
    """`sides=["in"]` gives that side's variables, unsided metrics as ever, nothing of the other."""
    both = jt.compare(bank, metrics=["geodesic", "cosine"], keep=["angles"])
    one = jt.compare(bank, metrics=["geodesic", "cosine"], keep=["angles"], sides=["in"])
    assert {"geodesic_in", "angles_in", "cosine"} <= set(one.data_vars)
    assert not any(name.endswith("_out") for name in set(one.data_vars) - {"d_out"})
    for name in ("geodesic_in", "angles_in", "cosine"):
        np.testing.assert_allclose(one[name], both[name], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["grasmann"]}, "unknown metric 'grasmann'; did you mean 'grassmann'"),
        ({"metrics": ["zzz"]}, "unknown metric 'zzz' .known: grassmann"),
        ({"metrics": []}, "no metric was asked for"),
        ({"metrics": ["cosine", "cosine"]}, "two metrics are named 'cosine'"),
        ({"metrics": ["rec", rec()]}, "two metrics are named 'rec'"),
        ({"sides": ["output"]}, "unknown side 'output'; expected one of out, in"),
        ({"sides": []}, "`sides` is empty"),
        ({"dtype": "float16"}, "unknown dtype 'float16'; expected one of float32, float64"),
        ({"padding": "pi"}, "unknown padding 'pi'; expected one of pi/2, none"),
        ({"keep": ["angle"]}, "unknown keep 'angle'; expected one of angles, spectra"),
    ],
)
def test_errors(bank, options, message):
    """What is not known is named, with what is."""
    with pytest.raises(jt.JaxtaskError, match=message):
        jt.compare(bank, **({"metrics": ["cosine"]} | options))


RESERVED = ["rank", "gap", "valid", "frobenius", "d_out", "source", "target", "task", "layer"]


@pytest.mark.parametrize("name", [*RESERVED, "cosine_out", "angles_out", "projected", "spectra"])
def test_a_metric_cannot_take_the_place_of_another_variable(bank, name):
    """Names of the result's own variables and coordinates are refused, never overwritten."""
    mine = jt.metric(lambda pair: jnp.sum(pair.s_source) + 1234.0, name=name)
    cosine_of_sides = jt.metric(lambda side: side.angles[0], name="cosine", sided=True)
    with pytest.raises(jt.JaxtaskError, match=name):
        jt.compare(bank, metrics=[mine, cosine_of_sides], keep=["angles", "spectra"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: spectral_lp(p=0.5), "p must be at least 1, got 0.5"),
        (lambda: spectral_lp(p=float("nan")), "p must be at least 1"),
        (lambda: spectral_lp(normalize="l1"), "normalize must be one of none, sum, max, l2"),
        (lambda: spectral_lp(sign="both"), "sign must be one of keep, abs, clip; got 'both'"),
        (lambda: spectral_lp(projection="full"), "projection must be one of diagonal, nonneg"),
        (lambda: rec(sign="keep"), "rec: sign must be one of abs, clip"),
        (lambda: entropy_source(base=1), "base must be positive and not 1"),
        (lambda: entropy_projected(base=-2), "base must be positive"),
        (lambda: residual(projection="none"), "projection must be one of"),
        (lambda: jt.metric(lambda pair: 0.0, name="my metric"), "'my metric' must be a Python id"),
    ],
)
def test_builders_refuse(build, message):
    """Arguments out of range are errors where the metric is built."""
    with pytest.raises(jt.JaxtaskError, match=message):
        build()


def test_a_metric_that_is_no_number_is_named(bank):
    wide = jt.metric(lambda pair: pair.s_source, name="wide")
    with pytest.raises(jt.JaxtaskError, match=r"'wide' returned an array of shape \(\d+,\)"):
        jt.compare(bank, metrics=[wide])


def test_one_name_may_stand_for_a_list(bank):
    one = jt.compare(bank, metrics="grassmann", sides="out", keep="angles")
    assert {"grassmann_out", "angles_out"} <= set(one.data_vars)
    assert "grassmann_in" not in one
    with pytest.raises(jt.JaxtaskError, match="memory_budget"):
        jt.compare(bank, memory_budget="1GB")

"""Draws of random spaces and updates, against full-size draws and formulas. No JAX on that side."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from jaxtask.analysis import null_samples as null
from jaxtask.analysis.null_models import Expected
from jaxtask.analysis.result_view import Updates
from makers import orthonormal
from oracles import Dense, DensePair, basis_angles, distances

DRAWS = 1500


def updates(d_out, d_in, ranks, spectra, flat=False):
    """One module of the tasks with these spectra."""
    s = np.zeros((len(ranks), max(ranks)))
    for row, values in zip(s, spectra, strict=True):
        row[: len(values)] = values
    norm = np.linalg.norm(s, axis=1)
    return Updates(
        np.array([[float(d_out)]]),
        np.array([[float(d_in)]]),
        np.array(ranks, float)[None, None],
        norm[None, None],
        s[None, None],
        flat,
    )


def rows_of(variable, metric, made, i=0, j=1, padding="pi/2"):
    null_of = Expected(variable, metric, made, padding)
    label = null_of.labels((0, 0), np.array([i]), np.array([j]))
    assert label[0] >= 0
    return null_of.rows((0, 0), label)


@pytest.mark.parametrize(
    ("n", "r", "mean", "sd", "quantile"),
    [
        (4096, 8, 12.27, 0.026, 0.099),
        (4096, 16, 24.29, 0.041, 0.135),
        (1024, 8, 11.97, 0.054, 0.195),
        (768, 8, 11.88, 0.063, 0.221),
    ],
)
def test_known_numbers(n, r, mean, sd, quantile):
    angles = null.random_angles(n, r, r)
    total = angles.sum(axis=1)
    assert abs(total.mean() - mean) < 0.01
    assert total.std() == pytest.approx(sd, rel=0.1)
    assert np.quantile(np.cos(angles[:, 0]), 0.99) == pytest.approx(quantile, rel=0.05)


@pytest.mark.parametrize(
    ("n", "k", "l"), [(40, 4, 4), (12, 3, 5), (12, 5, 3), (10, 6, 7), (5, 4, 5)]
)
def test_blocks_are_those_of_full_random_bases(n, k, l):  # noqa: E741
    rng = np.random.default_rng(0)
    drawn = null.random_grams(rng, n, k, l, DRAWS)
    full = np.stack([orthonormal(rng, n, k).T @ orthonormal(rng, n, l) for _ in range(DRAWS)])
    cosines = [np.linalg.svd(G, compute_uv=False) for G in (drawn, full)]
    for one, two in zip(cosines[0].T, cosines[1].T, strict=True):
        assert np.ptp(two) < 1e-9 or ks_2samp(one, two).pvalue > 1e-3
    # Single entries too, which singular values do not see.
    assert ks_2samp(drawn[:, 0, -1], full[:, 0, -1]).pvalue > 1e-3
    forced = max(k + l - n, 0)
    np.testing.assert_allclose(cosines[0][:, :forced], 1, atol=1e-7)
    assert (cosines[0][:, forced:] < 1 - 1e-7).all()


@pytest.mark.parametrize("padding", ["pi/2", "none"])
def test_distances_are_the_definitions_of_the_drawn_angles(padding):
    made = updates(20, 15, [3, 5], [np.ones(3), np.ones(5)])
    angles = null.random_angles(15, 3, 5)
    every = [distances(theta, 3, 5, padding) for theta in angles[:50]]
    for metric in every[0].keys() - {"martin", "martin_slack"}:
        largest_alone = padding == "pi/2" and np.ptp([row[metric] for row in every]) == 0
        if largest_alone:
            null_of = Expected(f"{metric}_in", metric, made, padding)
            assert null_of.labels((0, 0), np.array([0]), np.array([1]))[0] == -1
            continue
        found = rows_of(f"{metric}_in", metric, made, padding=padding).values[0]
        np.testing.assert_allclose(found[:50], [r[metric] for r in every], atol=2e-6)


@pytest.mark.parametrize(
    "metric",
    [
        *("cosine", "inner", "l2", "rec", "spectral_l1", "spectral_l2", "residual"),
        *("energy_diag", "energy_core", "energy_out", "energy_in"),
        *("entropy_projected", "negative_mass"),
    ],
)
def test_updates_are_those_of_dense_random_targets(metric, dense_targets):
    """The source stays as it is, the target's spectrum too; its spaces are random."""
    s, t, every = dense_targets
    made = updates(14, 11, [3, 4], [s, t])
    rows = rows_of(metric, metric, made)
    true = np.array([row[metric] for row in every])
    assert ks_2samp(rows.values[0], true).pvalue > 1e-3
    if rows.mean is not None:
        assert abs(rows.mean[0] - true.mean()) < 4 * true.std() / len(true) ** 0.5


@pytest.fixture(scope="module")
def dense_targets():
    rng = np.random.default_rng(1)
    s, t = np.array([1.0, 0.5, 0.3]), np.array([2.0, 0.7, 0.2, 0.1])
    U, V = orthonormal(rng, 14, 3), orthonormal(rng, 11, 3)
    source = Dense(U * s, V.T, 3)
    every = []
    for _ in range(DRAWS):
        B, A = orthonormal(rng, 14, 4) * t, orthonormal(rng, 11, 4).T
        every.append(DensePair(source, Dense(B, A, 4)).unsided())
    return s, t, every


@pytest.mark.parametrize(("k", "l"), [(4, 4), (2, 5), (5, 2)])
def test_closed_forms(k, l):  # noqa: E741
    """Of what is drawn, the mean where there is a formula, and the variance of ‖G‖²."""
    n_out, n_in = 24, 17
    made = updates(n_out, n_in, [k, l], [np.linspace(1, 0.3, k), np.linspace(2, 0.1, l)], flat=True)
    names = {"overlap_out": "overlap", "overlap_in": "overlap"}
    names |= {f"energy_{x}": f"energy_{x}" for x in ("out", "in", "core", "diag")}
    for variable, metric in (names | {"cosine": "cosine"}).items():
        rows = rows_of(variable, metric, made)
        values = rows.values[0]
        assert abs(values.mean() - rows.mean[0]) < 4 * values.std() / len(values) ** 0.5, variable
    n = n_out
    variance = 2 * k * l * (n - k) * (n - l) / (n**2 * (n - 1) * (n + 2)) / min(k, l) ** 2
    assert rows_of("overlap_out", "overlap", made).values.var() == pytest.approx(variance, rel=0.05)
    cosine = rows_of("cosine", "cosine", made).values
    assert cosine.std() == pytest.approx((n_out * n_in) ** -0.5, rel=0.03)


def test_angles_of_the_draws_are_the_oracles():
    rng = np.random.default_rng(3)
    P, Q = orthonormal(rng, 9, 2), orthonormal(rng, 9, 4)
    expected = basis_angles(P.T, Q.T)
    cosines = np.linalg.svd(P.T @ Q, compute_uv=False)
    np.testing.assert_allclose(np.arccos(cosines), expected, atol=1e-7)


def test_nothing_is_tested_where_chance_has_one_value():
    whole = updates(4, 9, [4, 2], [np.ones(4), np.ones(2)])
    one = updates(6, 6, [1, 1], [np.ones(1), np.ones(1)])
    pair = np.array([0]), np.array([1])
    for made, variable, metric in (
        (whole, "grassmann_out", "grassmann"),
        (whole, "energy_out", "energy_out"),
        (one, "rec", "rec"),
        (one, "entropy_projected", "entropy_projected"),
    ):
        assert Expected(variable, metric, made, "none").labels((0, 0), *pair)[0] == -1, variable
    assert Expected("grassmann_in", "grassmann", whole, "none").labels((0, 0), *pair)[0] >= 0

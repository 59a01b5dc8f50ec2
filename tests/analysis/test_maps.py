"""Maps of distances against brute force and against pictures known by construction."""

import itertools

import numpy as np
import pytest

from jaxtask.analysis.maps import (
    classical_scaling,
    clusters,
    complete,
    make_maps,
    pca,
)
from jaxtask.errors import JaxtaskError


def points(tasks=9, dims=2, seed=0):
    at = np.random.default_rng(seed).standard_normal((tasks, dims))
    return at, np.linalg.norm(at[:, None] - at, axis=-1)


def test_pca_is_that_of_the_covariance():
    _, d = points(dims=4)
    at, shares = pca(d)
    values, vectors = np.linalg.eigh(np.cov(d, rowvar=False))
    expected = (d - d.mean(axis=0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(at), np.abs(expected), atol=1e-10)
    np.testing.assert_allclose(shares, values[::-1][:2] / values.sum(), atol=1e-12)
    assert (at[np.argmax(np.abs(at), axis=0), [0, 1]] > 0).all()


def test_scaling_returns_points_of_the_plane():
    _, d = points(dims=2)
    at, shares, negative, stress = classical_scaling(d)
    np.testing.assert_allclose(np.linalg.norm(at[:, None] - at, axis=-1), d, atol=1e-12)
    assert shares.sum() == pytest.approx(1)
    assert negative == pytest.approx(0, abs=1e-12)
    assert stress == pytest.approx(0, abs=1e-7)


def test_scaling_tells_what_it_cannot_draw():
    # Three leaves at 1 from a hub and at 2 from each other: no Euclidean space has them.
    d = np.array([[0, 1, 1, 1], [1, 0, 2, 2], [1, 2, 0, 2], [1, 2, 2, 0]], float)
    at, shares, negative, stress = classical_scaling(d)
    centring = np.eye(4) - 1 / 4
    values = np.linalg.eigvalsh(-centring @ d**2 @ centring / 2)
    weight = sum(abs(v) for v in values)
    assert values.min() < -0.1
    assert negative == pytest.approx(-values.min() / weight)
    np.testing.assert_allclose(shares, values[::-1][:2] / weight)
    off, all_of_it = 0.0, 0.0
    for i, j in itertools.combinations(range(4), 2):
        off += (d[i, j] - np.hypot(*(at[i] - at[j]))) ** 2
        all_of_it += d[i, j] ** 2
    assert stress == pytest.approx((off / all_of_it) ** 0.5)


def average_linkage(d):
    """Heights at which every pair joins, by joining the nearest clusters again and again."""
    groups, joined = [[i] for i in range(len(d))], np.zeros_like(d)
    while len(groups) > 1:
        a, b = min(
            itertools.combinations(groups, 2),
            key=lambda pair: np.mean([d[i, j] for i in pair[0] for j in pair[1]]),
        )
        height = np.mean([d[i, j] for i in a for j in b])
        for i, j in itertools.product(a, b):
            joined[i, j] = joined[j, i] = height
        groups = [g for g in groups if g is not a and g is not b] + [a + b]
    return joined


def test_clusters_join_at_the_heights_of_brute_force():
    _, d = points(dims=3)
    tree, cophenetic, order = clusters(d)
    joined = average_linkage(d)
    above = np.triu_indices(len(d), 1)
    np.testing.assert_allclose(np.sort(tree[:, 2]), np.unique(joined[above].round(12)), atol=1e-10)
    assert cophenetic == pytest.approx(np.corrcoef(d[above], joined[above])[0, 1])
    assert sorted(order) == list(range(len(d)))


def test_leaves_are_ordered_so_that_neighbours_are_near():
    d = np.abs(np.subtract.outer(*[np.array([0.0, 5.0, 1.0, 7.5, 2.5])] * 2))
    order = clusters(d)[2].tolist()
    assert order in ([0, 2, 4, 1, 3], [3, 1, 4, 2, 0])


@pytest.mark.parametrize("method", ["average", "ward"])
def test_planted_groups_come_out_side_by_side(method):
    rng = np.random.default_rng(1)
    kind = rng.permutation([0] * 4 + [1] * 5)
    d = np.where(kind[:, None] == kind, 1.0, 3.0) + 0.1 * rng.random((9, 9))
    maps = make_maps((d + d.T) / 2, "grassmann_out", method=method)
    assert np.count_nonzero(np.diff(kind[maps.order])) == 1
    assert (
        len(set(np.sign(maps.pca[kind == 0, 0]))) == len(set(np.sign(maps.mds[kind == 1, 0]))) == 1
    )
    assert maps.cophenetic > 0.9
    assert (maps.variable, maps.filled, maps.method) == ("grassmann_out", 0, method)


def test_missing_pairs_get_the_mean_of_their_tasks_and_are_counted():
    _, d = points(tasks=5)
    known = d.copy()
    known[0, 3] = known[3, 0] = np.nan
    found, filled = complete(known)
    expected = np.mean([d[0, 1], d[0, 2], d[0, 4], d[3, 1], d[3, 2], d[3, 4]])
    assert filled == 1
    assert found[0, 3] == found[3, 0] == pytest.approx(expected)
    np.testing.assert_array_equal(np.delete(found, [0, 3], 0), np.delete(d, [0, 3], 0))

    known = np.full((4, 4), np.nan)
    known[0, 1] = known[1, 0] = 2.0
    found, filled = complete(known)  # tasks 2 and 3 have no distance at all
    assert filled == 5
    np.testing.assert_allclose(found, 2 * (1 - np.eye(4)))


@pytest.mark.parametrize("tasks", [2, 3])
def test_few_or_equal_tasks_have_maps_without_warnings(tasks):
    apart, same = make_maps(1 - np.eye(tasks), "x"), make_maps(np.zeros((tasks, tasks)), "x")
    for maps in (apart, same):
        assert maps.pca.shape == maps.mds.shape == (tasks, 2)
        assert maps.linkage.shape == (tasks - 1, 4)
        assert np.isnan(maps.cophenetic)
        assert np.isfinite([*maps.pca_shares, *maps.mds_shares, maps.stress]).all()
    assert apart.mds_shares[0] > 0
    assert not same.pca.any()


@pytest.mark.parametrize(
    ("distances", "words"),
    [
        (np.zeros((1, 1)), "at least two tasks, there is 1"),
        (np.full((3, 3), np.nan), "no pair of tasks has a value"),
        (np.array([[0, 1.0], [2.0, 0]]), "not symmetric"),
    ],
)
def test_what_cannot_be_mapped_is_said(distances, words):
    with pytest.raises(JaxtaskError, match=f"rec.*{words}"):
        make_maps(distances, "rec")

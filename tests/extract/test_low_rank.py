"""The truncated decomposition against LAPACK in float64, and the numbers that certify it."""

import numpy as np
import pytest

from jaxtask.extract.low_rank import low_rank

SHAPES = [(300, 200), (200, 300), (60, 7), (1, 9), (9, 1)]


def matrix(shape, s, seed=0):
    """Float32 with singular values near `s`, as many as fit."""
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in shape)
    k = min(len(s), *shape)
    return ((U[:, :k] * s[:k]) @ V[:, :k].T).astype(np.float32)


def truncate(M, rank, energy=None, seed=0):
    return low_rank(M.copy(), rank, energy, np.random.default_rng(seed))


def exact(M, found):
    """Singular values of M, and what the factors leave out, in float64."""
    E = M.astype(np.float64) - found.B.astype(np.float64) @ found.A.astype(np.float64)
    return np.linalg.svd(M.astype(np.float64), compute_uv=False), E


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("power", [-2.0, -1.0, -0.5])
def test_near_the_best_for_every_spectrum(shape, power, within):
    M = matrix(shape, np.arange(1, 301) ** power)
    found = truncate(M, 16)
    s, E = exact(M, found)
    k = min(16, *shape)
    assert found.B.shape == (shape[0], k)
    assert found.A.shape == (k, shape[1])
    assert found.B.dtype == found.A.dtype == np.float32
    best = np.sqrt((s[k:] ** 2).sum() + (1e-6 * s[0]) ** 2)
    within("extract: residual over the best possible", np.linalg.norm(E) / best, 1.02)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 1e-12, 3e9])
def test_what_is_said_of_the_remainder_is_true(shape, scale, within):
    M = matrix(shape, scale * np.arange(1, 301) ** -0.5)
    found = truncate(M, 5)
    s, E = exact(M, found)
    size = np.linalg.norm(M.astype(np.float64))
    within("extract: norm", abs(found.norm - size) / size, 1e-6)
    within("extract: residual as measured", abs(found.residual - np.linalg.norm(E)) / size, 1e-6)
    within("extract: kept", abs(found.kept - (1 - (np.linalg.norm(E) / size) ** 2)), 1e-6)
    spectral = np.linalg.norm(E, 2)
    assert spectral <= found.bound * (1 + 1e-6) + 1e-6 * size
    assert found.bound <= found.residual * (1 + 1e-6)
    if min(shape) > 5:
        assert found.bound <= 3 * spectral
        assert found.following <= s[5] * (1 + 1e-5)
        within("extract: next singular value", 1 - found.following / s[5], 0.05)
    else:
        assert found.following == 0


def test_the_bound_holds_in_all_of_many_draws():
    M = matrix((120, 90), np.linspace(1, 0.5, 90))
    ratios = []
    for seed in range(20):
        found = truncate(M, 4, seed=seed)
        ratios.append(found.bound / np.linalg.norm(exact(M, found)[1], 2))
    assert min(ratios) >= 1
    assert max(ratios) < 3


@pytest.mark.parametrize("rank", [1, 3])
def test_rank_that_is_not_there_is_not_invented(rank):
    rng = np.random.default_rng(0)
    M = (rng.standard_normal((400, rank)) @ rng.standard_normal((rank, 300))).astype(np.float32)
    found = truncate(M, 32)
    assert found.B.shape == (400, rank)
    assert found.kept > 1 - 1e-12
    np.testing.assert_allclose(found.B @ found.A, M, atol=1e-5 * np.abs(M).max())


def test_a_single_entry():
    M = np.zeros((50, 70), np.float32)
    M[3, 5] = -7
    found = truncate(M, 4)
    assert found.B.shape == (50, 1)
    assert found.norm == 7
    np.testing.assert_allclose(found.B @ found.A, M, atol=1e-5)


def test_nothing_of_a_zero_matrix():
    assert truncate(np.zeros((8, 9), np.float32), 4) is None


def test_clustered_and_repeated_values():
    M = matrix((150, 150), np.r_[np.ones(10), np.full(140, 0.3)])
    found = truncate(M, 10)
    best, s = np.sqrt(140) * 0.3, np.linalg.norm(exact(M, found)[1])
    assert s <= 1.001 * best


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_as_few_as_hold_the_energy(energy):
    s = np.geomspace(1, 1e-3, 100)
    M = matrix((130, 100), s)
    found = truncate(M, 64, energy)
    needed = int(np.searchsorted(np.cumsum(s**2) / (s**2).sum(), energy)) + 1
    assert found.B.shape[1] == needed
    assert found.kept >= energy


def test_the_rank_limits_the_energy():
    found = truncate(matrix((130, 100), np.ones(100)), 8, 0.9)
    assert found.B.shape[1] == 8
    assert found.kept < 0.2


def test_roots_on_both_sides_and_the_same_for_one_seed():
    M = matrix((130, 100), np.arange(1, 101) ** -1.0)
    one, two, other = truncate(M, 8, seed=1), truncate(M, 8, seed=1), truncate(M, 8, seed=2)
    np.testing.assert_array_equal(one.B, two.B)
    assert not np.array_equal(one.B, other.B)
    for found in (one, other):
        gram = found.B.T.astype(np.float64) @ found.B
        np.testing.assert_allclose(gram, found.A.astype(np.float64) @ found.A.T, atol=1e-5)
        np.testing.assert_allclose(np.diag(gram), np.arange(1, 9) ** -1.0, rtol=1e-3)


@pytest.mark.parametrize("rank", [4, 12])
@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_spaces_within_the_perturbation_bound(rank, noise, within):
    """Wedin's sin Θ theorem: sin of the largest angle ≤ ‖noise‖₂ / σ_rank of what is observed."""
    m, n = 400, 300
    rng = np.random.default_rng(rank)
    U, V = (np.linalg.qr(rng.standard_normal((d, rank)))[0] for d in (m, n))
    N = noise * rng.standard_normal((m, n))
    M = ((U * np.geomspace(5, 2, rank)) @ V.T + N).astype(np.float32)
    found = truncate(M, rank)
    s = np.linalg.svd(M.astype(np.float64), compute_uv=False)
    bound = np.linalg.norm(N, 2) / s[rank - 1]
    assert bound < 0.5  # else the theorem says nothing
    for true, factor in ((U, found.B), (V, found.A.T)):
        Q = np.linalg.qr(factor.astype(np.float64))[0]
        sine = np.linalg.norm(true - Q @ (Q.T @ true), 2)
        within("extract: sine of the largest angle over Wedin's bound", sine / bound, 1)

"""The references themselves: extended precision against mpmath and against known angles."""

import numpy as np
import pytest

import oracles
from makers import MIXED_ANGLES, bases_at_angles, conditioned, orthonormal, pair_at_angles

extended = pytest.mark.skipif(not oracles.EXTENDED, reason="numpy.longdouble is float64 here")


@extended
@pytest.mark.parametrize("kappa", [1.0, 1e6])
@pytest.mark.parametrize(("d", "k", "l"), [(24, 4, 4), (30, 3, 6)])
def test_longdouble_angles_are_those_of_mpmath(d, k, l, kappa):  # noqa: E741
    """80-bit Gram-Schmidt and Jacobi agree with 50 digits, as far as κ·eps of 80 bits allows."""
    rng = np.random.default_rng(1)
    X, Y = pair_at_angles(rng, d, k, l, (1e-9, 1e-4, 0.7, np.pi / 2), kappa, np.float64)
    atol = 1e-15 + kappa * np.finfo(np.longdouble).eps
    np.testing.assert_allclose(oracles.angles(X, Y), oracles.mp_angles(X, Y), rtol=0, atol=atol)


@extended
def test_longdouble_angles_are_those_constructed():
    """Mixed angles from 1e-9 to π/2 in one pair come back as prescribed, at float64's rounding."""
    rng = np.random.default_rng(2)
    X, Y = bases_at_angles(rng, 512, 10, 12, MIXED_ANGLES)
    found = oracles.angles(X, Y)
    np.testing.assert_allclose(found, sorted(MIXED_ANGLES), rtol=0, atol=4e-16)


@extended
@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 7), (9, 4), (4, 9), (64, 64)])
def test_longdouble_singular_values(m, n):
    """One-sided Jacobi returns a prescribed spectrum with a zero and a repeated value in it."""
    rng = np.random.default_rng(3)
    r = min(m, n)
    s = np.sort(np.resize([1.0, 1.0, 1e-6, 0.0, 0.3], r))[::-1]
    M = orthonormal(rng, m, r) * s @ orthonormal(rng, n, r).T
    np.testing.assert_allclose(oracles.singular_values(M).astype(float), s, rtol=0, atol=2e-15)


def test_singular_values_of_mpmath_and_jacobi_agree():
    """On an ill-conditioned matrix, to float64's last bits relative to the largest."""
    import mpmath as mp

    M = conditioned(np.random.default_rng(4), 5, 1e8)
    with mp.workdps(40):
        truth = np.array([float(s) for s in mp.svd_r(mp.matrix(M.tolist()), compute_uv=False)])
    found = oracles.singular_values(M).astype(float)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-15 if not oracles.EXTENDED else 1e-17)


def test_distances_of_known_angles():
    """The definitions at angles whose distances are known in closed form."""
    found = oracles.distances([0.0, np.pi / 3], 2, 2)
    assert found["grassmann"] == pytest.approx(np.pi / 3, abs=1e-15)
    assert found["chordal"] == pytest.approx(np.sqrt(3) / 2, abs=1e-15)
    assert found["binet_cauchy"] == pytest.approx(np.sqrt(3) / 2, abs=1e-15)
    assert found["fubini_study"] == pytest.approx(np.pi / 3, abs=1e-15)
    assert found["martin"] == pytest.approx(np.sqrt(np.log(4)), abs=1e-15)
    assert found["procrustes"] == pytest.approx(1, abs=1e-15)
    assert found["overlap"] == pytest.approx(5 / 8, abs=1e-15)
    assert oracles.distances([0.0], 1, 3)["martin"] == np.inf
    assert oracles.distances([0.0], 1, 3)["containment"] == pytest.approx(np.pi / np.sqrt(2))
    assert oracles.distances([0.0], 3, 1)["containment"] == 0


@pytest.mark.parametrize("d", [3, 200, 5000])
def test_sum_error_holds_in_any_order_and_tells_narrower_numbers(d):
    """One after another, in lanes, in pairs; but not, of moderate d, if numbers have 11 bits."""
    rng = np.random.default_rng(d)
    x, y = rng.standard_normal((2, 64, d)).astype(np.float32)
    sizes = np.linalg.norm(x.astype(float), axis=1) * np.linalg.norm(y.astype(float), axis=1)
    exact = np.einsum("nd,nd->n", x.astype(float), y.astype(float))

    def off(sums):
        return np.max(np.abs(sums - exact) / sizes)

    def in_lanes(products, lanes):
        padded = np.pad(products, [(0, 0), (0, -d % lanes)]).reshape(len(products), -1, lanes)
        return np.cumsum(padded, axis=1, dtype=np.float32)[:, -1].sum(axis=1, dtype=np.float32)

    allowed = oracles.sum_error(d, np.float32)
    for _ in range(3):
        order = rng.permutation(d)
        products = x[:, order] * y[:, order]
        for lanes in (1, 4, 8, 16):
            assert off(in_lanes(products, lanes)) <= allowed
        assert off(np.sum(products, axis=1)) <= allowed
    narrow = [((z.view(np.int32) + 0x1000) & ~0x1FFF).view(np.float32) for z in (x, y)]
    assert d > 1000 or off(in_lanes(np.multiply(*narrow), 8)) > 2 * allowed

"""`gram_blocks`, `singular_values`, and shapes, ranks and errors of `principal_angles`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxtask_kernels import gram_blocks, principal_angles, singular_values
from makers import conditioned, orthonormal, pair_at_angles

jitted_angles = jax.jit(principal_angles)


def wide(dtype):
    return jax.enable_x64(dtype == "float64")


# --------------------------------------------------------------------------- gram_blocks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("S", "T", "d", "k", "l"), [(1, 1, 3, 1, 1), (3, 4, 700, 5, 2)])
def test_gram_blocks(within, S, T, d, k, l, dtype):  # noqa: E741
    """Block (s, t) is X_sᵀ Y_t, as exactly as a sum of d terms can be; and itself with one stack.

    In other orders too: those of X's and Y's rows are the orders of the sums.
    """
    rng = np.random.default_rng(d)
    X = rng.standard_normal((S, d, k)).astype(dtype)
    Y = rng.standard_normal((T, d, l)).astype(dtype)
    other = rng.permutation(d)
    with wide(dtype):
        found = gram_blocks(X, Y), jax.jit(gram_blocks)(X, Y)
        found += (gram_blocks(X[:, other], Y[:, other]),)
        own = gram_blocks(X)
    for G, P, Q in (*((G, X, Y) for G in found), (own, X, X)):
        exact = np.einsum("sdk,tdl->stkl", P.astype(np.longdouble), Q.astype(np.longdouble))
        assert G.shape == exact.shape
        sizes = np.einsum("sk,tl->stkl", np.linalg.norm(P, axis=1), np.linalg.norm(Q, axis=1))
        error = np.max(np.abs(np.asarray(G) - exact) / sizes)
        # Twice: where `longdouble` is float64, what is right is off as well.
        within(f"gram_blocks, {dtype}", error, 2 * oracles.sum_error(d, dtype))


def test_gram_blocks_refuses():
    """Stacks of three axes that share d, or an error that shows both shapes."""
    X = np.zeros((2, 5, 3), np.float32)
    with pytest.raises(ValueError, match=r"must share d, got \(2, 5, 3\) and \(2, 4, 3\)"):
        gram_blocks(X, X[:, :4])
    with pytest.raises(ValueError, match="`X` needs at least 3 axes"):
        gram_blocks(X[0])
    with pytest.raises(ValueError, match="must share d"):
        gram_blocks(X[None])
    with pytest.raises(TypeError, match="`Y` must be real floating point"):
        gram_blocks(X, X.astype(int))


# --------------------------------------------------------------------------- singular_values

MATRICES = {
    "random": lambda rng, m, n: rng.standard_normal((m, n)),
    "orthogonal": lambda rng, m, n: orthonormal(rng, max(m, n), max(m, n))[:m, :n],
    "ill-conditioned": lambda rng, m, n: conditioned(rng, max(m, n), 1e12)[:m, :n],
    "clustered": lambda rng, m, n: np.eye(m, n) + 1e-6 * rng.standard_normal((m, n)),
    "rank one": lambda rng, m, n: np.outer(rng.standard_normal(m), rng.standard_normal(n)),
    "zero": lambda rng, m, n: np.zeros((m, n)),
    "tiny": lambda rng, m, n: 1e-18 * rng.standard_normal((m, n)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", MATRICES)
def test_singular_values(within, kind, dtype):
    """Descending, and within `turns_error` of Jacobi in 80 bits, of the largest one.

    But 2n eps for clusters of equal ones, and 40 at least: where LAPACK computes, its errors there
    go one way (34 eps were measured for n = 16, and 67 for n = 64), and it promises no better.
    """
    rng = np.random.default_rng(1)
    for m, n in ((1, 1), (8, 8), (9, 4), (3, 7), (64, 64)):
        G = MATRICES[kind](rng, m, n).astype(dtype)
        with wide(dtype):
            found = np.asarray(singular_values(G))
        assert found.shape == (min(m, n),)
        assert found.dtype == dtype
        assert (np.diff(found) <= 0).all()
        assert (found >= 0).all()
        truth = oracles.singular_values(G).astype(float)
        bound = oracles.turns_error(min(m, n), dtype) * truth[0]
        if kind in ("clustered", "orthogonal"):
            bound = max(40, 2 * n) * np.finfo(dtype).eps * truth[0]
        within(f"singular_values, {dtype}", np.abs(found - truth).max(), bound)


def test_singular_values_batches():
    """Any leading axes, jit and vmap give the loop's numbers."""
    rng = np.random.default_rng(2)
    G = rng.standard_normal((2, 3, 6, 4)).astype(np.float32)
    loop = np.array([[singular_values(g) for g in row] for row in G])
    double = jax.vmap(jax.vmap(singular_values))
    for way in (singular_values, jax.jit(singular_values), double):
        np.testing.assert_allclose(way(G), loop, atol=2e-6)
    assert singular_values(G.astype(jnp.bfloat16)).dtype == jnp.float32
    with pytest.raises(ValueError, match="`G` needs at least 2 axes"):
        singular_values(G[0, 0, 0])
    with pytest.raises(TypeError, match="`G` must be real floating point"):
        singular_values(G.astype(int))


# --------------------------------------------------------------------------- principal_angles


@pytest.mark.slow
def test_batches_jit_and_vmap():
    """Any leading axes and vmap give the loop's and eager angles; X and Y may change places."""
    rng = np.random.default_rng(3)
    pairs = [pair_at_angles(rng, 50, 4, 3, (1e-4, 0.5, 1.2), 5.0, np.float32) for _ in range(4)]
    X, Y = (np.stack(z).reshape(2, 2, 50, -1) for z in zip(*pairs, strict=True))
    loop = np.array([jitted_angles(x, y) for x, y in pairs]).reshape(2, 2, 3)
    for way in (principal_angles, jax.vmap(jax.vmap(principal_angles))):
        np.testing.assert_allclose(jax.jit(way)(X, Y), loop, atol=2e-6)
    np.testing.assert_allclose(jitted_angles(Y, X), loop, atol=2e-6)
    np.testing.assert_allclose(principal_angles(*pairs[0]), loop[0, 0], atol=2e-6)
    assert (np.diff(loop) >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dependent_columns_leave_right_angles(dtype):
    """The angles of what is there, and π/2 for each that the lower rank leaves over."""
    rng = np.random.default_rng(4)
    X, Y = pair_at_angles(rng, 60, 3, 4, (0.1, 0.6, 1.3), 2.0, dtype)
    truth = oracles.angles(X, Y)
    atol = 2e-6 if dtype == "float32" else 1e-13
    repeated = np.concatenate([X, X[:, :1] - X[:, 1:2], 0 * X[:, :1]], axis=1)
    doubled = np.concatenate([Y, Y[:, :2]], axis=1)
    right = np.pi / 2
    with wide(dtype):
        np.testing.assert_allclose(jitted_angles(repeated, Y), [*truth, right], atol=atol)
        np.testing.assert_allclose(jitted_angles(Y, repeated), [*truth, right], atol=atol)
        both = jitted_angles(repeated, doubled)
        np.testing.assert_allclose(both, [*truth, right, right], atol=atol)
        zero = jitted_angles(0 * X, Y)
        np.testing.assert_allclose(zero, [right] * 3, atol=atol)
        np.testing.assert_allclose(jitted_angles(0 * X, 0 * Y), [right] * 3, atol=atol)
        same = jitted_angles(repeated, repeated)
        np.testing.assert_allclose(same, [0, 0, 0, right, right], atol=atol)


@pytest.mark.parametrize(("d", "k", "l"), [(2, 5, 3), (3, 4, 1), (2, 1, 6), (4, 4, 4), (4, 3, 3)])
def test_spaces_that_must_meet(d, k, l):  # noqa: E741
    """More directions than the space holds: k + l − d angles are 0, missing ranks give π/2."""
    rng = np.random.default_rng(5)
    X, Y = (rng.standard_normal((d, n)).astype(np.float32) for n in (k, l))
    found = np.asarray(jitted_angles(X, Y))
    rank_x, rank_y = min(d, k), min(d, l)
    lower = min(rank_x, rank_y)
    assert found.shape == (min(k, l),)
    np.testing.assert_allclose(found[: rank_x + rank_y - d], 0, atol=2e-6)
    np.testing.assert_allclose(found[lower:], np.pi / 2, atol=1e-6)
    if max(k, l) <= d:
        np.testing.assert_allclose(found, oracles.angles(X, Y), atol=5e-6)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_scale_does_not_matter(scale):
    """Angles of spaces, not of sizes: far from 1 in float32, tiny and huge against each other."""
    rng = np.random.default_rng(6)
    X, Y = pair_at_angles(rng, 80, 4, 4, (1e-3, 0.4, 0.9, 1.5), 10.0, np.float32)
    X = (X * np.float32(scale)).astype(np.float32)
    np.testing.assert_allclose(jitted_angles(X, Y), oracles.angles(X, Y), atol=5e-6)


@pytest.mark.slow
def test_mixed_dtypes_widen():
    """float32 against float64 is computed in float64."""
    rng = np.random.default_rng(7)
    X, Y = pair_at_angles(rng, 40, 3, 3, (1e-6, 0.3, 1.0), 2.0, np.float64)
    X = X.astype(np.float32)
    with jax.enable_x64(True):
        found = principal_angles(X, Y)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, oracles.angles(X, Y), atol=1e-13)


def test_principal_angles_refuses():
    """Shapes that do not match and types that are not real are named in the message."""
    X = np.zeros((5, 3), np.float32)
    with pytest.raises(
        ValueError, match=r"must share all but the last axis, got \(5, 3\) and \(4, 3"
    ):
        principal_angles(X, X[:4])
    with pytest.raises(ValueError, match="must share all but the last axis"):
        principal_angles(X, np.stack([X, X]))
    with pytest.raises(ValueError, match="`Y` needs at least 2 axes"):
        principal_angles(X, X[0])
    with pytest.raises(TypeError, match="`X` must be real floating point, got int32"):
        principal_angles(X.astype(np.int32), X)

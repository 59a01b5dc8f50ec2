"""Derivatives of the kernels: finite differences where they exist, never NaN where they do not."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtask_kernels import (
    factor,
    gram_blocks,
    orthonormal_basis,
    principal_angles,
    singular_values,
)
from makers import bases_at_angles, conditioned, orthonormal, spectrum, update

STEP = 1e-6


@cache
def compiled(function):
    """(function, its `jvp`, the gradient of a weighted sum of it), jitted once for all inputs."""

    def slope(inputs, along):
        return jax.jvp(function, inputs, along)[1]

    def gradient(inputs, weight):
        return jax.grad(lambda x: jnp.sum(weight * function(*x)))(inputs)

    return jax.jit(function), jax.jit(slope), jax.jit(gradient)


def check_against_differences(function, *inputs, step=STEP, atol=1e-7):
    """`jvp` along a random direction, and `grad` of a random projection, equal central differences.

    In float64; step² and eps/step both leave about 1e-9 of the derivative's size.
    """
    rng = np.random.default_rng(0)
    function, slope, gradient = compiled(function)
    with jax.enable_x64(True):
        inputs = tuple(jnp.asarray(x) for x in inputs)
        along = tuple(jnp.asarray(rng.standard_normal(x.shape)) for x in inputs)
        plus = function(*(x + step * v for x, v in zip(inputs, along, strict=True)))
        minus = function(*(x - step * v for x, v in zip(inputs, along, strict=True)))
        expected = (np.asarray(plus) - np.asarray(minus)) / (2 * step)
        size = max(1, np.abs(expected).max())
        np.testing.assert_allclose(slope(inputs, along), expected, atol=atol * size)
        weight = rng.standard_normal(expected.shape)
        gradients = gradient(inputs, jnp.asarray(weight))
        pairs = zip(gradients, along, strict=True)
        total = sum(np.sum(np.asarray(g) * np.asarray(v)) for g, v in pairs)
    np.testing.assert_allclose(total, np.sum(weight * expected), atol=10 * atol * size)


# --------------------------------------------------------------------------- where they exist


@pytest.mark.slow
@pytest.mark.parametrize(("k", "l"), [(1, 1), (3, 3), (4, 2), (2, 4)])
@pytest.mark.parametrize("theta", [(0.3, 0.8, 1.2), (1e-3, 0.02, 1.5)])
def test_angles(k, l, theta):  # noqa: E741
    """Every angle of generic spaces, as a function of any columns that span them."""
    rng = np.random.default_rng(1)
    X, Y = bases_at_angles(rng, 20, k, l, theta)
    X, Y = X @ conditioned(rng, k, 4.0), Y @ conditioned(rng, l, 4.0)
    check_against_differences(principal_angles, X, Y, atol=1e-6, step=1e-7)


@pytest.mark.slow
def test_tiny_angles():
    """Angles of 1e-5 and 3e-5 are told apart from each other and from the rest: steps of 1e-9."""
    rng = np.random.default_rng(2)
    X, Y = bases_at_angles(rng, 20, 3, 3, (1e-5, 3e-5, 0.9))
    check_against_differences(principal_angles, X, Y, step=1e-9, atol=1e-3)


def test_angles_of_orthonormal_inputs():
    """`orthonormal=True` has the derivative along directions in which both stay orthonormal."""
    rng = np.random.default_rng(3)
    X, Y = bases_at_angles(rng, 20, 3, 3, (0.2, 0.7, 1.3))
    D, E = rng.standard_normal(X.shape), rng.standard_normal(Y.shape)
    D, E = D - X @ (X.T @ D), E - Y @ (Y.T @ E)
    with jax.enable_x64(True):
        given = partial(principal_angles, orthonormal=True)
        _, slope = jax.jit(lambda x, v: jax.jvp(given, x, v))((X, Y), (D, E))
        _, truth = jax.jit(lambda x, v: jax.jvp(principal_angles, x, v))((X, Y), (D, E))
    np.testing.assert_allclose(slope, truth, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 5), (6, 3), (3, 6), (2, 4, 4)])
def test_singular_values(shape):
    """Distinct singular values."""
    G = np.random.default_rng(4).standard_normal(shape)
    check_against_differences(singular_values, G)


def test_gram_blocks():
    """A bilinear function of its stacks."""
    rng = np.random.default_rng(5)
    X, Y = rng.standard_normal((2, 7, 3)), rng.standard_normal((3, 7, 2))
    check_against_differences(gram_blocks, X, Y)


@pytest.mark.parametrize("rank", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_projector_of_a_basis(rank):
    """QQᵀ differentiates right, at full rank and along matrices of a lower one.

    (Q itself is differentiated up to a rotation of its columns, as its docstring says.)
    """
    rng = np.random.default_rng(6)
    left, right = rng.standard_normal((15, rank)), rng.standard_normal((rank, 4))

    def projector(left, right):
        Q, _ = orthonormal_basis(left @ right)
        return Q @ Q.T

    check_against_differences(projector, left, right)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [4, 3])
def test_factor(rank):
    """U, s and V of distinct singular values, at full rank and at a lower one; and U S Vᵀ."""
    rng = np.random.default_rng(7)
    U, V = orthonormal(rng, 12, rank), orthonormal(rng, 9, rank)
    B, A = update(rng, U, spectrum(rank), V)
    mix = rng.standard_normal((rank, 4))
    back = np.linalg.pinv(mix)

    def every(B, A):
        found = factor(B @ mix, back @ A)
        # Signs are the decomposition's to choose, once.
        product = found.U * found.s @ found.V.T
        return jnp.concatenate([x.ravel() for x in (found.U, found.s, found.V, product)])

    check_against_differences(every, B, A)


@pytest.mark.slow
def test_vmapped_gradient_is_the_loop():
    """`vmap(grad)` over pairs gives each pair's gradient."""
    rng = np.random.default_rng(8)
    X, Y = rng.standard_normal((2, 3, 10, 2))
    with jax.enable_x64(True):
        gradient = jax.grad(lambda x, y: principal_angles(x, y).sum())
        found = jax.jit(jax.vmap(gradient))(X, Y)
        one = jax.jit(gradient)
        loop = np.stack([one(x, y) for x, y in zip(X, Y, strict=True)])
    np.testing.assert_allclose(found, loop, atol=1e-12)


# --------------------------------------------------------------------------- where they do not

_RNG = np.random.default_rng(9)
_X, _REST = np.split(orthonormal(_RNG, 12, 6), 2, axis=1)
_Y = _RNG.standard_normal((12, 3))
SINGULAR = {
    "identical": (_X, _X),
    "same span": (_X, _X @ conditioned(_RNG, 3, 5.0)),
    "one shared direction": (_X, np.concatenate([_X[:, :1], _REST[:, :2]], axis=1)),
    "orthogonal": (_X, _REST),
    "equal angles": bases_at_angles(_RNG, 12, 3, 3, (0.6,)),
    "repeated column": (_Y[:, [0, 0, 1]], _X),
    "dead column": (_Y * [1, 0, 1], _X),
    "zero": (0 * _Y, _X),
    "both zero": (0 * _Y, 0 * _Y),
    "contained": (_X, _X[:, :2]),
    "more columns than rows": (_Y[:2], _X[:2]),
    "tiny": (1e-20 * _Y, _X),
    "huge": (1e15 * _Y, _X),
}
FUNCTIONS = {
    "principal_angles": principal_angles,
    "principal_angles, orthonormal": lambda X, Y: principal_angles(X, Y, orthonormal=True),
    "orthonormal_basis": lambda X, Y: orthonormal_basis(X)[0],
    "factor": lambda X, Y: (
        jnp.concatenate([x.ravel() for x in factor(X, Y.T)[:3]])
        if X.shape[1] == Y.shape[1]
        else singular_values(X)
    ),
    "singular_values": lambda X, Y: singular_values(X.T @ Y),
    "gram_blocks": lambda X, Y: gram_blocks(X[None], Y[None]),
}


@cache
def derivatives(function):
    """(X, Y) ↦ every value, `jvp` slope and gradient, compiled once a shape."""
    f = FUNCTIONS[function]

    @jax.jit
    def every(X, Y):
        forward = jax.jvp(f, (X, Y), (jnp.ones_like(X), jnp.ones_like(Y)))
        return *forward, *jax.grad(lambda x, y: jnp.sum(f(x, y)), argnums=(0, 1))(X, Y)

    return every


# Two cases have shapes of their own, which cost a compilation each: only where they say something.
ONLY = {
    "contained": {"principal_angles"},
    "more columns than rows": {"principal_angles", "orthonormal_basis", "factor"},
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("case", "function"),
    [(c, f) for c in SINGULAR for f in FUNCTIONS if f in ONLY.get(c, FUNCTIONS)],
)
def test_never_nan(case, function, dtype):
    """Values, `grad` and `jvp` are finite at identical, orthogonal, deficient and zero inputs."""
    with jax.enable_x64(dtype == "float64"):
        X, Y = (jnp.asarray(z, dtype) for z in SINGULAR[case])
        for found in derivatives(function)(X, Y):
            assert np.isfinite(np.asarray(found)).all()


def test_descent_from_identity_is_possible():
    """At angle 0 the derivative does not exist, but just beside it the slope has the size one."""
    X, Y = (
        z.astype(np.float32) for z in bases_at_angles(np.random.default_rng(10), 30, 1, 1, 1e-4)
    )
    gradient = jax.jit(jax.grad(lambda y: principal_angles(X, y)[0]))(Y)
    assert float(jnp.linalg.norm(gradient)) == pytest.approx(1, abs=1e-2)

"""`orthonormal_basis` and `factor`: spans, spectra and ranks against extended precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from jaxtask_kernels import factor, orthonormal_basis
from makers import conditioned, orthonormal, spectrum, update

pytestmark = pytest.mark.usefixtures("compile_fully")

EPS = {"float32": 1.2e-7, "float64": 2.3e-16}


def span_error(Q, X):
    """sin of the largest angle between span(Q) and span(X), from both matrices' bits."""
    return np.sin(oracles.angles(np.asarray(Q), np.asarray(X)).max())


jitted_basis = jax.jit(orthonormal_basis)
jitted_factor = jax.jit(factor)


def wide(dtype):
    return jax.enable_x64(dtype == "float64")


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kappa", [1.0, 1e4])
@pytest.mark.parametrize(("d", "r"), [(16, 1), (64, 8), (2000, 24)])
def test_orthonormal_basis(within, d, r, kappa, dtype):
    """Orthonormal to `slip_error` and, refined, spanning the columns to 8√r eps even at κ = 1e4."""
    rng = np.random.default_rng(d)
    B = (orthonormal(rng, d, r) @ conditioned(rng, r, kappa)).astype(dtype)
    with wide(dtype):
        Q, rank = jitted_basis(B)
    assert int(rank) == r
    assert Q.dtype == dtype
    gram = np.asarray(Q, np.longdouble).T @ np.asarray(Q, np.longdouble)
    slip = np.abs(gram - np.eye(r)).max()
    within(f"orthonormal_basis, {dtype}: QᵀQ", slip, oracles.slip_error(d, r, dtype))
    # Refinement leaves second-order terms (κ eps)² and one rounding of Q.
    bound = 8 * np.sqrt(r) * EPS[dtype] + (kappa * EPS[dtype]) ** 2 * 100
    within(f"orthonormal_basis, {dtype}, κ={kappa:g}: span", span_error(Q, B), bound)


def test_orthonormal_basis_is_ordered_by_singular_value():
    """Columns are B's left singular vectors, up to sign."""
    rng = np.random.default_rng(0)
    U, V = orthonormal(rng, 40, 5), orthonormal(rng, 5, 5)
    with jax.enable_x64(True):
        Q, _ = jitted_basis(U * spectrum(5) @ V)
    np.testing.assert_allclose(np.abs(U.T @ np.asarray(Q)), np.eye(5), atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize(("d_out", "d_in", "r"), [(9, 7, 1), (50, 70, 6), (600, 300, 16)])
def test_factor(within, d_out, d_in, r, scale, dtype):
    """U, s, V rebuild ΔW; s are its singular values; both bases are orthonormal; at every scale."""
    rng = np.random.default_rng(r)
    U, V = orthonormal(rng, d_out, r), orthonormal(rng, d_in, r)
    s = spectrum(r, 100) * scale
    B, A = update(rng, U, s, V, dtype, gauge=30.0)
    with wide(dtype):
        found = jitted_factor(B, A)
    U, s, V = (np.asarray(x, np.float64) for x in found[:3])
    W = B.astype(np.float64) @ A.astype(np.float64)
    truth = np.linalg.svd(W, compute_uv=False)[:r]
    # Products of the factors lose gauge·eps of the spectrum's head; r terms each.
    bound = 40 * np.sqrt(r) * EPS[dtype]
    assert int(found.rank) == r
    within(f"factor, {dtype}: s", np.abs(s - truth).max() / truth[0], bound)
    within(f"factor, {dtype}: U S Vᵀ", np.abs(U * s @ V.T - W).max() / truth[0], bound)
    for name, Q, X in (("U", U, B), ("V", V, A.T)):
        slip = np.abs(Q.T @ Q - np.eye(r)).max()
        allowed = oracles.slip_error(len(Q), r, dtype)
        within(f"factor, {dtype}: orthonormal {name}", slip, allowed)
        within(f"factor, {dtype}: span of {name}", span_error(Q, X), 8 * np.sqrt(r) * EPS[dtype])


DEFICIENT = {
    "repeated column": (lambda B: np.concatenate([B[:, :3], B[:, :2]], axis=1), 3),
    "dead column": (lambda B: B * [1, 0, 1, 0, 1], 3),
    "zero": (lambda B: 0 * B, 0),
    "combination": (lambda B: B[:, :2] @ np.array([[1, 0, 1, 2, -1], [0, 1, 1, 3, 1.0]]), 2),
    "negligible column": (lambda B: B * [1, 1, 1, 1, 1e-18], 4),
    "full": (lambda B: B, 5),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DEFICIENT)
def test_rank_is_reported_and_no_direction_invented(name, dtype):
    """Columns beyond the numerical rank are exactly zero, those before it span the matrix."""
    make, rank = DEFICIENT[name]
    rng = np.random.default_rng(5)
    B = make(rng.standard_normal((30, 5))).astype(dtype)
    A = rng.standard_normal((5, 20)).astype(dtype)
    with wide(dtype):
        Q, found = jitted_basis(B)
        U, s, V, of_product = jitted_factor(B, A)
        Ut, _, Vt, of_transpose = jitted_factor(A.T, B.T)
    assert int(found) == int(of_product) == int(of_transpose) == rank
    for basis in (Q, U, V, Ut, Vt):
        basis = np.asarray(basis)
        assert (basis[:, rank:] == 0).all()
        gram = basis[:, :rank].T @ basis[:, :rank]
        np.testing.assert_allclose(gram, np.eye(rank), atol=20 * EPS[dtype])
    assert (np.asarray(s)[rank:] == 0).all()
    size = max(np.abs(B).max(), 1e-30)
    outside = B - np.asarray(Q) @ (np.asarray(Q).T @ B)
    assert np.abs(outside).max() <= 50 * EPS[dtype] * size
    W = B.astype(float) @ A.astype(float)
    np.testing.assert_allclose(
        np.asarray(U) * np.asarray(s) @ np.asarray(V).T,
        W,
        atol=50 * EPS[dtype] * max(np.abs(W).max(), 1e-30),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "rank"), [(1e-5, 2), (3e-6, 2), (1e-7, 1)])
def test_default_rank_threshold(ratio, rank):
    """The cut is at 4√r·eps of float32 (6.7e-7 for r = 2), on either side of it."""
    rng = np.random.default_rng(6)
    B = (orthonormal(rng, 30, 2) * [1, ratio]).astype(np.float32)
    A = orthonormal(rng, 20, 2).T.astype(np.float32)
    assert int(jitted_basis(B)[1]) == rank
    assert int(jitted_factor(B, A).rank) == rank
    assert int(jitted_basis(B, rtol=1e-4)[1]) == 1
    assert int(jitted_factor(B, A, rtol=1e-4).rank) == 1


def test_rtol_per_matrix():
    """`rtol` may be one number a matrix."""
    rng = np.random.default_rng(7)
    B = np.stack([orthonormal(rng, 30, 2) * [1, 1e-2]] * 2).astype(np.float32)
    A = np.stack([orthonormal(rng, 20, 2).T] * 2).astype(np.float32)
    rtol = jnp.array([1e-3, 1e-1])
    assert jitted_basis(B, rtol=rtol)[1].tolist() == [2, 1]
    assert jitted_factor(B, A, rtol=rtol).rank.tolist() == [2, 1]


@pytest.mark.slow
@pytest.mark.parametrize(("d", "r"), [(2, 16), (1, 3), (5, 6)])
def test_more_columns_than_rows(d, r):
    """A rank-16 LoRA on a head of two outputs: rank d, shapes as documented."""
    rng = np.random.default_rng(8)
    B = rng.standard_normal((d, r)).astype(np.float32)
    A = rng.standard_normal((r, 20)).astype(np.float32)
    Q, rank = jitted_basis(B)
    assert Q.shape == (d, r)
    assert int(rank) == d
    np.testing.assert_allclose(Q @ Q.T, np.eye(d), atol=oracles.slip_error(r, r, "float32"))
    U, s, V, rank = jitted_factor(B, A)
    assert (U.shape, s.shape, V.shape, int(rank)) == ((d, r), (r,), (20, r), d)
    np.testing.assert_allclose(U * s @ V.T, B @ A, atol=1e-5 * float(s[0]))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64"])
def test_jit_is_eager_and_vmap_is_a_loop(dtype):
    """One function under jit, vmap and a batch axis: the same numbers to a few eps."""
    rng = np.random.default_rng(9)
    pairs = [
        update(rng, orthonormal(rng, 30, 4), spectrum(4), orthonormal(rng, 20, 4), dtype)
        for _ in range(3)
    ]
    B, A = (np.stack(x) for x in zip(*pairs, strict=True))
    with wide(dtype):
        eager = [factor(b, a) for b, a in pairs]
        loop = [jnp.stack(x) for x in zip(*eager, strict=True)]
        for way in (factor, jax.vmap(factor)):
            _same_factors(jax.jit(way)(B, A), loop, EPS[dtype])
        bases = jnp.stack([orthonormal_basis(b)[0] for b in B])
        for way in (orthonormal_basis, jax.vmap(orthonormal_basis)):
            Q = jax.jit(way)(B)[0]
            np.testing.assert_allclose(np.abs(np.asarray(Q)), np.abs(bases), atol=100 * EPS[dtype])


def _same_factors(found, expected, eps):
    """Singular triplets are the same up to one sign each."""
    U, s, V, rank = (np.asarray(x) for x in found)
    U1, s1, V1, rank1 = (np.asarray(x) for x in expected)
    np.testing.assert_array_equal(rank, rank1)
    np.testing.assert_allclose(s, s1, atol=20 * eps)
    sign = np.sign(np.sum(U * U1, axis=-2, keepdims=True))
    np.testing.assert_allclose(U * sign, U1, atol=100 * eps)
    np.testing.assert_allclose(V * sign, V1, atol=100 * eps)


@pytest.mark.slow
@pytest.mark.parametrize("narrow", [jnp.float16, jnp.bfloat16])
def test_narrow_inputs_are_widened(narrow):
    """float16 and bfloat16 compute in float32: the result is that of the widened bits."""
    rng = np.random.default_rng(10)
    B = jnp.asarray(rng.standard_normal((30, 3)), narrow)
    Q, rank = orthonormal_basis(B)
    assert Q.dtype == jnp.float32
    assert int(rank) == 3
    assert span_error(Q, np.asarray(B, np.float32)) < 1e-6


def test_wrong_shapes_and_types():
    """Errors name the argument and the shapes found."""
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"`B` needs at least 2 axes, got shape \(4,\)"):
        orthonormal_basis(x[0])
    with pytest.raises(ValueError, match=r"must chain, got \(3, 4\) and \(3, 4\)"):
        factor(x, x)
    with pytest.raises(ValueError, match=r"must chain.*\(2, 3, 4\) and \(4, 3\)"):
        factor(np.stack([x, x]), x.T)
    with pytest.raises(TypeError, match="`A` must be real floating point, got int32"):
        factor(x, np.zeros((4, 3), np.int32))
    with pytest.raises(TypeError, match="`B` must be real floating point, got complex64"):
        orthonormal_basis(x.astype(np.complex64))

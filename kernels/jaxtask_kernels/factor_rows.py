"""Thin SVDs of many stored updates, as the engine keeps them: bases by rows, in the sweep's dtype.

When bases are computed in float64 and kept in float32, Cholesky factors of the r×r Gram matrices
replace the QR of the tall ones (two products of d·r² instead of a loop over Householder vectors):
the loss, κ²·eps₆₄ in orthonormality and κ·eps₆₄ in the space, is below float32's resolution up to
the κ tested for here. A chunk in which any matrix is worse goes through `factor` as a whole.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

from jaxtask_kernels._linalg import einsum, reciprocal, transpose
from jaxtask_kernels.factor import _live, _rank, factor

# Bound on ‖R‖_F·‖R⁻¹‖_F of column-equilibrated factors, itself up to r times κ.
CHOLESKY_KAPPA = 3e4


class FactorRows(NamedTuple):
    """Thin SVDs of n updates ΔW = Uᵀ diag(s) V with bases by rows, zero from each rank on.

    Attributes:
        U: [n, r, d_out], or None if not asked for.
        V: [n, r, d_in], or None if not asked for.
        s: [n, r] singular values, descending.
        rank: [n] int32, the numerical ranks.

    """

    U: Array | None
    V: Array | None
    s: Array
    rank: Array


@partial(jax.jit, static_argnames=("dtype", "chunk", "need_u", "need_v"))
def factor_rows(
    B: Array,
    A: Array,
    scale: Array,
    rtol: Array,
    *,
    dtype: jnp.dtype,
    chunk: int,
    need_u: bool = True,
    need_v: bool = True,
) -> FactorRows:
    """Factor n updates ΔW = scale·B·A.

    Args:
        B: [n, d_out, r] as stored (float32 or float64).
        A: [n, r, d_in]
        scale: [n]; its sign goes into V.
        rtol: [n], relative size under which a singular value counts as zero.
        dtype: Type of the result. The arithmetic is float64 where x64 is enabled, else `dtype`.
        chunk: How many are widened at a time; divides n.
        need_u: Return U.
        need_v: Return V.

    """
    wide = jax.dtypes.canonicalize_dtype(jnp.float64)
    n = B.shape[0]

    def one_chunk(x: tuple[Array, ...]) -> FactorRows:
        B, A, scale, rtol = (a.astype(wide) for a in x)
        if wide == dtype:
            U, s, V, rank = factor(B, A, rtol=rtol)
            U, V = transpose(U), transpose(V)
        else:
            U, s, V, rank = _by_cholesky_or_qr(B, A, rtol)
        V = V * jnp.sign(scale)[:, None, None]
        s = s * jnp.abs(scale)[:, None]
        return FactorRows(
            U.astype(dtype) if need_u else None,
            V.astype(dtype) if need_v else None,
            s.astype(dtype),
            jnp.where(scale == 0, 0, rank),
        )

    split = jax.tree.map(lambda a: a.reshape(n // chunk, chunk, *a.shape[1:]), (B, A, scale, rtol))
    joined = jax.lax.map(one_chunk, split)
    return jax.tree.map(lambda a: a.reshape(n, *a.shape[2:]), joined)


def _by_cholesky_or_qr(B: Array, A: Array, rtol: Array) -> tuple[Array, Array, Array, Array]:
    grams = jnp.stack([einsum("ndk,ndl->nkl", B, B), einsum("nkd,nld->nkl", A, A)])
    (RB, RA), (TB, TA), fine = _cholesky_qr(grams)

    def by_cholesky() -> tuple[Array, Array, Array, Array]:
        X, s, Yt = jnp.linalg.svd(einsum("nik,njk->nij", RB, RA), full_matrices=False)
        live = _live(s, rtol)
        left = einsum("nij,njk->nki", TB, X) * live[..., None]
        right = einsum("nij,nkj->nki", TA, Yt) * live[..., None]
        s = jnp.where(live, s, 0)
        return einsum("nkl,ndl->nkd", left, B), s, einsum("nkl,nld->nkd", right, A), _rank(s)

    def by_qr() -> tuple[Array, Array, Array, Array]:
        U, s, V, rank = factor(B, A, rtol=rtol)
        return transpose(U), s, transpose(V), rank

    return jax.lax.cond(jnp.all(fine), by_cholesky, by_qr)


def _cholesky_qr(K: Array) -> tuple[Array, Array, Array]:
    """From K = XᵀX: R with X = Q R, T with Q = X T, and whether that is accurate enough.

    Zero columns of X (padding of lower ranks) give zero rows in Q and do no harm.
    """
    norms = jnp.sqrt(jnp.diagonal(K, axis1=-2, axis2=-1))
    inverse = reciprocal(norms)
    eye = jnp.eye(K.shape[-1], dtype=K.dtype)
    dead = (norms == 0)[..., None] * eye
    L = jnp.linalg.cholesky(K * inverse[..., None] * inverse[..., None, :] + dead)
    L_inv = solve_triangular(L, jnp.broadcast_to(eye, L.shape), lower=True)
    kappa = jnp.sqrt(jnp.sum(L * L, axis=(-2, -1)) * jnp.sum(L_inv * L_inv, axis=(-2, -1)))
    # A Cholesky factorisation that failed is NaN, and so compares false.
    fine = kappa < CHOLESKY_KAPPA
    return transpose(L) * norms[..., None, :], inverse[..., None] * transpose(L_inv), fine

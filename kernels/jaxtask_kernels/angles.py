"""Principal angles between column spaces, accurate from 0 to π/2.

A cosine in float32 says nothing of angles under 3e-4, and a sine says nothing of angles near π/2.
So both are computed, the cosines from σ(X̂ᵀŶ) and the sines from σ((I − X̂X̂ᵀ)Ŷ) (Björck and Golub,
Math. Comp. 27, 1973), and the angle is their atan2, which is well-conditioned everywhere.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxtask_kernels._linalg import (
    after,
    default_rtol,
    einsum,
    floating,
    reciprocal,
    transpose,
    unit_columns,
    widest,
)
from jaxtask_kernels.factor import _basis_svd, _tolerance, tall
from jaxtask_kernels.singular_values import singular_values


def principal_angles(X: Array, Y: Array, *, orthonormal: bool = False) -> Array:
    """Principal angles between the column spaces of X and Y, in radians, ascending.

    Equivalent to ``scipy.linalg.subspace_angles(X, Y)[::-1]``, batched, differentiable, and correct
    for pairs that have both tiny and large angles. Where columns are linearly dependent, the angles
    that the lower rank leaves over are π/2.

    Derivatives are those of each angle as a function of the two spaces; where one does not exist
    (an angle of 0, or of π/2 between equal dimensions) the value returned is finite.

    Args:
        X: [..., d, k], any columns, float32 or float64.
        Y: [..., d, l], of X's batch shape and dtype.
        orthonormal: The columns are orthonormal (or zero) already; skips orthonormalisation.

    Returns:
        [..., min(k, l)] of the wider of the two dtypes.

    Raises:
        ValueError: The shapes do not match.

    """
    X, Y = floating("X", X, 2), floating("Y", Y, 2)
    if X.shape[:-1] != Y.shape[:-1]:
        raise ValueError(
            f"`X` [..., d, k] and `Y` [..., d, l] must share all but the last axis, "
            f"got {X.shape} and {Y.shape}"
        )
    dtype = jnp.promote_types(X.dtype, Y.dtype)
    X, Y = X.astype(dtype), Y.astype(dtype)
    if X.shape[-1] < Y.shape[-1]:
        X, Y = Y, X
    short = X.shape[-1] - X.shape[-2]
    if short > 0:
        X, Y = tall(X), jnp.pad(Y, [(0, 0)] * (Y.ndim - 2) + [(0, short), (0, 0)])
    return _angles_given(X, Y) if orthonormal else _angles_any(X, Y)


def angles_between(cosines: Array, sines: Array) -> Array:
    """Angles [..., n] from n descending cosines and n ascending sines of the same angles."""
    return jnp.atan2(jnp.maximum(sines, 0), jnp.maximum(cosines, 0))


def residual_sines(R: Array, live: Array) -> Array:
    """Sines of the angles between a basis and another one's space, from what sticks out.

    Args:
        R: [..., l, d] by rows, (Ŷ − X̂ X̂ᵀŶ)ᵀ for orthonormal X̂ and Ŷ.
        live: [..., l] bool, false for the rows of R that pad Ŷ.

    Returns:
        [..., l] ascending, each within a few eps; 1 for every row that is not live.

    """
    dtype = R.dtype
    dead = jnp.where(live, 0, 1).astype(dtype)
    if (wide := widest(dtype)) != dtype:
        # The Gram matrix has twice the digits that a sine needs.
        P = complement_gram(R.astype(wide)) + _diagonal(dead.astype(wide))
        # Its eigenvalues are its singular values, which are quicker to come by.
        return jnp.sqrt(singular_values(P)[..., ::-1]).astype(dtype)
    T = jnp.linalg.qr(transpose(R * live[..., None]), mode="r")
    return singular_values(T * live[..., None, :] + _diagonal(dead))[..., ::-1]


def complement(Gt: Array, live: Array) -> Array:
    """What of live directions lies outside another space, from the Gram blocks alone.

    Right where no angle is small; `complement_gram` is right everywhere.

    Args:
        Gt: [P, l, k] products Gᵀ of an orthonormal basis with that of the other space.
        live: [P, l] bool, the rows that are directions; the others are zero.

    Returns:
        [P, l, l] I − Gᵀ G, where I is 1 for live directions alone.

    """
    eye = live[..., None] * jnp.eye(live.shape[-1], dtype=Gt.dtype)
    return eye - jnp.einsum("plk,pmk->plm", Gt, Gt, precision="highest")


def complement_gram(R: Array) -> Array:
    """R Rᵀ of [..., l, d]: how much of each pair of directions lies outside the other space."""
    return einsum("...kd,...ld->...kl", R, R)


def _diagonal(x: Array) -> Array:
    return x[..., None] * jnp.eye(x.shape[-1], dtype=x.dtype)


# --------------------------------------------------------------------------- value and derivative


@jax.custom_jvp
def _angles_any(X: Array, Y: Array) -> Array:
    Qx, Tx = _orthonormal(X)
    return _angles(Qx, _orthonormal(after(Y, Tx))[0])


@jax.custom_jvp
def _angles_given(X: Array, Y: Array) -> Array:
    return _angles(X, Y)


@_angles_any.defjvp
def _angles_any_jvp(primals: tuple, tangents: tuple) -> tuple:
    X, Y = primals
    Qx, Tx = _orthonormal(X)
    Qy, Ty = _orthonormal(after(Y, Tx))
    angles = _angles(Qx, Qy)
    Nx, Ny, Zx, Zy = _normals(Qx, after(Qy, angles))
    return angles, _slope(Nx, tangents[0], Tx, Zx) + _slope(Ny, tangents[1], Ty, Zy)


@_angles_given.defjvp
def _angles_given_jvp(primals: tuple, tangents: tuple) -> tuple:
    Qx, Qy = primals
    angles = _angles(Qx, Qy)
    Nx, Ny, Zx, Zy = _normals(Qx, after(Qy, angles))
    slope = -einsum("...da,...dk,...ka->...a", Nx, tangents[0], Zx)
    return angles, slope - einsum("...da,...dk,...ka->...a", Ny, tangents[1], Zy)


def _orthonormal(X: Array) -> tuple[Array, Array]:
    Q, _, T = _basis_svd(X, _tolerance(None, X))
    return Q, T


def _angles(Qx: Array, Qy: Array) -> Array:
    """Angles of two bases (zero columns pad), the first at least as wide as the second."""
    G = einsum("...dk,...dl->...kl", Qx, Qy)
    R = transpose(Qy - einsum("...dk,...kl->...dl", Qx, G))
    live = jnp.any(Qy != 0, axis=-2)
    cosines = singular_values(G)
    return angles_between(cosines, residual_sines(after(R, cosines), live))


def _slope(N: Array, dX: Array, T: Array, Z: Array) -> Array:
    """−n_aᵀ (dX T) z_a for every angle a: what moving the space of X does to it."""
    return -einsum("...da,...dk,...ka->...a", N, dX, einsum("...kl,...la->...ka", T, Z))


def _normals(Qx: Array, Qy: Array) -> tuple[Array, Array, Array, Array]:
    """Unit normals n_a ⟂ space and coordinates z_a of the principal vectors, on both sides.

    With p = Q_x z_x and q = Q_y z_y the a-th principal vectors, dθ = −n_xᵀ dp − n_yᵀ dq, where n_x
    is q's direction outside the space of Q_x and n_y is p's outside Q_y. Neither grows as θ → 0.
    """
    G = einsum("...dk,...dl->...kl", Qx, Qy)
    Zx, cosines, Zy_t = jnp.linalg.svd(G, full_matrices=False)
    Zy = transpose(Zy_t)
    # Cosines cannot tell small angles apart: within that cluster the sines choose the vectors.
    small = (cosines > 0.7)[..., None, :]
    R = Qy - einsum("...dk,...kl->...dl", Qx, G)
    RZ = jnp.linalg.qr(einsum("...dl,...la->...da", R, Zy), mode="r")
    keep_large = _diagonal(jnp.where(small[..., 0, :], 0, 3 - cosines))
    _, _, order = jnp.linalg.svd(
        jnp.concatenate([jnp.where(small, RZ, 0), keep_large], axis=-2), full_matrices=False
    )
    Zy = jnp.where(small, einsum("...la,...ba->...lb", Zy, order[..., ::-1, :]), Zy)
    Zx = jnp.where(small, unit_columns(einsum("...kl,...la->...ka", G, Zy)), Zx)
    P = einsum("...dk,...ka->...da", Qx, Zx)
    Q = einsum("...dl,...la->...da", Qy, Zy)
    Nx = _unit_outside(Qx, Q)
    Ny = _unit_outside(Qy, P)
    return Nx, Ny, Zx, Zy


def _unit_outside(Q: Array, V: Array) -> Array:
    """Directions of (I − QQᵀ)V, zero where the rest is rounding only."""
    rest = V - einsum("...dk,...kl->...dl", Q, einsum("...dk,...dl->...kl", Q, V))
    size = jnp.sqrt(jnp.sum(rest * rest, axis=-2, keepdims=True))
    noise = default_rtol(V.dtype, V.shape[-1])
    return rest * reciprocal(jnp.where(size > noise, size, 0))

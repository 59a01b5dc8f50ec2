"""Singular values of many small matrices, one function and the backends behind it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxtask_kernels import bidiagonal, native
from jaxtask_kernels._linalg import floating, widest


def singular_values(G: Array) -> Array:
    """Singular values of each matrix of a batch, descending.

    Equivalent to ``numpy.linalg.svd(G, compute_uv=False)``, and differentiable also where
    values coincide or vanish (the derivative of the k-th is u_kᵀ dG v_k).

    Args:
        G: [..., m, n], float32 or float64 (narrower floats are widened to float32).

    Returns:
        [..., min(m, n)] of the same dtype, with absolute errors of a few eps times the largest
        (LAPACK in float32, where x64 is not enabled: up to 2n eps where values cluster). NaN for
        a matrix that is not finite; denormal numbers count as zero.

    """
    return _values(floating("G", G, 2))


@jax.custom_jvp
def _values(G: Array) -> Array:
    largest = max(G.shape[-2:])
    how: dict[str, Callable[[Array], Array]] = {}
    if largest <= bidiagonal.LARGEST:
        how |= dict.fromkeys(("cuda", "rocm", "tpu"), _elementwise)
    if largest <= native.LARGEST and native.native().library is not None:
        how["cpu"] = _natively
    return jax.lax.platform_dependent(G, **how, default=_by_lapack) if how else _by_lapack(G)


@_values.defjvp
def _values_jvp(primals: tuple, tangents: tuple) -> tuple:
    return jax.jvp(_by_lapack, primals, tangents)


def _natively(G: Array) -> Array:
    return native.singular_values(_square(G))[..., : min(G.shape[-2:])]


def _elementwise(G: Array) -> Array:
    return bidiagonal.singular_values(_square(G))[..., : min(G.shape[-2:])]


def _square(G: Array) -> Array:
    """G with zero rows or columns appended, which adds singular values that are zero."""
    m, n = G.shape[-2:]
    return jnp.pad(G, [(0, 0)] * (G.ndim - 2) + [(0, max(n - m, 0)), (0, max(m - n, 0))])


def _by_lapack(G: Array) -> Array:
    # In float64 where it is enabled, which costs LAPACK no more: in float32 it is off by 70 eps
    # where values cluster.
    return jnp.linalg.svd(G.astype(widest(G.dtype)), compute_uv=False).astype(G.dtype)

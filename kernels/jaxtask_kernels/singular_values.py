"""Singular values of many small matrices, one function and the backends behind it."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxtask_kernels import native
from jaxtask_kernels._linalg import floating, widest


def singular_values(G: Array) -> Array:
    """Singular values of each matrix of a batch, descending.

    Equivalent to ``numpy.linalg.svd(G, compute_uv=False)``, and differentiable also where
    values coincide or vanish (the derivative of the k-th is u_kᵀ dG v_k).

    Args:
        G: [..., m, n], float32 or float64 (narrower floats are widened to float32).

    Returns:
        [..., min(m, n)] of the same dtype, with absolute errors of a few eps times the largest
        (LAPACK in float32, where x64 is not enabled: up to 2n eps where values cluster).

    """
    return _values(floating("G", G, 2))


@jax.custom_jvp
def _values(G: Array) -> Array:
    if max(G.shape[-2:]) > native.LARGEST or native.native().library is None:
        return _by_lapack(G)
    return jax.lax.platform_dependent(G, cpu=_natively, default=_by_lapack)


@_values.defjvp
def _values_jvp(primals: tuple, tangents: tuple) -> tuple:
    return jax.jvp(_by_lapack, primals, tangents)


def _natively(G: Array) -> Array:
    m, n = G.shape[-2:]
    square = [(0, 0)] * (G.ndim - 2) + [(0, max(n - m, 0)), (0, max(m - n, 0))]
    return native.singular_values(jnp.pad(G, square))[..., : min(m, n)]


def _by_lapack(G: Array) -> Array:
    # In float64 where it is enabled, which costs LAPACK no more: in float32 it is off by 70 eps
    # where values cluster.
    return jnp.linalg.svd(G.astype(widest(G.dtype)), compute_uv=False).astype(G.dtype)

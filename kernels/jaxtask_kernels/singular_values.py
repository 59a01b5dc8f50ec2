"""Singular values of many small matrices, behind one function."""

import jax.numpy as jnp
from jax import Array

from jaxtask_kernels._linalg import floating


def singular_values(G: Array) -> Array:
    """Singular values of each matrix of a batch, descending.

    Equivalent to ``numpy.linalg.svd(G, compute_uv=False)``, and differentiable also where
    values coincide or vanish (the derivative of the k-th is u_kᵀ dG v_k).

    Args:
        G: [..., m, n], float32 or float64 (narrower floats are widened to float32).

    Returns:
        [..., min(m, n)] of the same dtype, with absolute errors of a few eps times the largest
        (LAPACK in float32: up to 2n eps where values cluster).

    """
    G = floating("G", G, 2)
    return jnp.linalg.svd(G, compute_uv=False)

"""Singular values of many small matrices, one function and the backends behind it."""

import jax
from jax import Array

from jaxtask_kernels._linalg import floating
from jaxtask_kernels.backends import PLATFORMS, backend_for, platform_svd


def singular_values(G: Array) -> Array:
    """Singular values of each matrix of a batch, descending.

    Equivalent to ``numpy.linalg.svd(G, compute_uv=False)``, and differentiable also where
    values coincide or vanish (the derivative of the k-th is u_kᵀ dG v_k). `backend_for` decides
    how they are computed, for each platform that the program is compiled for.

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
    n = max(G.shape[-2:])
    how = {platform: backend_for(n, platform).singular_values for platform in PLATFORMS}
    special = {platform: solve for platform, solve in how.items() if solve is not platform_svd}
    if not special:
        return platform_svd(G)
    return jax.lax.platform_dependent(G, **special, default=platform_svd)


@_values.defjvp
def _values_jvp(primals: tuple, tangents: tuple) -> tuple:
    return jax.jvp(platform_svd, primals, tangents)

"""Distances between spaces, each a line over the principal angles θ of one side.

Unless said otherwise the formulas are those of Ye and Lim, "Schubert varieties and distances
between subspaces of different dimensions" (SIAM J. Matrix Anal. 37, 2016), table 2; see
`Side.angles` for what they make of unequal dimensions.
"""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jax import Array

from jaxtask.metrics.metric import Metric
from jaxtask.metrics.pair import Side


def grassmann(side: Side) -> Array:
    """Σ θ_i: the distance of the talk (Fosse, "Towards similarity and inclusion metrics")."""
    return jnp.sum(side.angles)


def geodesic(side: Side) -> Array:
    """(Σ θ_i²)^½: arc length on the Grassmannian."""
    return _norm(side.angles)


def chordal(side: Side) -> Array:
    """(Σ sin²θ_i)^½: Frobenius distance of the projectors over √2."""
    return _norm(jnp.sin(side.angles))


def projection(side: Side) -> Array:
    """Sin θ_max: 2-norm distance of the projectors."""
    return jnp.sin(jnp.max(side.angles))


def asimov(side: Side) -> Array:
    """θ_max."""
    return jnp.max(side.angles)


def binet_cauchy(side: Side) -> Array:
    """(1 − Π cos²θ_i)^½."""
    return jnp.sqrt(-jnp.expm1(2 * _log_cosines(side)))


def fubini_study(side: Side) -> Array:
    """Arccos Π cos θ_i."""
    log_p = _log_cosines(side)
    p = jnp.exp(log_p)
    return jnp.atan2(jnp.sqrt(-jnp.expm1(log_p) * (1 + p)), p)


def martin(side: Side) -> Array:
    """(−ln Π cos²θ_i)^½: infinite as soon as one angle is π/2."""
    return jnp.sqrt(jnp.abs(2 * _log_cosines(side)))


def procrustes(side: Side) -> Array:
    """2 (Σ sin²(θ_i/2))^½: least Frobenius distance between two bases."""
    return 2 * _norm(jnp.sin(side.angles / 2))


def spectral(side: Side) -> Array:
    """2 sin(θ_max/2): least 2-norm distance between two bases."""
    return 2 * jnp.sin(jnp.max(side.angles) / 2)


def overlap(side: Side) -> Array:
    """‖gram‖_F² / min(k, l) = mean cos²θ over the principal angles, in [0, 1]; NaN at rank 0.

    φ of Hu et al., "LoRA" (2021), section 7.2, at full rank.
    """
    return jnp.sum(side.gram**2) / jnp.where(side.shared > 0, side.shared, jnp.nan)


def containment(side: Side) -> Array:
    """How far the target's space is from lying inside the source's; 0 exactly when it does.

    (Σ θ²)^½ over the principal angles and max(l − k, 0) angles of π/2: the asymmetric geodesic
    distance of Mandolesi (arXiv 2310.17865).
    """
    missing = jnp.maximum(side.rank_target - side.rank_source, 0)
    return jnp.sqrt(jnp.sum(side.principal**2) + missing * (jnp.pi / 2) ** 2)


def _norm(x: Array) -> Array:
    return jnp.sqrt(jnp.sum(x * x))


def _log_cosines(side: Side) -> Array:
    """Σ ln cos θ, without cancellation near 0 and exactly −∞ at π/2."""
    theta = side.angles
    sine2 = jnp.sin(theta) ** 2
    # π/2 rounds up in float32, where its cosine is negative, and down in float64.
    cosine = jnp.where(theta >= jnp.asarray(jnp.pi / 2, theta.dtype), 0, jnp.cos(theta))
    return jnp.sum(jnp.where(sine2 < 0.5, jnp.log1p(-sine2) / 2, jnp.log(cosine)))


def _distance(
    function: Callable[[Side], Array],
    summary: str,
    *,
    symmetric: bool = True,
    angles: bool = True,
    pooled: bool = True,
    similar: Literal["large", "small"] = "small",
) -> Metric:
    return Metric(
        function.__name__,
        function,
        sided=True,
        symmetric=symmetric,
        angles=angles,
        pooled=pooled,
        summary=summary,
        similar=similar,
        null="spaces" if pooled else None,
    )


METRICS = (
    _distance(grassmann, "sum of principal angles"),
    _distance(geodesic, "root of the sum of squared angles"),
    _distance(chordal, "root of the sum of squared sines"),
    _distance(projection, "sine of the largest angle"),
    _distance(asimov, "largest angle"),
    _distance(binet_cauchy, "root of 1 − Π cos²θ"),
    _distance(fubini_study, "arccos Π cos θ"),
    _distance(martin, "root of −ln Π cos²θ", pooled=False),
    _distance(procrustes, "distance between the closest bases, Frobenius"),
    _distance(spectral, "distance between the closest bases, 2-norm"),
    _distance(overlap, "mean squared cosine", angles=False, similar="large"),
    _distance(containment, "angles by which the target leaves the source's space", symmetric=False),
)

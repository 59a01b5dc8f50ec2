"""Task vectors as vectors: inner product, cosine and Euclidean distance of the updates themselves.

All from the Gram identity ⟨ΔW₁, ΔW₂⟩ = tr(S₁ G S₂ Hᵀ), never from the flattened factors, which
depend on how ΔW was factored.
"""

import jax.numpy as jnp
from jax import Array

from jaxtask.metrics.energy import outside_energy
from jaxtask.metrics.metric import Metric
from jaxtask.metrics.pair import Pair


def inner(pair: Pair) -> Array:
    """⟨ΔW₁, ΔW₂⟩_F."""
    return jnp.sum(pair.s_source * pair.diagonal)


def cosine(pair: Pair) -> Array:
    """⟨ΔW₁, ΔW₂⟩ / (‖ΔW₁‖ ‖ΔW₂‖); NaN if either is zero."""
    # Scaled first: products of norms under- and overflow before the quotient does.
    unit = pair._replace(s_source=_unit(pair.s_source), s_target=_unit(pair.s_target))
    return inner(unit)


def l2(pair: Pair) -> Array:
    """‖ΔW₁ − ΔW₂‖_F.

    As ‖U₁ᵀΔW₂V₁ − S₁‖² and what of ΔW₂ lies outside the source's spaces, since the difference of
    squared norms would lose everything for near-identical updates.
    """
    size = jnp.maximum(jnp.max(pair.s_source), jnp.max(pair.s_target))
    unit = jnp.where(size > 0, size, 1)
    pair = pair._replace(s_source=pair.s_source / unit, s_target=pair.s_target / unit)
    inside = jnp.sum((pair.core - jnp.diag(pair.s_source)) ** 2)
    return unit * jnp.sqrt(inside + outside_energy(pair))


def _unit(s: Array) -> Array:
    s = s / jnp.max(s)
    return s / jnp.sqrt(jnp.sum(s * s))


METRICS = (
    Metric(
        "inner",
        inner,
        symmetric=True,
        angles=False,
        summary="⟨ΔW₁, ΔW₂⟩",
        similar="large",
        null="inner",
    ),
    Metric(
        "cosine",
        cosine,
        symmetric=True,
        angles=False,
        summary="cosine of the updates",
        similar="large",
        identical=1.0,
        null="cosine",
    ),
    Metric(
        "l2",
        l2,
        symmetric=True,
        angles=False,
        outside=True,
        summary="‖ΔW₁ − ΔW₂‖",
        similar="small",
        identical=0.0,
        null="l2",
    ),
)

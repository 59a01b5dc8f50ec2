"""How much of the target's energy ‖ΔW₂‖² the source's spaces catch, and how much they miss.

All are shares in [0, 1], asymmetric, and NaN if either update is zero.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from jaxtask.metrics.metric import Metric, Null
from jaxtask.metrics.pair import Pair, Side


def outside_energy(pair: Pair) -> Array:
    """‖ΔW₂‖² − ‖U₁ᵀ ΔW₂ V₁‖² as a sum of what lies outside, free of cancellation.

    = tr(P S₂²) + ‖G S₂ Q^½‖², where P and Q are what of the target's bases lies outside the
    source's output and input space.
    """
    out, inp = pair.both
    assert out.outside is not None
    assert inp.outside is not None
    s = pair.s_target
    caught = jnp.einsum("kl,km->lm", out.gram, out.gram, precision="highest")
    return jnp.sum(jnp.diag(out.outside) * s**2) + jnp.einsum(
        "lm,l,m,lm->", caught, s, s, inp.outside, precision="highest"
    )


def residual_energy(pair: Pair, projected: Array) -> Array:
    """‖U₁ diag(projected) V₁ᵀ − ΔW₂‖²."""
    return jnp.sum((pair.core - jnp.diag(projected)) ** 2) + outside_energy(pair)


def unit_target(pair: Pair) -> Pair:
    """The pair with ‖ΔW₂‖ = 1; NaN if either update is zero."""
    s = pair.s_target / jnp.max(pair.s_target)
    s = s / jnp.sqrt(jnp.sum(s * s))
    return pair._replace(s_target=jnp.where(pair.rank_source > 0, s, jnp.nan))


def energy_diag(pair: Pair) -> Array:
    """Σ_k (u_kᵀ ΔW₂ v_k)² / ‖ΔW₂‖²: by the source's singular pairs."""
    return jnp.sum(unit_target(pair).diagonal ** 2)


def energy_core(pair: Pair) -> Array:
    """‖U₁ᵀ ΔW₂ V₁‖² / ‖ΔW₂‖²: by the source's two spaces together."""
    return jnp.sum(unit_target(pair).core ** 2)


def energy_out(pair: Pair) -> Array:
    """‖U₁ᵀ ΔW₂‖² / ‖ΔW₂‖²: by the source's output space."""
    assert pair.out is not None
    return _energy_side(pair, pair.out)


def energy_in(pair: Pair) -> Array:
    """‖ΔW₂ V₁‖² / ‖ΔW₂‖²: by the source's input space."""
    assert pair.inp is not None
    return _energy_side(pair, pair.inp)


def _energy_side(pair: Pair, side: Side) -> Array:
    return jnp.sum((side.gram * unit_target(pair).s_target) ** 2)


def _metric(function: Callable[[Pair], Array], summary: str, null: Null = "energy") -> Metric:
    return Metric(
        function.__name__,
        function,
        angles=False,
        summary=summary,
        similar="large",
        identical=1.0,
        null=null,
    )


METRICS = (
    _metric(energy_diag, "share captured by the source's singular pairs", "target"),
    _metric(energy_core, "share captured by the source's two spaces"),
    _metric(energy_out, "share captured by the source's output space"),
    _metric(energy_in, "share captured by the source's input space"),
)

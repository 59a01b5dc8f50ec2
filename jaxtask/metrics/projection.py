"""Spectral projection of the target on the source (Fosse's talk, see `spaces.grassmann`).

With ΔW₁ = U S₁ Vᵀ, S₂ minimises ‖U S Vᵀ − ΔW₂‖_F over diagonal S: S₂[k] = u_kᵀ ΔW₂ v_k, which may
be negative, or max(0, ·) of it over nonnegative S. Only the source's k live directions count.
"""

import math
from dataclasses import replace
from typing import Literal

import jax.numpy as jnp
from jax import Array

from jaxtask.errors import JaxtaskError
from jaxtask.metrics.energy import residual_energy, unit_target
from jaxtask.metrics.metric import Metric, renamed
from jaxtask.metrics.pair import Pair

Projection = Literal["diagonal", "nonnegative"]
Sign = Literal["keep", "abs", "clip"]
Normalize = Literal["none", "sum", "max", "l2"]

_PROJECTIONS = ("diagonal", "nonnegative")
_SIGNS = ("keep", "abs", "clip")
_NORMS = ("none", "sum", "max", "l2")


def projected_spectrum(
    pair: Pair, projection: Projection = "diagonal", sign: Sign = "keep"
) -> Array:
    """The spectral projection S₂ of the target on the source.

    Args:
        pair: A pair with both sides.
        projection: "diagonal", or "nonnegative" for the best S₂ without negative entries.
        sign: What to do with a negative S₂[k]: "keep", "abs" or "clip" at 0.

    Returns:
        [r] S₂[k] = u_kᵀ ΔW₂ v_k in the order of the source's singular values; zero from the
        source's rank on.

    """
    s = pair.diagonal
    if projection == "nonnegative" or sign == "clip":
        s = jnp.maximum(s, 0)
    return jnp.abs(s) if sign == "abs" else s


def _spectral_lp(
    pair: Pair, p: float, normalize: Normalize, sign: Sign, projection: Projection
) -> Array:
    s1 = _normalised(pair.s_source, normalize)
    s2 = _normalised(projected_spectrum(pair, projection, sign), normalize)
    gap = jnp.abs(s1 - s2)
    largest = jnp.max(gap)
    if p == math.inf:
        return largest
    unit = jnp.where(largest > 0, largest, 1)
    return unit * jnp.sum((gap / unit) ** p) ** (1 / p)


def _rec(pair: Pair, sign: Sign, projection: Projection) -> Array:
    s1 = _normalised(pair.s_source, "sum")
    s2 = _normalised(projected_spectrum(pair, projection, sign), "sum")
    return jnp.sum(jnp.minimum(s1, s2))


def _entropy_source(pair: Pair, base: float | None) -> Array:
    return _entropy(_of_both(pair, pair.s_source), pair.rank_source, base)


def _entropy_projected(pair: Pair, base: float | None, sign: Sign, projection: Projection) -> Array:
    s2 = projected_spectrum(pair, projection, sign)
    return _entropy(_of_both(pair, s2), pair.rank_source, base)


def negative_mass(pair: Pair) -> Array:
    """Σ |S₂ where it is negative| / Σ |S₂|."""
    s2 = _of_both(pair, projected_spectrum(pair))
    return jnp.sum(jnp.maximum(-s2, 0)) / _nonzero(jnp.sum(jnp.abs(s2)))


def _residual(pair: Pair, projection: Projection) -> Array:
    unit = unit_target(pair)
    return jnp.sqrt(residual_energy(unit, projected_spectrum(unit, projection)))


def _of_both(pair: Pair, s: Array) -> Array:
    return jnp.where(pair.rank_target > 0, s, jnp.nan)


def _nonzero(x: Array) -> Array:
    return jnp.where(x == 0, jnp.nan, x)


def _normalised(s: Array, how: Normalize) -> Array:
    if how == "none":
        return s
    s = s / _nonzero(jnp.max(jnp.abs(s)))
    if how == "sum":
        return s / _nonzero(jnp.sum(jnp.abs(s)))
    return s if how == "max" else s / jnp.sqrt(jnp.sum(s * s))


def _entropy(s: Array, rank: Array, base: float | None) -> Array:
    """Shannon entropy of s/Σs, over ln k by default; 0 at k = 1, NaN for a zero spectrum."""
    p = _normalised(s, "sum")
    nats = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), p * 0))
    if base is not None:
        return nats / math.log(base)
    return jnp.where(rank > 1, nats / jnp.log(jnp.maximum(rank, 2).astype(nats.dtype)), nats * 0)


# --------------------------------------------------------------------------- what users build

_LP = Metric(
    "spectral_lp", _spectral_lp, angles=False, similar="small", identical=0.0, null="source"
)
_REC = Metric(
    "rec",
    _rec,
    angles=False,
    summary="overlap of the normalised spectra",
    similar="large",
    identical=1.0,
    null="source",
    constant_at_rank_1=True,
)
_SOURCE = Metric("entropy_source", _entropy_source, angles=False, summary="entropy of S₁ / ln k")
_PROJECTED = Metric(
    "entropy_projected",
    _entropy_projected,
    angles=False,
    summary="entropy of |S₂| / ln k",
    null="target",
    constant_at_rank_1=True,
)
_RESIDUAL = Metric(
    "residual",
    _residual,
    angles=False,
    outside=True,
    summary="‖U S₂ Vᵀ − ΔW₂‖ / ‖ΔW₂‖",
    similar="small",
    identical=0.0,
    null="target",
)


def spectral_lp(
    p: float = 1,
    *,
    normalize: Normalize = "none",
    sign: Sign = "keep",
    projection: Projection = "diagonal",
    name: str | None = None,
) -> Metric:
    """L_p(S₁, S₂) = (Σ_k |S₁[k] − S₂[k]|^p)^{1/p}.

    Args:
        p: At least 1; `math.inf` for the maximum.
        normalize: Divide each spectrum by its "sum", "max" or "l2" norm first; NaN where that
            is zero.
        sign: What to do with a negative S₂[k]: "keep", "abs" or "clip" at 0.
        projection: "diagonal" or "nonnegative".
        name: Name in the result; made of the arguments by default, e.g. `spectral_l3_sum_clip`.

    Raises:
        JaxtaskError: An argument is none of these.

    """
    if not p >= 1:
        raise JaxtaskError(f"spectral_lp: p must be at least 1, got {p}")
    _check("spectral_lp", "normalize", normalize, _NORMS)
    _check("spectral_lp", "sign", sign, _SIGNS)
    _check("spectral_lp", "projection", projection, _PROJECTIONS)
    if name is None:
        stem = f"spectral_l{p:g}".replace(".", "_")
        name = _named(stem, (normalize, "none"), (sign, "keep"), (projection, "diagonal"))
    made = renamed(_LP, name, float(p), normalize, sign, projection)
    return _summarised(made, f"‖S₁ − S₂‖ in L_{p:g}")


def rec(
    *, sign: Sign = "abs", projection: Projection = "diagonal", name: str | None = None
) -> Metric:
    """REC(S₁, S₂) = Σ_k min(S₁[k]/ΣS₁, |S₂[k]|/Σ|S₂|), in [0, 1]; NaN if a spectrum is zero.

    The talk calls it the Bayesian error rate between the spectra; it is twice the Bayes error of
    two equally likely classes.

    Args:
        sign: What to do with a negative S₂[k]: "abs" or "clip" at 0.
        projection: "diagonal" or "nonnegative".
        name: Name in the result; made of the arguments by default.

    Raises:
        JaxtaskError: An argument is none of these.

    """
    _check("rec", "sign", sign, _SIGNS[1:])
    _check("rec", "projection", projection, _PROJECTIONS)
    name = name or _named("rec", (sign, "abs"), (projection, "diagonal"))
    return renamed(_REC, name, sign, projection)


def entropy_source(*, base: float | None = None, name: str | None = None) -> Metric:
    """Shannon entropy of S₁/ΣS₁, NaN for a zero update.

    Args:
        base: Base of the logarithm, 2 for bits; by default the entropy is divided by ln k of the
            source, and so in [0, 1].
        name: Name in the result; made of the arguments by default.

    Raises:
        JaxtaskError: `base` is not positive, or is 1.

    """
    return renamed(_SOURCE, name or _named("entropy_source", *_base(base)), base)


def entropy_projected(
    *,
    base: float | None = None,
    sign: Sign = "abs",
    projection: Projection = "diagonal",
    name: str | None = None,
) -> Metric:
    """Shannon entropy of |S₂|/Σ|S₂|, NaN if S₂ or an update is zero.

    Args:
        base: Base of the logarithm, 2 for bits; by default the entropy is divided by ln k of the
            source, and so in [0, 1].
        sign: What to do with a negative S₂[k]: "abs" or "clip" at 0.
        projection: "diagonal" or "nonnegative".
        name: Name in the result; made of the arguments by default.

    Raises:
        JaxtaskError: An argument is none of these.

    """
    _check("entropy_projected", "sign", sign, _SIGNS[1:])
    _check("entropy_projected", "projection", projection, _PROJECTIONS)
    tail = (*_base(base), (sign, "abs"), (projection, "diagonal"))
    return renamed(_PROJECTED, name or _named("entropy_projected", *tail), base, sign, projection)


def residual(*, projection: Projection = "diagonal", name: str | None = None) -> Metric:
    """‖U S₂ Vᵀ − ΔW₂‖_F / ‖ΔW₂‖_F: the share of the target that the projection misses.

    Args:
        projection: "diagonal" or "nonnegative".
        name: Name in the result; made of the arguments by default.

    Raises:
        JaxtaskError: `projection` is none of these.

    """
    _check("residual", "projection", projection, _PROJECTIONS)
    return renamed(_RESIDUAL, name or _named("residual", (projection, "diagonal")), projection)


def _check(where: str, argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise JaxtaskError(
            f"{where}: {argument} must be one of {', '.join(allowed)}; got {value!r}"
        )


def _named(stem: str, *parts: tuple[str, str]) -> str:
    return "_".join([stem, *(value for value, default in parts if value != default)])


def _base(base: float | None) -> tuple[tuple[str, str], ...]:
    if base is None:
        return ()
    if not (base > 0 and base != 1):
        raise JaxtaskError(f"entropy: base must be positive and not 1, got {base}")
    return ((f"base{base:g}".replace(".", "_"), ""),)


def _summarised(metric: Metric, summary: str) -> Metric:
    return replace(metric, summary=summary)


METRICS = (
    spectral_lp(1),
    spectral_lp(2),
    rec(),
    entropy_source(),
    entropy_projected(),
    Metric(
        "negative_mass",
        negative_mass,
        angles=False,
        summary="share of |S₂| that is negative",
        similar="small",
        identical=0.0,
        null="target",
    ),
    residual(),
)

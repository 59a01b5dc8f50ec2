"""The null distribution of metrics for a random output space of the target, all else held fixed.

Adapters that share the same initial A keep their input space, whatever their tasks: only their
output spaces can tell tasks apart. So the input side of the pair, H, and both spectra are kept, and
the output side's block G = U₁ᵀU₂ is drawn.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxtask.metrics import Metric, Pair, Side
from jaxtask_kernels.angles import complement

_Moments = tuple[Array, Array]

DRAWS = 64
"""A standard deviation is then right to 9%, a mean to an eighth of it."""


def null_moments(pairs: Pair, metrics: Sequence[Metric], width: int) -> dict[str, Array]:
    """Mean and standard deviation of metrics over random output spaces of the targets.

    G is drawn as Gaussian numbers of variance 1/d_out, which is what it tends to for d_out ≫ r,
    with the right energy at any d_out. Each pair has its own draws, decided by the spectra alone:
    so they depend neither on how the work is cut nor on who else is compared, and differ between
    modules.

    Args:
        pairs: P pairs, all arrays with a leading axis of P.
        metrics: Metrics of both sides, without angles.
        width: d_out.

    Returns:
        [P] for ``<name>_chance`` and ``<name>_chance_sd`` of every metric.

    """
    assert pairs.out is not None
    gram = pairs.out.gram
    k, l = pairs.rank_source, pairs.rank_target  # noqa: E741
    index = jnp.arange(gram.shape[-1])
    rows, columns = index < k[:, None], index < l[:, None]
    live = rows[:, :, None] & columns[:, None, :]
    keys = jax.vmap(_key)(pairs.s_source[:, 0], pairs.s_target[:, 0])

    def draw(n: Array, key: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, n), gram.shape[1:], gram.dtype)

    def step(n: Array, moments: dict[str, _Moments]) -> dict[str, _Moments]:
        G = jnp.where(live, jax.vmap(draw, (None, 0))(n, keys), 0) / jnp.sqrt(width)
        outside = complement(jnp.swapaxes(G, 1, 2), columns)
        drawn = pairs._replace(out=Side(G, jnp.full_like(G[:, 0], jnp.nan), k, l, outside))
        found: dict[str, _Moments] = {}
        for metric in metrics:
            x = jax.vmap(metric)(drawn)
            mean, squares = moments[metric.name]  # Welford's
            new = mean + (x - mean) / (n + 1)
            found[metric.name] = new, squares + (x - mean) * (x - new)
        return found

    zero = jnp.zeros(len(gram), gram.dtype)
    moments = jax.lax.fori_loop(0, DRAWS, step, {m.name: (zero, zero) for m in metrics})
    values = {}
    for name, (mean, squares) in moments.items():
        values[f"{name}_chance"] = mean
        values[f"{name}_chance_sd"] = jnp.sqrt(squares / (DRAWS - 1))
    return values


def _key(source: Array, target: Array) -> Array:
    """From the largest singular values of the two."""
    key = jax.random.key(0)
    for value in (source, target):
        bits = jax.lax.bitcast_convert_type(value.astype(jnp.float32), jnp.uint32)
        key = jax.random.fold_in(key, bits)
    return key

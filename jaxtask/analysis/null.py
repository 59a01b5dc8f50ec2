"""What every metric says of random updates: draws of the package's own metrics, kept in memory.

Random spaces are uniform (Haar). Nothing of the size of the ambient space is drawn where that can
be avoided: of two random orthonormal bases of Rⁿ only the block G = U₁ᵀU₂ [k, l] matters. With one
basis fixed to the first k axes, G = A R⁻¹, where [A; B] is a standard Gaussian n × l matrix and
RᵀR = AᵀA + BᵀB; of B only BᵀB is needed, a Wishart matrix with n − k degrees of freedom, drawn by
its triangular factor (Bartlett 1933).

A random target of rank l has a flat spectrum: ΔW₂ = ‖ΔW₂‖/√l · U₂V₂ᵀ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np

_SEED = 20260101
_MOST_DRAWS, _FEWEST_DRAWS = 10_000, 1_000
# Entries of r×r×r work a null may take: 10⁴ draws up to r = 23.
_WORK = 2**27
# Entries of Gram blocks that are worked on at a time.
_ENTRIES = 2**22


def draws_for(rank: int) -> int:
    """How many draws a null of r × r blocks has."""
    return int(np.clip(_WORK // max(rank, 1) ** 3, _FEWEST_DRAWS, _MOST_DRAWS))


def random_grams(rng: np.random.Generator, n: int, k: int, l: int, draws: int) -> np.ndarray:  # noqa: E741
    """U₁ᵀU₂ of pairs of independent uniformly random orthonormal bases, exactly.

    Args:
        rng: Where the numbers come from.
        n: Dimension of the space.
        k: Dimension of the first span, at most n.
        l: Dimension of the second span, at most n.
        draws: How many.

    Returns:
        [draws, k, l] float64. Where k + l > n the spans meet by force, and k + l − n of the
        singular values are 1.

    """
    A = rng.standard_normal((draws, k, l))
    freedom = n - k
    if freedom >= l:
        T = np.zeros((draws, l, l))
        row, column = np.tril_indices(l, -1)
        T[:, row, column] = rng.standard_normal((draws, len(row)))
        diagonal = np.arange(l)
        T[:, diagonal, diagonal] = np.sqrt(rng.chisquare(freedom - diagonal, (draws, l)))
        wishart = T @ T.swapaxes(1, 2)
    else:
        # A singular Wishart matrix has no triangular factor to draw; its Gaussian is small.
        B = rng.standard_normal((draws, freedom, l))
        wishart = B.swapaxes(1, 2) @ B
    lower = np.linalg.cholesky(A.swapaxes(1, 2) @ A + wishart)
    return np.linalg.solve(lower, A.swapaxes(1, 2)).swapaxes(1, 2)


@lru_cache(maxsize=64)
def random_angles(n: int, k: int, l: int) -> np.ndarray:  # noqa: E741
    """Principal angles between random spans of dimensions k and l in Rⁿ.

    Returns:
        [draws, min(k, l)] radians, ascending, float64.

    """
    rng = np.random.default_rng([_SEED, n, k, l])
    cosines = np.linalg.svd(random_grams(rng, n, k, l, draws_for(max(k, l))), compute_uv=False)
    return np.arccos(np.clip(cosines, 0, 1))


@lru_cache(maxsize=1024)
def space_null(
    names: tuple[str, ...],
    n: int,
    k: int,
    l: int,  # noqa: E741
    r: int,
    padding: str,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """What metrics of one side say of random spans, and of one span within the other.

    Args:
        names: Metrics of the registry that read one side.
        n: Dimension of the space.
        k: Rank of the source.
        l: Rank of the target.
        r: Padded rank, at least both.
        padding: "pi/2" or "none", see `compare`.

    Returns:
        By metric [draws], and the value where the angles are all 0.

    """
    angles = random_angles(n, k, l)
    # The metrics read angles and ‖G‖², which diag(cos θ) has as well.
    cosines = np.zeros((len(angles), r, r))
    shared = np.arange(min(k, l))
    cosines[:, shared, shared] = np.cos(angles)
    found = _measure_sides(names, cosines, angles, k, l, padding)
    nested = np.zeros((1, r, r))
    nested[:, shared, shared] = 1
    within = _measure_sides(names, nested, np.zeros((1, min(k, l))), k, l, padding)
    return found, {name: float(value[0]) for name, value in within.items()}


@dataclass(frozen=True)
class UpdateNull:
    """What metrics of both sides say of random targets."""

    values: dict[str, np.ndarray]
    """[draws] by metric, of a source with a flat spectrum."""
    diagonal: np.ndarray
    """[draws, k] u_kᵀ ΔW₂ v_k of targets with ‖ΔW₂‖ = 1, for what reads the source's spectrum."""


@lru_cache(maxsize=256)
def update_null(
    names: tuple[str, ...],
    d_out: int,
    d_in: int,
    k: int,
    l: int,  # noqa: E741
    r: int,
) -> UpdateNull:
    """What metrics of both sides say of a random target of rank l and a source of rank k.

    Args:
        names: Metrics of the registry that depend on neither spectrum nor norm of the source
            (of the cosine, mean and variance do not).
        d_out: Rows of ΔW.
        d_in: Columns of ΔW.
        k: Rank of the source.
        l: Rank of the target.
        r: Padded rank, at least both.

    """
    rng = np.random.default_rng([_SEED, d_out, d_in, k, l])
    draws = draws_for(r)
    out, inp = (random_grams(rng, n, k, l, draws) for n in (d_out, d_in))
    diagonal = np.einsum("nkl,nkl->nk", out, inp) / np.sqrt(l)
    grams = [np.zeros((draws, r, r), np.float32) for _ in range(2)]
    for padded, gram in zip(grams, (out, inp), strict=True):
        padded[:, :k, :l] = gram
    run = _compiled_pairs(names)
    flat = [(np.arange(r) < rank) / np.sqrt(rank) for rank in (k, l)]
    parts = [
        run(*(gram[at] for gram in grams), *(s.astype(np.float32) for s in flat), k, l)
        for at in _chunks(draws, r)
    ]
    return UpdateNull(_joined(names, parts), diagonal)


def spectrum_null(
    names: tuple[str, ...], spectra: np.ndarray, ranks: np.ndarray, norms: np.ndarray,
    diagonal: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """What metrics of S₁ and S₂ say of random targets, for P sources.

    Args:
        names: Metrics of the registry that read S₁ and the diagonal S₂ alone.
        spectra: [P, r] singular values of the sources, 0 beyond their ranks.
        ranks: [P]
        norms: [P] ‖ΔW₂‖.
        diagonal: [draws, k] of `UpdateNull`.

    Returns:
        By metric [P, draws].

    """
    P, r = spectra.shape
    wide = np.zeros((len(diagonal), r), np.float32)
    wide[:, : diagonal.shape[1]] = diagonal[:, :r]
    run = _compiled_spectra(names)
    # Chunks of one size compile once.
    size = max(1, min(1024, _ENTRIES // (len(diagonal) * r)))
    parts = []
    for start in range(0, P, size):
        at = np.minimum(np.arange(start, start + size), P - 1)
        parts.append(run(spectra[at].astype(np.float32), ranks[at], norms[at].astype("f4"), wide))
    return {name: values[:P] for name, values in _joined(names, parts).items()}


def _chunks(draws: int, r: int) -> list[slice]:
    size = max(1, min(draws, _ENTRIES // (r * r)))
    return [slice(start, start + size) for start in range(0, draws, size)]


def _joined(names: Sequence[str], parts: list[Any]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([np.asarray(p[name], float) for p in parts]) for name in names}


def _measure_sides(
    names: tuple[str, ...],
    grams: np.ndarray,
    angles: np.ndarray,
    k: int,
    l: int,  # noqa: E741
    padding: str,
) -> dict[str, np.ndarray]:
    draws, r, _ = grams.shape
    wide = np.zeros((draws, r))
    wide[:, min(k, l) : max(k, l)] = np.pi / 2 if padding == "pi/2" else 0
    wide[:, : min(k, l)] = angles
    run = _compiled_sides(names)
    parts = [run(grams[at].astype("f4"), wide[at].astype("f4"), k, l) for at in _chunks(draws, r)]
    return _joined(names, parts)


@cache
def _compiled_sides(names: tuple[str, ...]) -> Any:
    import jax

    from jaxtask.metrics import METRICS, Side

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, None, None))
    def run(gram: Any, angles: Any, k: Any, l: Any) -> dict[str, Any]:  # noqa: E741
        side = Side(gram, angles, k, l, None)
        return {name: METRICS[name](side) for name in names}

    return run


@cache
def _compiled_pairs(names: tuple[str, ...]) -> Any:
    import jax
    import jax.numpy as jnp

    from jaxtask.metrics import METRICS, Pair, Side

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, None, None, None, None))
    def run(G: Any, H: Any, s: Any, t: Any, k: Any, l: Any) -> dict[str, Any]:  # noqa: E741
        live = jnp.diag((jnp.arange(len(t)) < l).astype(G.dtype))
        angles = jnp.full_like(s, jnp.nan)  # which these metrics do not read

        def side(gram: Any) -> Side:
            outside = live - jnp.einsum("kl,km->lm", gram, gram, precision="highest")
            return Side(gram, angles, k, l, outside)

        pair = Pair(s, t, k, l, side(G), side(H))
        return {name: METRICS[name](pair) for name in names}

    return run


@cache
def _compiled_spectra(names: tuple[str, ...]) -> Any:
    import jax
    import jax.numpy as jnp

    from jaxtask.metrics import METRICS, Pair, Side

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, 0, None))
    @partial(jax.vmap, in_axes=(None, None, None, 0))
    def run(s: Any, k: Any, norm: Any, diagonal: Any) -> dict[str, Any]:
        # A target of one component with this diagonal: these metrics read no more of it.
        column = jnp.where(jnp.arange(len(s)) < k, diagonal, 0)[:, None]
        angles, one = jnp.full_like(s, jnp.nan), jnp.asarray(1)
        out = Side(column, angles, k, one, None)
        inp = Side(jnp.ones_like(column), angles, k, one, None)
        pair = Pair(s, norm[None], k, one, out, inp)
        return {name: METRICS[name](pair) for name in names}

    return run

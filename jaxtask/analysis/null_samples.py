"""What every metric says of random updates: draws of the package's own metrics, kept in memory.

Random spaces are uniform (Haar). Nothing of the size of the ambient space is drawn where that can
be avoided: of two random orthonormal bases of Rⁿ only the block G = U₁ᵀU₂ [k, l] matters. With one
basis fixed to the first k axes, G = A R⁻¹, where [A; B] is a standard Gaussian n × l matrix and
RᵀR = AᵀA + BᵀB; of B only BᵀB is needed, a Wishart matrix with n − k degrees of freedom, drawn by
its triangular factor (Bartlett 1933).

A random target is ΔW₂ = U₂ S V₂ᵀ with its own spectrum between random bases.
"""

from collections.abc import Sequence
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np

_SEED = 20260101
# The mean of a pooled null is wrong by about √(cells/draws) of its standard deviation.
_MOST, _FEWEST = 10_000, 1_000
# Operations on r × r blocks that a null may take, over r³.
_WORK = 2**29
# Entries of Gram blocks that are worked on at a time.
_ENTRIES = 2**22


def draws_for(rank: int) -> int:
    """How many draws a null of r × r blocks has."""
    return int(np.clip(_WORK // max(rank, 1) ** 3, _FEWEST, _MOST))


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
    freedom = n - k
    if freedom < l:
        # A singular Wishart matrix has no triangular factor to draw, and the space is small.
        Q, R = np.linalg.qr(rng.standard_normal((draws, n, l)))
        return Q[:, :k] * np.sign(np.einsum("nll->nl", R))[:, None]
    A = rng.standard_normal((draws, k, l))
    T = np.zeros((draws, l, l))
    row, column = np.tril_indices(l, -1)
    T[:, row, column] = rng.standard_normal((draws, len(row)))
    diagonal = np.arange(l)
    T[:, diagonal, diagonal] = np.sqrt(rng.chisquare(freedom - diagonal, (draws, l)))
    lower = np.linalg.cholesky(A.swapaxes(1, 2) @ A + T @ T.swapaxes(1, 2))
    return np.linalg.solve(lower, A.swapaxes(1, 2)).swapaxes(1, 2)


def random_angles(n: int, k: int, l: int) -> np.ndarray:  # noqa: E741
    """Principal angles between random spans of dimensions k and l in Rⁿ.

    Returns:
        [draws, min(k, l)] radians, ascending, float64.

    """
    return _angles(n, min(k, l), max(k, l))


@lru_cache(maxsize=64)
def _angles(n: int, k: int, l: int) -> np.ndarray:  # noqa: E741
    rng = np.random.default_rng([_SEED, n, k, l])
    sizes = [at.stop - at.start for at in _chunks(draws_for(l), l)]
    parts = [np.linalg.svd(random_grams(rng, n, k, l, d), compute_uv=False) for d in sizes]
    return np.arccos(np.clip(np.concatenate(parts), 0, 1))


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


@lru_cache(maxsize=8)
def update_grams(
    d_out: int,
    d_in: int,
    k: int,
    l: int,  # noqa: E741
) -> tuple[np.ndarray, np.ndarray]:
    """G and H of random updates of ranks k and l, each [draws, k, l] float32."""
    rng = np.random.default_rng([_SEED, d_out, d_in, k, l])
    draws = draws_for(max(k, l))
    out, inp = (random_grams(rng, n, k, l, draws).astype("f4") for n in (d_out, d_in))
    return out, inp


def random_diagonals(grams: tuple[np.ndarray, np.ndarray], spectra: np.ndarray) -> np.ndarray:
    """Spectral projections u_kᵀ ΔW₂ v_k of random targets with these spectra.

    Args:
        grams: G and H, each [draws, k, l].
        spectra: [N, l] singular values of the targets.

    Returns:
        [N, draws, k]

    """
    products = grams[0] * grams[1]
    return np.moveaxis(products @ spectra.T, 2, 0)


def random_inner(sources: np.ndarray, diagonals: np.ndarray) -> np.ndarray:
    """⟨ΔW₁, ΔW₂⟩ of sources with these spectra [S, r] and random targets, [S, N, draws].

    Linear in what `random_diagonals` gives, which is why no metric has to be called.
    """
    N, draws, k = diagonals.shape
    return (sources[:, :k] @ diagonals.reshape(-1, k).T).reshape(-1, N, draws)


def diagonal_null(
    name: str, sources: np.ndarray, k: int, norms: np.ndarray, diagonals: np.ndarray
) -> np.ndarray:
    """What a metric that reads S₁ and S₂ alone says of random targets.

    Args:
        name: A metric of the registry.
        sources: [S, r] singular values of the sources, 0 beyond k.
        k: Rank of the sources.
        norms: [N] ‖ΔW₂‖.
        diagonals: [N, draws, k] of `random_diagonals`, of targets of norm 1.

    Returns:
        [S, N, draws]

    """
    S, r = sources.shape
    N, draws, _ = diagonals.shape
    wide = np.zeros((_power_of_two(N), draws, r), np.float32)
    wide[:N, :, :k] = diagonals
    scale = np.ones(len(wide), np.float32)
    scale[:N] = norms
    size = min(_power_of_two(S), max(1, _ENTRIES // wide.size))
    run = _compiled_diagonals(name)
    found = np.empty((S, N, draws))
    for start in range(0, S, size):
        at = np.minimum(np.arange(start, start + size), S - 1)
        part = run(sources[at].astype(np.float32), np.int32(k), scale, wide)
        found[start : start + size] = np.asarray(part)[: S - start, :N]
    return found


def energy_null(
    name: str, grams: tuple[np.ndarray, np.ndarray], spectra: np.ndarray, r: int
) -> np.ndarray:
    """What a metric that reads the Gram blocks and the target's spectrum says of random targets.

    Args:
        name: A metric of the registry.
        grams: G and H, each [draws, k, l].
        spectra: [N, l] singular values of the targets.
        r: Padded rank.

    Returns:
        [N, draws]

    """
    draws, k, l = grams[0].shape  # noqa: E741
    padded = [np.zeros((draws, r, r), np.float32) for _ in grams]
    for wide, gram in zip(padded, grams, strict=True):
        wide[:, :k, :l] = gram
    N = len(spectra)
    targets = np.zeros((_power_of_two(N), r), np.float32)
    targets[:N, :l] = spectra
    run = _compiled_energies(name)
    parts = [
        run(*(gram[at] for gram in padded), targets, np.int32(k), np.int32(l))
        for at in _chunks(draws, r * max(1, int(len(targets) ** 0.5)))
    ]
    return np.concatenate([np.asarray(part, float) for part in parts], axis=1)[:N]


def _power_of_two(n: int) -> int:
    """At least n, and 8: few sizes, so that few programs are compiled."""
    return max(8, 1 << (n - 1).bit_length())


def _chunks(draws: int, r: int) -> list[slice]:
    size = max(1, min(draws, _ENTRIES // (r * r)))
    return [slice(start, min(start + size, draws)) for start in range(0, draws, size)]


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
def _compiled_energies(name: str) -> Any:
    import jax
    import jax.numpy as jnp

    from jaxtask.metrics import METRICS, Pair, Side

    @jax.jit
    @partial(jax.vmap, in_axes=(None, None, 0, None, None))
    @partial(jax.vmap, in_axes=(0, 0, None, None, None))
    def run(G: Any, H: Any, t: Any, k: Any, l: Any) -> Any:  # noqa: E741
        nothing = jnp.full_like(t, jnp.nan)  # which these metrics do not read
        sides = (Side(gram, nothing, k, l, None) for gram in (G, H))
        return METRICS[name](Pair(nothing, t, k, l, *sides))

    return run


@cache
def _compiled_diagonals(name: str) -> Any:
    import jax
    import jax.numpy as jnp

    from jaxtask.metrics import METRICS, Pair, Side

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None, None, None))
    @partial(jax.vmap, in_axes=(None, None, 0, 0))
    @partial(jax.vmap, in_axes=(None, None, None, 0))
    def run(s: Any, k: Any, norm: Any, diagonal: Any) -> Any:
        # A target of one component with this diagonal: these metrics read no more of it.
        column, one = diagonal[:, None], jnp.asarray(1)
        nothing = jnp.full_like(s, jnp.nan)
        out = Side(column, nothing, k, one, None)
        inp = Side(jnp.ones_like(column), nothing, k, one, None)
        return METRICS[name](Pair(s, norm[None], k, one, out, inp))

    return run

"""The pair stage: every metric for every pair of one tile, as one compiled program.

    rows, cols   thin SVDs of two blocks of t updates
      │ two matrix products
    G, H         [t, r, t, r] Gram blocks of the tile
      │ loop over chunks of P pairs
      │   cosines σ(G);  where one exceeds .95, sines from the residual basis
      │   metrics, written for one pair and vmapped
    {variable: [C, P] or [C, P, 2]}      2: source→target and target→source
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jaxtask.engine.program import Program
from jaxtask.metrics import Pair, Side, projected_spectrum
from jaxtask_kernels.angles import angles_between, complement_gram, residual_sines
from jaxtask_kernels.factor_rows import FactorRows
from jaxtask_kernels.gram import gram_rows
from jaxtask_kernels.singular_values import singular_values

# Above this cosine, arccos loses too much; below it, sqrt(1 − cos²) is as good as any sine.
_NEAR = 0.95

# Entries of the residual bases worked on at a time.
_RESIDUAL_ENTRIES = 1 << 21


@partial(jax.jit, static_argnames=("program",))
def measure_tile(
    rows: FactorRows, cols: FactorRows, pairs: Array, chunks: Array, *, program: Program
) -> dict[str, Array]:
    """All pair variables of the pairs (a, b), a in `rows` as source and b in `cols` as target.

    Args:
        rows: t updates, of the program's dtype.
        cols: t updates.
        pairs: [C, P, 2] int32 indices into rows and cols.
        chunks: [] int32, how many of the C chunks hold pairs; the others are left as they come.
        program: What to compute.

    Returns:
        For every pair variable [C, P] if symmetric, else [C, P, 2] with the pair (b, a) in the last
        place; kept vectors have a last axis of r.
    """
    bases = {"out": (rows.U, cols.U), "in": (rows.V, cols.V)}
    grams = {side: gram_rows(*bases[side]) for side in bases if program.needs(side)}

    def one_chunk(a: Array, b: Array) -> dict[str, Array]:
        ranks = rows.rank[a], cols.rank[b]
        there: dict[str, Side | None] = {"out": None, "in": None}
        back: dict[str, Side | None] = {"out": None, "in": None}
        for side, gram in grams.items():
            X, Y = bases[side]
            there[side], back[side] = _sides(gram[a, :, b, :], X, Y, a, b, ranks, side, program)
        s, t = rows.s[a], cols.s[b]
        forward = Pair(s, t, *ranks, there["out"], there["in"])
        backward = Pair(t, s, *ranks[::-1], back["out"], back["in"])
        return _measure(forward, backward, program)

    shapes = jax.eval_shape(one_chunk, pairs[0, :, 0], pairs[0, :, 1])
    empty = {k: jnp.zeros((pairs.shape[0], *v.shape), v.dtype) for k, v in shapes.items()}

    def body(c: Array, done: dict[str, Array]) -> dict[str, Array]:
        ab = jax.lax.dynamic_index_in_dim(pairs, c, keepdims=False)
        new = one_chunk(ab[:, 0], ab[:, 1])
        return {
            k: jax.lax.dynamic_update_index_in_dim(done[k], new[k], c, axis=0) for k in done
        }

    return jax.lax.fori_loop(0, chunks, body, empty)


def _measure(forward: Pair, backward: Pair, program: Program) -> dict[str, Array]:
    values = {}
    for name, metric in program.variables().items():
        of = _selector(name, sided=metric.sided)
        there = jax.vmap(lambda pair, f=metric, of=of: f(of(pair)))(forward)
        if metric.symmetric:
            values[name] = there
        else:
            back = jax.vmap(lambda pair, f=metric, of=of: f(of(pair)))(backward)
            values[name] = jnp.stack([there, back], axis=1)
    if "angles" in program.keep:
        for side in program.sides:
            of = _selector(f"angles_{side}", sided=True)
            values[f"angles_{side}"] = jax.vmap(lambda pair, of=of: _kept_angles(of(pair)))(forward)
    if "spectra" in program.keep:
        both = [jax.vmap(_kept_projection)(pair) for pair in (forward, backward)]
        values["projected"] = jnp.stack(both, axis=1)
    return values


def _selector(variable: str, *, sided: bool):  # type: ignore[no-untyped-def]
    """What a variable's metric reads: the pair, or the side that the variable is named after."""
    if not sided:
        return lambda pair: pair
    return lambda pair: pair.out if variable.endswith("_out") else pair.inp


def _kept_angles(side: Side) -> Array:
    r = side.angles.shape[0]
    return jnp.where(jnp.arange(r) < side.shared, side.angles, jnp.nan)


def _kept_projection(pair: Pair) -> Array:
    return jnp.where(pair.live_source, projected_spectrum(pair), jnp.nan)


# --------------------------------------------------------------------------- one side of the pairs


def _sides(
    G: Array,
    X: Array,
    Y: Array,
    a: Array,
    b: Array,
    ranks: tuple[Array, Array],
    side: str,
    program: Program,
) -> tuple[Side, Side]:
    """Both directions' view of one side, for P pairs with Gram blocks G [P, r, r]."""
    r = G.shape[-1]
    k, l = ranks  # noqa: E741
    index = jnp.arange(r)
    live_k, live_l = index < k[:, None], index < l[:, None]
    cosines = singular_values(G)
    sines = jnp.sqrt(jnp.maximum((1 - cosines) * (1 + cosines), 0))
    Gt = jnp.swapaxes(G, 1, 2)
    need_outside = program.needs_outside(side)
    found = {"sines": sines} if program.needs_angles(side) else {}
    if need_outside:
        found["there"] = _complement(Gt, live_l)
        found["back"] = _complement(G, live_k)

    def accurate(X: Array, Y: Array, G: Array, live: Array) -> dict[str, Array]:
        R = Y - jnp.einsum("pkl,pkd->pld", G, X, precision="highest")
        exact = {}
        if "sines" in found:
            exact["sines"] = residual_sines(R, live)
        if need_outside:
            exact["there"] = complement_gram(R)
            exact["back"] = complement_gram(
                X - jnp.einsum("pkl,pld->pkd", G, Y, precision="highest")
            )
        return exact

    near = cosines[:, 0] > _NEAR
    if found:
        found = _where_near(near, found, lambda i: accurate(X[a[i]], Y[b[i]], G[i], live_l[i]), X)
    shared, larger = jnp.minimum(k, l)[:, None], jnp.maximum(k, l)[:, None]
    angles = angles_between(cosines, found.get("sines", sines))
    beyond = jnp.where(index < larger, jnp.pi / 2 if program.padding == "pi/2" else 0.0, 0.0)
    angles = jnp.where(index < shared, angles, beyond.astype(angles.dtype))
    there = Side(G, angles, k, l, found.get("there"))
    return there, Side(Gt, angles, l, k, found.get("back"))


def _complement(Gt: Array, live: Array) -> Array:
    """I − GᵀG on the live directions: good enough where nothing in it is small."""
    eye = live[..., None] * jnp.eye(live.shape[-1], dtype=Gt.dtype)
    return eye - jnp.einsum("plk,pmk->plm", Gt, Gt, precision="highest")


def _where_near(near: Array, values: dict[str, Array], recompute, X: Array) -> dict[str, Array]:  # type: ignore[no-untyped-def]
    """Replace the values of the pairs that are `near`, a few at a time, and only those.

    They are sorted to the front, so that the work is proportional to their number; what else a last
    batch holds comes out right as well.
    """
    P = near.shape[0]
    batch = max(1, min(P, _RESIDUAL_ENTRIES // (X.shape[1] * X.shape[2])))
    order = jnp.argsort(~near, stable=True)
    order = jnp.pad(order, (0, -P % batch), mode="edge")

    def body(c: Array, values: dict[str, Array]) -> dict[str, Array]:
        index = jax.lax.dynamic_slice_in_dim(order, c * batch, batch)
        new = recompute(index)
        return {k: v.at[index].set(new[k]) for k, v in values.items()}

    batches = (jnp.sum(near, dtype=jnp.int32) + batch - 1) // batch
    return jax.lax.fori_loop(0, batches, body, values)

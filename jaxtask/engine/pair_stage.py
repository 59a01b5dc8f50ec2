"""The pair stage: every metric for every pair of one tile, as one compiled program.

rows, cols   thin SVDs of two blocks of t updates
  │ two matrix products
G, H         [t, r, t, r] Gram blocks of the tile
  │ loop over chunks of P pairs
  │   cosines σ(G);  where one exceeds native.NEAR, sines from the residual basis, or in float64
  │   metrics, written for one pair and vmapped
{variable: [C, P] or [C, P, 2]}      2: source→target and target→source
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxtask.engine.conditional_null import null_moments
from jaxtask.engine.spec import ComparisonSpec
from jaxtask.errors import JaxtaskError
from jaxtask.metrics import SIDES, Metric, Pair, Side, projected_spectrum
from jaxtask_kernels import native
from jaxtask_kernels._linalg import after
from jaxtask_kernels.angles import angles_between, complement, complement_gram, residual_sines
from jaxtask_kernels.backends import backend_for
from jaxtask_kernels.factor_rows import FactorRows
from jaxtask_kernels.gram import gram_rows
from jaxtask_kernels.singular_values import singular_values

Grams = tuple[Array | np.ndarray | None, ...] | None

# Entries of the residual bases worked on at a time: on CPU few, since most tiles have few such
# pairs, elsewhere as many as fill the device.
_RESIDUAL_ENTRIES = 1 << 16
_RESIDUAL_ENTRIES_ELSEWHERE = 1 << 25


@partial(jax.jit, static_argnames=("spec",))
def measure_tile(
    rows: FactorRows,
    cols: FactorRows,
    grams: Grams,
    pairs: Array,
    chunks: Array,
    diagonal: Array,
    *,
    spec: ComparisonSpec,
) -> dict[str, Array]:
    """All pair variables of the pairs (a, b), a in `rows` as source and b in `cols` as target.

    Args:
        rows: T updates, of the program's dtype.
        cols: T updates.
        grams: [t, r, t, r] Gram blocks of the out and the in side (None where not needed), or None
            to have them computed here.
        pairs: [C, P, 2] int32 indices into rows and cols.
        chunks: [] int32, how many of the C chunks hold pairs; the others are left as they come.
        diagonal: [] bool, rows and cols are the same updates: (a, a) is an update and itself.
        spec: What to compute.

    Returns:
        For every pair variable [C, P] if symmetric, else [C, P, 2] with the pair (b, a) in the last
        place; kept vectors have a last axis of r.

    """
    held = (("out", rows.U, cols.U), ("in", rows.V, cols.V))
    bases = {side: (X, Y) for side, X, Y in held if X is not None and Y is not None}
    given = {s: jnp.asarray(G) for s, G in zip(SIDES, grams or (), strict=False) if G is not None}
    blocks_of = {s: given[s] if s in given else gram_rows(*pair) for s, pair in bases.items()}

    def one_chunk(a: Array, b: Array) -> dict[str, Array]:
        ranks = rows.rank[a], cols.rank[b]
        blocks = {side: gram[a, :, b, :] for side, gram in blocks_of.items()}
        same = diagonal & (a == b)
        known = {
            side: angles(
                *bases[side],
                gram,
                (rows.rank, cols.rank),
                a,
                b,
                same,
                outside=spec.needs_outside(side),
            )
            for side, gram in given.items()
            if spec.needs_cosines(side) and (angles := _angles_of(gram)) is not None
        }
        there, back = _both_ways(blocks, bases, known, a, b, same, ranks, spec)
        s, t = rows.s[a], cols.s[b]
        forward = Pair(s, t, *ranks, there.get("out"), there.get("in"))
        backward = Pair(t, s, *ranks[::-1], back.get("out"), back.get("in"))
        values = _measure(forward, backward, spec)
        if tested := spec.tested():
            width = bases["out"][0].shape[-1]
            both = [null_moments(pair, tested, width) for pair in (forward, backward)]
            values |= {name: jnp.stack([x[name] for x in both], axis=1) for name in both[0]}
        return values

    if pairs.shape[0] == 1:  # in loops, XLA keeps to one thread
        return {k: v[None] for k, v in one_chunk(pairs[0, :, 0], pairs[0, :, 1]).items()}
    shapes = jax.eval_shape(one_chunk, pairs[0, :, 0], pairs[0, :, 1])
    empty = {k: jnp.zeros((pairs.shape[0], *v.shape), v.dtype) for k, v in shapes.items()}

    def body(c: Array, done: dict[str, Array]) -> dict[str, Array]:
        ab = jax.lax.dynamic_index_in_dim(pairs, c, keepdims=False)
        new = one_chunk(ab[:, 0], ab[:, 1])
        return {k: jax.lax.dynamic_update_index_in_dim(done[k], new[k], c, axis=0) for k in done}

    return jax.lax.fori_loop(0, chunks, body, empty)


def _measure(forward: Pair, backward: Pair, spec: ComparisonSpec) -> dict[str, Array]:
    values: dict[str, Array] = {}
    done = [side.angles for side in (forward.out, forward.inp) if side is not None]
    for name, metric in spec.variables().items():
        of = _selector(name, sided=metric.sided)
        both = []
        for pair in (forward,) if metric.symmetric else (forward, backward):
            turn = _after_all(pair, done) if metric.decomposes else pair
            both.append(jax.vmap(lambda pair, f=metric, of=of: _scalar(f, f(of(pair))))(turn))
            if metric.decomposes:
                done = both[-1:]
        values[name] = both[0] if metric.symmetric else jnp.stack(both, axis=1)
    if "angles" in spec.keep:
        for side in spec.sides:
            of = _selector(f"angles_{side}", sided=True)
            values[f"angles_{side}"] = jax.vmap(lambda pair, of=of: _kept_angles(of(pair)))(forward)
    if "spectra" in spec.keep:
        both = [jax.vmap(_kept_projection)(pair) for pair in (forward, backward)]
        values["projected"] = jnp.stack(both, axis=1)
    return values


def _scalar(metric: Metric, value: Array) -> Array:
    if jnp.shape(value) != ():
        raise JaxtaskError(
            f"metric {metric.name!r} returned an array of shape {jnp.shape(value)} for one pair, "
            "expected a number"
        )
    return jnp.asarray(value)


def _after_all(pair: Pair, done: list[Array]) -> Pair:
    """The pair, once all that is in `done` has been computed."""
    for last in done:
        pair = jax.tree.map(lambda x, last=last: after(x, last), pair)
    return pair


def _selector(variable: str, *, sided: bool) -> Callable[[Pair], Any]:
    """What a variable's metric reads: the pair, or the side that the variable is named after."""
    if not sided:
        return lambda pair: pair
    return lambda pair: pair.out if variable.endswith("_out") else pair.inp


def _kept_angles(side: Side) -> Array:
    r = side.angles.shape[0]
    return jnp.where(jnp.arange(r) < side.shared, side.angles, jnp.nan)


def _kept_projection(pair: Pair) -> Array:
    return jnp.where(pair.live_source, projected_spectrum(pair), jnp.nan)


# --------------------------------------------------------------------------- the sides of the pairs


def _angles_of(gram: Array) -> Callable[..., native.Angles] | None:
    """What computes angles from Gram blocks that are given, as they are on CPU alone."""
    return backend_for(gram.shape[1], "cpu").angles if gram.dtype == np.float32 else None


def _both_ways(
    blocks: dict[str, Array],
    bases: dict[str, tuple[Array, Array]],
    known: dict[str, native.Angles],
    a: Array,
    b: Array,
    same: Array,
    ranks: tuple[Array, Array],
    spec: ComparisonSpec,
) -> tuple[dict[str, Side], dict[str, Side]]:
    """The sides of P pairs with Gram blocks [P, r, r], as seen from the rows and from the columns.

    Where a pair is one update and itself (`same`), nothing of it lies outside, by definition.
    `known` holds the sides that are done already.
    """
    k, l = ranks  # noqa: E741
    r = next(iter(blocks.values())).shape[-1]
    index = jnp.arange(r)
    live = {"there": index < l[:, None], "back": index < k[:, None]}
    wanted = {s: G for s, G in blocks.items() if spec.needs_cosines(s) and s not in known}
    cosines = _cosines(wanted)
    found = {side: _from_gram(side, blocks[side], cosines[side], live, spec) for side in cosines}

    def accurate(side: str, i: Array) -> dict[str, Array]:
        X, Y, G = bases[side][0][a[i]], bases[side][1][b[i]], blocks[side][i]
        R = Y - jnp.einsum("pkl,pkd->pld", G, X, precision="highest")
        exact = {}
        if "sines" in found[side]:
            exact["sines"] = residual_sines(R, live["there"][i])
        if spec.needs_outside(side):
            R_back = X - jnp.einsum("pkl,pld->pkd", G, Y, precision="highest")
            exact |= {"there": complement_gram(R), "back": complement_gram(R_back)}
        return exact

    found = {side: _of_itself(own, same, live["there"]) for side, own in found.items()}
    near = {side: (cosines[side][:, 0] > native.NEAR) & ~same for side in cosines}
    width = max(X.shape[1] * X.shape[2] for X, _ in bases.values())
    found = _where_near(near, found, accurate, width)
    for side, done in known.items():
        cosines[side], found[side] = done.cosines, {"sines": done.sines}
        if done.there is not None and done.back is not None:
            found[side] |= {"there": done.there, "back": done.back}

    there, back = {}, {}
    shared, larger = jnp.minimum(k, l)[:, None], jnp.maximum(k, l)[:, None]
    beyond = jnp.where(index < larger, jnp.pi / 2 if spec.padding == "pi/2" else 0.0, 0.0)
    for side, gram in blocks.items():
        # NaN where no metric said that it reads them.
        angles = jnp.full(gram.shape[:2], jnp.nan, gram.dtype)
        own = found.get(side, {})
        if "sines" in own:
            angles = angles_between(cosines[side], own["sines"])
            angles = jnp.where(index < shared, angles, beyond.astype(angles.dtype))
        there[side] = Side(gram, angles, k, l, own.get("there"))
        back[side] = Side(jnp.swapaxes(gram, 1, 2), angles, l, k, own.get("back"))
    return there, back


def _cosines(blocks: dict[str, Array]) -> dict[str, Array]:
    """Singular values of each side's Gram blocks, [P, r]."""
    if not blocks:
        return {}
    # One call for both sides: see `after` on why decompositions must not run side by side.
    values = singular_values(jnp.stack(list(blocks.values())))
    return dict(zip(blocks, values, strict=True))


def _from_gram(
    side: str, gram: Array, cosines: Array, live: dict[str, Array], spec: ComparisonSpec
) -> dict[str, Array]:
    """What one side needs beside its Gram blocks, good enough where no angle is small."""
    found = {}
    if spec.needs_angles(side):
        found["sines"] = _sines(cosines)
    if spec.needs_outside(side):
        found["there"] = complement(jnp.swapaxes(gram, 1, 2), live["there"])
        found["back"] = complement(gram, live["back"])
    return found


def _of_itself(own: dict[str, Array], same: Array, live: Array) -> dict[str, Array]:
    """Sines 0 and nothing outside where a pair is an update and itself."""
    fixed = {k: jnp.where(same[:, None, None], 0, x) for k, x in own.items() if k != "sines"}
    if "sines" in own:
        fixed["sines"] = jnp.where(same[:, None] & live, 0, own["sines"])
    return fixed


def _sines(cosines: Array) -> Array:
    return jnp.sqrt(jnp.maximum((1 - cosines) * (1 + cosines), 0))


_Values = dict[str, dict[str, Array]]


def _where_near(
    near: dict[str, Array],
    values: _Values,
    recompute: Callable[[str, Array], dict[str, Array]],
    width: int,
) -> _Values:
    """Replace the values of the pairs that are `near` on a side, a few at a time, and only those.

    Their indices are listed first, so that the work is proportional to their number. One loop takes
    the sides in turn, never two at once.
    """
    if not near:
        return values
    P = next(iter(near.values())).shape[0]
    on_cpu = jax.default_backend() == "cpu"
    entries = _RESIDUAL_ENTRIES if on_cpu else _RESIDUAL_ENTRIES_ELSEWHERE
    batch = max(1, min(P, entries // width))
    sides = tuple(near)
    order, batches = {}, []
    for side in sides:
        (order[side],) = jnp.nonzero(near[side], size=P + -P % batch, fill_value=P)
        batches.append((jnp.sum(near[side], dtype=jnp.int32) + batch - 1) // batch)

    def step(side: str, c: Array, values: _Values) -> _Values:
        index = jax.lax.dynamic_slice_in_dim(order[side], c * batch, batch)
        new = recompute(side, jnp.minimum(index, P - 1))
        replaced = {k: v.at[index].set(new[k], mode="drop") for k, v in values[side].items()}
        return values | {side: replaced}

    def body(c: Array, values: _Values) -> _Values:
        if len(sides) == 1:
            return step(sides[0], c, values)
        return jax.lax.cond(
            c < batches[0],
            lambda: step(sides[0], c, values),
            lambda: step(sides[1], c - batches[0], values),
        )

    return jax.lax.fori_loop(0, sum(batches), body, values)

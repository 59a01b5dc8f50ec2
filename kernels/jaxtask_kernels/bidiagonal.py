"""Singular values of many small matrices in plain XLA, for accelerators: one lane a matrix.

    [N, n, n] → [n, n, N]                     the batch last, where threads and lanes are
    Householder bidiagonalisation (Golub and Kahan 1965), one matrix step at a time for all
    bisection by Sturm counts, all values of all matrices at once

Nothing but elementwise steps and sums over short leading axes, no branch on data. A step of the
first stage reads the matrices three times and writes them once. A step of the second is one fused
loop over (value, matrix), whose recurrence, unrolled over the bidiagonal, stays in registers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Larger matrices go to the platform's own SVD: above, unrolled recurrences compile for too long.
LARGEST = 128

# Entries of the matrices worked on at a time: many kernel launches' worth, little memory.
_ENTRIES = 1 << 26

# Steps of bidiagonalisation between two cuts of what is done off the matrix.
_STEPS = 8

# Recurrence steps of bisection that are unrolled into one loop's body, if n allows.
_UNROLLED = 64


@jax.custom_batching.custom_vmap
def singular_values(G: Array) -> Array:
    """Singular values [..., n] of [..., n, n], n ≤ LARGEST, descending; NaN where not finite.

    Errors are a few eps times the largest. Denormal numbers count as zero.
    """
    *batch, n, _ = G.shape
    count = int(np.prod(batch))
    if n == 0 or count == 0:
        return jnp.zeros((*batch, n), G.dtype)
    chunks = -(-count * n * n // _ENTRIES)
    size = -(-count // chunks)
    padded = jnp.pad(G.reshape(count, n, n), [(0, chunks * size - count), (0, 0), (0, 0)])
    if chunks == 1:
        values = _of_chunk(padded)
    else:
        values = jax.lax.map(_of_chunk, padded.reshape(chunks, size, n, n))
    return values.reshape(chunks * size, n)[:count].reshape(*batch, n)


@singular_values.def_vmap
def _batched(axis_size: int, in_batched: list[bool], G: Array) -> tuple[Array, bool]:
    """A mapped axis is one more of the batch: left to itself, it would not be the last."""
    return singular_values(G), True


def _of_chunk(G: Array) -> Array:
    """[N, n, n] → [N, n]."""
    A = jnp.transpose(G, (1, 2, 0))
    broken = ~jnp.all(jnp.isfinite(A), axis=(0, 1))
    scale = _power_of_two(jnp.max(jnp.abs(A), axis=(0, 1)))
    d, e = map(jnp.abs, _bidiagonalise(A / scale))
    # Gershgorin's bound, strictly above all values.
    bound = 2 * _power_of_two(jnp.max(d + jnp.maximum(e, jnp.roll(e, 1, axis=0)), axis=0))
    values = _bisect(jnp.square(d / bound), jnp.square(e / bound)) * bound * scale
    return jnp.where(broken, jnp.nan, values).T


def _power_of_two(x: Array) -> Array:
    """The largest one that is not above x > 0; 1 for zero and denormal numbers."""
    info = jnp.finfo(x.dtype)
    exponent = jnp.array((1 << info.bits - 1) - (1 << info.nmant), f"uint{info.bits}")
    power = jax.lax.bitcast_convert_type(
        jax.lax.bitcast_convert_type(x, exponent.dtype) & exponent, x.dtype
    )
    return jnp.where(power > 0, power, 1)


# --------------------------------------------------------------------------- bidiagonalisation


def _bidiagonalise(A: Array) -> tuple[Array, Array]:
    """Diagonal [n, N] and superdiagonal [n, N] (its last row zero), up to signs, of [n, n, N]."""
    parts = []
    while len(A):
        steps = min(_STEPS, len(A))
        A, part = jax.lax.scan(_step, A, jnp.arange(steps))
        A = A[steps:, steps:]
        parts.append(part)
    diagonals, superdiagonals = zip(*parts, strict=True)
    return jnp.concatenate(diagonals), jnp.concatenate(superdiagonals)


def _step(A: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
    """A ← (I − τ u uᵀ) A (I − σ v vᵀ), which takes column k and row k to one entry each.

    As A − u wᵀ − x vᵀ with w = τ Aᵀu and x = σ (A − u wᵀ) v. Columns and rows before k are done and
    of no consequence.
    """
    index = jnp.arange(len(A))[:, None]
    column = jnp.where(index >= k, jax.lax.dynamic_index_in_dim(A, k, 1, keepdims=False), 0)
    u, tau, diagonal = _reflector(column, index == k)
    w = tau * jnp.sum(u[:, None] * A, axis=0)
    u_k = jax.lax.dynamic_index_in_dim(u, k, 0, keepdims=False)
    row = jax.lax.dynamic_index_in_dim(A, k, 0, keepdims=False) - u_k * w
    v, sigma, superdiagonal = _reflector(jnp.where(index > k, row, 0), index == k + 1)
    x = sigma * (jnp.sum(A * v, axis=1) - u * jnp.sum(w * v, axis=0))
    return A - u[:, None] * w - x[:, None] * v, (diagonal, superdiagonal)


def _reflector(x: Array, at: Array) -> tuple[Array, Array, Array]:
    """u, τ, α with (I − τ u uᵀ) x = α where `at` and 0 elsewhere, of [n, N].

    The identity where x is too small for its squares, which is below an eps of what matters.
    """
    first = jnp.sum(jnp.where(at, x, 0), axis=0)
    squares = jnp.sum(x * x, axis=0)
    norm = jnp.sqrt(squares)
    alpha = jnp.where(first > 0, -norm, norm)
    size = squares + jnp.abs(first) * norm
    tau = jnp.where(size > jnp.finfo(x.dtype).tiny, 1 / size, 0)
    return jnp.where(at, first - alpha, x), tau, alpha


# --------------------------------------------------------------------------- bisection


def _bisect(q: Array, e: Array) -> Array:
    """Singular values [n, N] below 1, descending, from squares of a bidiagonal [n, N], [n, N].

    Built bit by bit from zero: a bit stays if more values than come before lie above. So those that
    share their leading bits see one count, and the order is kept whatever the rounding.
    """
    n = len(q)
    info = jnp.finfo(q.dtype)
    before = jnp.arange(n)[:, None]
    # The bound that took the largest below 1 may be four times it: an eighth of an eps is left.
    bits = np.arange(1, info.nmant + 6)

    def one_bit(low: Array, bit: Array) -> tuple[Array, None]:
        x = low + bit
        return jnp.where(_above(q, e, x) > before, x, low), None

    widths = jnp.array(np.ldexp(1.0, -bits), q.dtype)
    return jax.lax.scan(one_bit, jnp.zeros_like(q), widths, unroll=max(1, _UNROLLED // n))[0]


def _above(q: Array, e: Array, x: Array) -> Array:
    """How many singular values are larger than each of x [m, N], by the signs of LDLᵀ of BᵀB − x²I.

    The differential form of the recurrence has few rounding errors, each in one entry of B.
    """
    square = x * x
    tiny = jnp.finfo(q.dtype).tiny * 2**20
    shifted = -square
    above = jnp.zeros(x.shape, jnp.int32)
    for i in range(len(q)):
        pivot = q[i] + shifted
        pivot = jnp.where(jnp.abs(pivot) < tiny, -tiny, pivot)
        above += pivot > 0
        shifted = e[i] * (shifted / pivot) - square
    return above

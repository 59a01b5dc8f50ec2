"""What every kernel shares: exact-precision contractions, dtypes, safe division."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Accelerators default to TF32 or bfloat16 passes, which cost 6e-3 rad in an angle.
HIGHEST = jax.lax.Precision.HIGHEST


def einsum(spec: str, *operands: Array) -> Array:
    """`jnp.einsum` at the full precision of its operands on every device."""
    return jnp.einsum(spec, *operands, precision=HIGHEST)


def transpose(x: Array) -> Array:
    """Swap the last two axes."""
    return jnp.swapaxes(x, -1, -2)


def floating(name: str, x: Array, ndim: int) -> Array:
    """`x` as an array of at least `ndim` axes and at least float32.

    Raises:
        TypeError: It is not real floating point; names it.
        ValueError: It has fewer axes; names it.

    """
    x = jnp.asarray(x)
    if x.ndim < ndim:
        raise ValueError(f"`{name}` needs at least {ndim} axes, got shape {x.shape}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be real floating point, got {x.dtype}")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def default_rtol(dtype: np.dtype, r: int) -> float:
    """Relative size under which a singular value counts as zero: 4√r·eps of `dtype`."""
    return 4.0 * float(np.sqrt(max(r, 1))) * float(jnp.finfo(dtype).eps)


def widest(dtype: np.dtype) -> np.dtype:
    """float64 where it is enabled for this trace, else `dtype`."""
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64)) if dtype == np.float32 else dtype


def reciprocal(x: Array) -> Array:
    """1/x, and 0 where x is 0."""
    zero = x == 0
    return jnp.where(zero, 0, 1 / jnp.where(zero, 1, x))


def unit_columns(x: Array) -> Array:
    """Columns of x [..., d, r] scaled to norm one; zero columns stay zero."""
    # Scaling by the largest entry first keeps the squares of tiny columns from underflowing.
    x = x * reciprocal(jnp.max(jnp.abs(x), axis=-2, keepdims=True))
    return x * reciprocal(jnp.sqrt(jnp.sum(x * x, axis=-2, keepdims=True)))


def after(x: Array, done: Array) -> Array:
    """`x` unchanged, but not before `done` has been computed.

    On CPU, jaxlib spreads a batched LAPACK call over XLA's thread pool and blocks the thread it
    came on, which is one of the pool. As many such calls at a time as the pool has threads (two, on
    two cores) wait for each other for ever. So all decompositions in a program have to depend on
    each other, and where they do not by nature, this makes them. `optimization_barrier` does not
    help: it is gone before the program is scheduled. What stays is a zero that the compiler cannot
    foresee, because it is made of bits of `done`.
    """
    first = jax.lax.stop_gradient(done.astype(jnp.promote_types(done.dtype, jnp.float32)))[
        (0,) * done.ndim
    ]
    unsigned = jnp.uint32 if first.dtype.itemsize == 4 else jnp.uint64
    bits = jax.lax.bitcast_convert_type(first, unsigned)
    half = jnp.array(bits.dtype.itemsize * 4, unsigned)
    zero = jax.lax.shift_right_logical(jax.lax.shift_right_logical(bits, half), half)
    return x + zero.astype(x.dtype)


def qr(X: Array) -> tuple[Array, Array]:
    """Householder QR of [..., d, r] whose R waits for Q: they come from two calls."""
    Q, R = jnp.linalg.qr(X)
    return Q, after(R, Q)

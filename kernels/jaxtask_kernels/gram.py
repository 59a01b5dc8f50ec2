"""Gram blocks between all bases of two stacks: the one large product of a comparison."""

from jax import Array

from jaxtask_kernels._linalg import einsum, floating


def gram_blocks(X: Array, Y: Array | None = None) -> Array:
    """X_iᵀ Y_j for every i and j, as one matrix product.

    Args:
        X: [S, d, k] stack of S bases (any columns will do).
        Y: [T, d, l]; X itself when left out.

    Returns:
        [S, T, k, l], accumulated at the full precision of the inputs on every device.

    Raises:
        ValueError: The stacks do not share d.

    """
    X = floating("X", X, 3)
    Y = X if Y is None else floating("Y", Y, 3)
    if X.ndim != 3 or Y.ndim != 3 or X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"`X` [S, d, k] and `Y` [T, d, l] must share d, got {X.shape} and {Y.shape}"
        )
    return einsum("sdk,tdl->stkl", X, Y)


def gram_rows(X: Array, Y: Array) -> Array:
    """As `gram_blocks` for bases stored by rows: [S, k, d] and [T, l, d] → [S, k, T, l].

    With d innermost on both sides the product needs no copy of either operand and its result none
    at all, which is why the engine keeps its bases this way.
    """
    return einsum("skd,tld->sktl", X, Y)

"""A training batch."""

from typing import NamedTuple

from jax import Array


class Batch(NamedTuple):
    """T tasks, B rows of S places each. A row holds one example, or several packed in turn.

    Decoders leave `labels` and `types` empty. Encoders have one example per row, and the row's
    weight is ``weights[:, :, 0]``.

    Attributes:
        tokens: [T, B, S] int32.
        positions: [T, B, S] int32, the place within its example, from 0.
        segments: [T, B, S] int32, 0 = padding, 1.. = example within the row.
        weights: [T, B, S] float32, loss weight of predicting the token at this place.
        labels: [T, B] int32 class or float32 value.
        types: [T, B, S] int32 token types; None: 0 throughout.

    """

    tokens: Array
    positions: Array
    segments: Array
    weights: Array
    labels: Array | None = None
    types: Array | None = None

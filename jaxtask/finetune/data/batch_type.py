"""A training batch."""

from typing import NamedTuple

from jax import Array


class Batch(NamedTuple):
    """T tasks, B rows of S places each. A row holds one example, or several packed in turn.

    Decoders leave `labels` and `types` empty. Encoders have one example a row, and the row's weight
    is ``weights[:, :, 0]``.
    """

    tokens: Array  # [T, B, S] int32
    positions: Array  # [T, B, S] int32, the place within its example, from 0
    segments: Array  # [T, B, S] int32, 0 = padding, 1.. = example within the row
    weights: Array  # [T, B, S] float32, loss weight of predicting the token at this place
    labels: Array | None = None  # [T, B] int32 class or float32 value
    types: Array | None = None  # [T, B, S] int32 token types; None: 0 throughout

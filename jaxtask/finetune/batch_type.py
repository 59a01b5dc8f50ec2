"""One batch of T stacked tasks: what the data side hands to the models."""

from typing import NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray


class Batch(NamedTuple):
    """T tasks × B rows × S places. A row holds one example, or several packed after each other."""

    tokens: Array
    """[T, B, S] int32"""
    positions: Array
    """[T, B, S] int32, the position within its example."""
    segments: Array
    """[T, B, S] int32: 0 = padding, 1.. = the example within the row."""
    weights: Array
    """[T, B, S] float32. Decoder: the loss weight of predicting the token AT this place from those
    before it; 0 at the first token of a segment. Encoder: `weights[:, :, 0]` is the row's."""
    labels: Array | None
    """[T, B], encoders only: int32 class, or float32 regression."""

"""Which examples share a row, and in what order rows come.

Examples of an epoch are shuffled, cut into windows, and each window is packed by first fit
decreasing: longest first, each into the first row that has room. That fills rows nearly as well as
can be (never more than 11/9 of the fewest rows, plus one), where filling them in order of arrival
may leave half empty. The window bounds the time. Rows then come in the order of their first example
in the shuffle, so that long examples do not come first.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

WINDOW = 1024
"""Examples."""


def shuffled(count: int, *key: str | int) -> np.ndarray:
    """A permutation of `count` places [count] int64, a pure function of its arguments.

    Made from raw bits of a counter-based generator: NumPy promises that these stay the same over
    its versions, which it does not for permutations.
    """
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
    return np.argsort(bits, kind="stable")


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of places in `lengths`, each with a sum of at most `capacity`; no length is above it."""
    rows: list[list[int]] = []
    room = np.zeros(len(lengths), np.int64)
    for place in np.argsort(-np.asarray(lengths), kind="stable"):
        row = int(np.argmax(room[: len(rows)] >= lengths[place])) if rows else 0
        if row == len(rows) or room[row] < lengths[place]:
            row = len(rows)
            rows.append([])
            room[row] = capacity
        rows[row].append(int(place))
        room[row] -= lengths[place]
    return rows


def rows_of(
    lengths: Sequence[int], order: np.ndarray, capacity: int, packing: bool
) -> list[list[int]]:
    """The rows of one pass over all examples in `order`, as places in `lengths`."""
    if not packing:
        return [[int(place)] for place in order]
    rows: list[list[int]] = []
    for start in range(0, len(order), WINDOW):
        window = order[start : start + WINDOW]
        packed = first_fit_decreasing([lengths[place] for place in window], capacity)
        for row in sorted(sorted(members) for members in packed):
            rows.append([int(window[member]) for member in row])
    return rows

"""Numbers as text inside a page: base64 of 32-bit floats, and maps in 8 bits with their range."""

import base64
from typing import Any

import numpy as np

MISSING = 255
"""The code of a pair without a value."""


def floats(values: np.ndarray) -> str:
    """Base64 of the values as 32-bit floats, least byte first."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def pairs_of(values: np.ndarray, *, symmetric: bool) -> np.ndarray:
    """The pairs i < j of the last two axes [.., T, T] (all i ≠ j if not symmetric)."""
    tasks = values.shape[-1]
    keep = np.triu(np.ones((tasks, tasks), bool), 1) if symmetric else ~np.eye(tasks, dtype=bool)
    return values[..., keep]


def quantised(values: np.ndarray) -> tuple[np.ndarray, list[list[float] | None]]:
    """255 equal steps from the least value of each row to its largest.

    Args:
        values: [N, P], NaN (or infinite) where there is no value.

    Returns:
        Codes [N, P] uint8, with `MISSING` where there is no value, and for each row its least and
        largest value, None where it has none. A code c stands for low + (high − low)·c/254, and
        is within half a step, (high − low)/508, of the value.

    """
    codes = np.full(values.shape, MISSING, np.uint8)
    ranges: list[list[float] | None] = []
    for row, code in zip(np.asarray(values, np.float64), codes, strict=True):
        known = np.isfinite(row)
        if not known.any():
            ranges.append(None)
            continue
        low, high = float(row[known].min()), float(row[known].max())
        step = (high - low) / (MISSING - 1)
        code[known] = np.rint((row[known] - low) / step) if step > 0 else 0
        ranges.append([low, high])
    return codes, ranges


def maps(values: np.ndarray, *, symmetric: bool) -> dict[str, Any]:
    """The maps [L, M, T, T] of one variable, for the page: codes in base64, and their ranges."""
    flat = pairs_of(values.reshape(-1, *values.shape[-2:]), symmetric=symmetric)
    codes, ranges = quantised(flat)
    return {"codes": base64.b64encode(codes.tobytes()).decode("ascii"), "ranges": ranges}


def map_bytes(tasks: int, cells: int, *, symmetric: bool) -> int:
    """Characters that `maps` takes in the page."""
    return 4 * (tasks * (tasks - 1) * cells // (2 if symmetric else 1)) // 3

import numpy as np
import pytest

from jaxtask.adapters import LowRankUpdate
from jaxtask.errors import AdapterError


def test_dense_is_float64_and_scaled():
    B = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    A = np.array([[1, 0, 2, 0], [0, 3, 0, 1]], np.float32)
    dense = LowRankUpdate(B, A, scale=0.1).dense()
    assert dense.dtype == np.float64
    np.testing.assert_array_equal(dense, 0.1 * (B.astype(float) @ A.astype(float)))


def test_scale_stays_exact():
    """Folded into float32 factors, a scale such as 16/√3 would round every entry."""
    B, A = np.full((3, 1), 1 / 3, np.float32), np.ones((1, 2), np.float32)
    scale = 16 / np.sqrt(3)
    exact = LowRankUpdate(B, A, scale).dense()
    folded = LowRankUpdate((B * scale).astype(np.float32), A).dense()
    assert np.all(exact == scale * np.float64(np.float32(1 / 3)))
    assert np.all(folded != exact)


F = np.float32


@pytest.mark.parametrize(
    ("B", "A", "scale", "what"),
    [
        (np.ones((3, 2), F), np.ones((3, 4), F), 1.0, "do not chain"),
        (np.ones((3, 2), F), np.ones((2, 4)), 1.0, "expected one type"),
        (np.ones((3, 2), np.float16), np.ones((2, 4), np.float16), 1.0, "float16"),
        (np.ones((3, 2), int), np.ones((2, 4), int), 1.0, "int64"),
        (np.ones(3, F), np.ones((2, 4), F), 1.0, "two-dimensional"),
        (np.ones((3, 0), F), np.ones((0, 4), F), 1.0, "not empty"),
        ([[1.0]], np.ones((1, 4), F), 1.0, "list"),
        (np.ones((3, 2), F), np.ones((2, 4), F), np.inf, "scale is inf"),
    ],
)
def test_refused(B, A, scale, what):
    with pytest.raises(AdapterError, match=what):
        LowRankUpdate(B, A, scale)

"""Numbers in the page's text, read back by other means."""

import base64

import numpy as np
import pytest

from jaxtask.report.embed import MISSING, floats, map_bytes, maps, pairs_of, quantised


def test_floats_come_back():
    values = np.array([[1.5, np.nan], [-1e-30, 3e38]])
    back = np.frombuffer(base64.b64decode(floats(values)), "<f4")
    np.testing.assert_array_equal(back, values.astype("f4").ravel())


def test_codes_are_within_half_a_step():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 500)) * [[1e-6], [1], [1e6], [0]]
    values[1, 7] = np.nan
    codes, ranges = quantised(values)
    for row, code, (low, high) in zip(values, codes, ranges, strict=True):
        known = np.isfinite(row)
        back = low + (high - low) * code / (MISSING - 1)
        assert (code == MISSING).tolist() == (~known).tolist()
        assert np.abs(back - row)[known].max() <= (high - low) / 508 * (1 + 1e-9)


def test_a_map_without_values_has_no_range():
    codes, ranges = quantised(np.full((1, 3), np.nan))
    assert ranges == [None]
    assert (codes == MISSING).all()


@pytest.mark.parametrize("symmetric", [True, False])
def test_maps_hold_every_pair_once(symmetric):
    T = 5
    values = np.arange(2 * 3 * T * T, dtype=float).reshape(2, 3, T, T)
    found = maps(values, symmetric=symmetric)
    codes = np.frombuffer(base64.b64decode(found["codes"]), np.uint8).reshape(6, -1)
    pairs = [(i, j) for i in range(T) for j in range(T) if (i < j if symmetric else i != j)]
    assert codes.shape[1] == len(pairs)
    assert pairs_of(values[1, 2], symmetric=symmetric).tolist() == [values[1, 2][p] for p in pairs]
    low, high = found["ranges"][5]
    np.testing.assert_allclose(
        low + (high - low) * codes[5] / 254, [values[1, 2][p] for p in pairs], atol=0.05
    )
    assert len(found["codes"]) == pytest.approx(map_bytes(T, 6, symmetric=symmetric), abs=4)

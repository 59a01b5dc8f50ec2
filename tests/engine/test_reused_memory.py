"""Memory that is used again: what ends is lent anew, wherever it ends."""

import gc
import threading

import numpy as np
import pytest

from jaxtask.engine import backend
from jaxtask.engine.backend import Memory

SIZE = 1 << 20


def address(x):
    return x.__array_interface__["data"][0]


def test_is_lent_again_when_nothing_refers_to_it():
    lender = Memory()
    first = lender.empty((SIZE,), np.uint8)
    part, where = first[5:9].view(np.float32), address(first)
    del first
    other = lender.empty((SIZE,), np.uint8)
    assert address(other) != where
    del part
    assert address(lender.empty((SIZE // 8, 2), np.float32)) == where


def test_holds_no_more_than_was_lent_at_once():
    lender = Memory()
    for size in (SIZE, 2 * SIZE, 3 * SIZE):
        lender.empty((size,), np.uint8)
    held = [piece.size for piece in (*lender._free, *lender._ended)]
    assert held == [3 * SIZE]


@pytest.mark.slow
@pytest.mark.parametrize("grown", [1, 2])
def test_ends_in_a_garbage_collection_while_it_lends(grown, monkeypatch):
    """Collections begin at any allocation, also at those of the lender itself."""
    lender = Memory()

    def collecting(*arguments):
        gc.collect()
        return made(*arguments)

    made = backend.aligned_empty
    monkeypatch.setattr(backend, "aligned_empty", collecting)
    cycle = [lender.empty((SIZE,), np.uint8)]
    cycle.append(cycle)
    del cycle
    found = []
    thread = threading.Thread(
        target=lambda: found.append(lender.empty((grown * SIZE,), np.uint8)), daemon=True
    )
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert len(found) == 1
    # And what ended meanwhile is there for the next one.
    assert len(lender._ended) == 1
    lender.empty((SIZE,), np.uint8)
    assert not lender._free

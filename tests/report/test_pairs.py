"""Which pairs are shown, and the chance band of their angles."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxtask.errors import ReportError
from jaxtask.report.pairs import Bands, named_pairs, pair_vectors, telling_pairs

TASKS = ("sum", "ner", "a:b", "b")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("sum:ner", [(0, 1)]),
        ("ner:sum, sum:b", [(1, 0), (0, 3)]),
        ("a:b:sum,sum:a:b", [(2, 0), (0, 2)]),  # names may hold colons
        ("sum:ner,sum:ner", [(0, 1)]),
    ],
)
def test_named_pairs(text, pairs):
    assert named_pairs(text, TASKS) == pairs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sum", "'sum': expected two tasks with a colon"),
        ("sum:nerr", "no task 'nerr' .*did you mean 'ner'"),
        ("xyz:ner", "no task 'xyz' .*there: sum, ner, a:b, b"),
        ("sum:sum", "two different tasks"),
    ],
)
def test_pairs_that_are_none(text, words):
    with pytest.raises(ReportError, match=words):
        named_pairs(text, TASKS)


def findings(distances, direction=None, lead=None):
    """As much of them as the choice of pairs reads."""
    pooled = SimpleNamespace(values=distances, towards="small")
    held = None if direction is None else SimpleNamespace(direction=direction, lead=lead)
    return SimpleNamespace(pooled={"d": pooled}, maps=None, inclusion=held)


def test_few_pairs_are_all_shown_the_nearest_first():
    d = np.array([[0, 3, 1], [3, 0, np.nan], [1, np.nan, 0.0]])
    assert telling_pairs(findings(d)) == [(0, 2), (0, 1), (1, 2)]


def test_of_many_pairs_the_most_telling_are_shown():
    T = 9
    rng = np.random.default_rng(0)
    d = np.abs(rng.standard_normal((T, T)))
    d = d + d.T
    by_distance = sorted((d[i, j], i, j) for i in range(T) for j in range(i + 1, T))
    order = [(i, j) for _, i, j in by_distance]
    # Inclusions among the nearest, and among pairs between: only the latter are news.
    direction = np.full((T, T), "neither", dtype="<U8")
    lead = np.zeros((T, T))
    within = [order[0], *(p[::-1] for p in order[12:19])]
    for n, p in enumerate(within):
        direction[p], lead[p] = "includes", n
    found = telling_pairs(findings(d, direction, lead))
    assert found[:10] == order[:10]
    assert found[10:15] == within[:2:-1]
    assert found[15:] == order[:-6:-1]
    assert telling_pairs(findings(d))[10:] == order[:-11:-1]


def test_band_is_that_of_random_spans(result):
    bands = Bands(result)
    index = bands.of((0, 2), "out")
    assert len(index) == result.sizes["layer"] * result.sizes["module"]
    band = bands.bands[index[0]]
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.standard_normal((2, 4000, 48, 4)))[0]
    cosines = np.linalg.svd(Q[0].swapaxes(1, 2) @ Q[1], compute_uv=False)
    angles = np.arccos(np.clip(cosines, -1, 1))
    np.testing.assert_allclose(band["mean"], angles.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(band["low"], np.quantile(angles, 0.025, axis=0), atol=0.03)
    np.testing.assert_allclose(band["high"], np.quantile(angles, 0.975, axis=0), atol=0.03)
    narrow = bands.bands[bands.of((0, 3), "in")[0]]
    assert len(narrow["mean"]) == 2


def test_vectors_of_pairs(result):
    found = pair_vectors(result, "projected", [(0, 3), (3, 0)])
    expected = result["projected"].isel(source=[0, 3], target=[3, 0]).values
    np.testing.assert_array_equal(found[0], expected[:, :, 0, 0])
    np.testing.assert_array_equal(found[1], expected[:, :, 1, 1])

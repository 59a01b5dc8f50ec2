"""Permutation tests of groups, against sums written out and all labelings by itertools."""

from itertools import permutations

import numpy as np
import pytest

from jaxtask.analysis.groups import group_of, permanova, separation, silhouette
from jaxtask.errors import AnalysisError


def pseudo_f(D, labels):
    """Anderson 2001, equations for SS_T and SS_W, pair by pair."""
    T, groups = len(labels), sorted(set(labels))
    total = sum(D[i, j] ** 2 for i in range(T) for j in range(i + 1, T)) / T
    within = 0.0
    for g in groups:
        own = [i for i in range(T) if labels[i] == g]
        within += sum(D[i, j] ** 2 for i in own for j in own if i < j) / len(own)
    return ((total - within) / (len(groups) - 1)) / (within / (T - len(groups))), 1 - within / total


def euclidean(points):
    return np.linalg.norm(points[:, None] - points, axis=-1)


def test_it_is_the_definition_over_all_labelings():
    D = euclidean(np.random.default_rng(0).standard_normal((7, 2)))
    labels = tuple("aabbbca")
    F, R2 = pseudo_f(D, labels)
    every = set(permutations(labels))
    apart = silhouette(D, labels).mean()
    test = permanova(D, labels)
    assert test.exact
    assert test.permutations == len(every) - 1
    np.testing.assert_allclose([test.F, test.R2], [F, R2])
    assert test.p == np.mean([pseudo_f(D, code)[0] >= F - 1e-9 for code in every])
    tighter = [silhouette(D, code).mean() >= apart - 1e-12 for code in every]
    assert test.silhouette_p == pytest.approx(np.mean(tighter))


def test_permutations_come_near_to_all_labelings():
    D = euclidean(np.random.default_rng(1).standard_normal((9, 2)))
    labels = list("aaabbbccc")
    exact, some = permanova(D, labels), permanova(D, labels, permutations=1000)
    assert exact.exact
    assert not some.exact
    assert some.permutations == 1000
    assert some.p == pytest.approx(exact.p, abs=4 * (exact.p / 1000) ** 0.5)
    assert some == permanova(D, labels, permutations=1000)


def test_planted_groups_are_found_and_others_are_not():
    rng = np.random.default_rng(2)
    points = rng.standard_normal((12, 5))
    labels = ["ling"] * 6 + ["count"] * 6
    assert permanova(euclidean(points), labels).p > 0.05
    points[:6] += 2
    test = permanova(euclidean(points), labels)
    assert test.p < 0.005
    assert test.silhouette_p < 0.005


def test_p_is_uniform_without_groups():
    rng = np.random.default_rng(3)
    labels = list("aaaabbbb")
    p = [permanova(euclidean(rng.standard_normal((8, 3))), labels).p for _ in range(200)]
    for level in (0.1, 0.25, 0.5):
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=0.11)


def test_equal_tasks_have_no_f():
    test = permanova(np.zeros((4, 4)), list("aabb"))
    assert test.p == 1
    assert np.isnan(test.R2)


def test_means_within_and_between():
    D = euclidean(np.array([[0.0], [1], [10], [12]]))
    found = separation(D, "d", dict(zip("wxyz", "aabb", strict=True)), 99, 0)
    assert found.within == {"a": 1.0, "b": 2.0}
    assert found.between == pytest.approx((10 + 12 + 9 + 11) / 4)
    assert found.mean_silhouette == pytest.approx(found.silhouette.mean())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ["ner"], "b": ["summ"]}, "no task 'summ' in the result; did you mean 'sum'"),
        ({"a": ["ner"], "b": ["zzz"]}, "there: ner, sum, srl"),
        ({"a": ["ner", "sum"], "b": ["sum"]}, "task 'sum' is in groups 'a' and 'b'"),
        ({"a": ["ner", "ner"], "b": ["sum"]}, "task 'ner' is in group 'a' twice"),
        ({"a": ["ner", "sum"]}, "found 1 with tasks in it, expected two or more"),
        ({"a": ["ner"], "b": ["sum"]}, "every group has one task"),
    ],
)
def test_groups_that_do_not_fit(groups, message):
    with pytest.raises(AnalysisError, match=message.replace("(", r"\(")):
        group_of(groups, ["ner", "sum", "srl"])

"""Groups of tasks, against sums written out."""

import numpy as np

from jaxtask.analysis import silhouette


def by_hand(D, groups):
    found = []
    for i, own in enumerate(groups):
        mates = [D[i, j] for j, g in enumerate(groups) if g == own and j != i]
        rest = [
            np.mean([D[i, j] for j, g in enumerate(groups) if g == other])
            for other in set(groups) - {own}
        ]
        if not mates:
            found.append(0.0)
            continue
        a, b = np.mean(mates), min(rest)
        found.append((b - a) / max(a, b) if max(a, b) else 0.0)
    return np.array(found)


def distances(points):
    return np.linalg.norm(points[:, None] - points, axis=-1)


def test_it_is_the_definition():
    D = distances(np.random.default_rng(0).standard_normal((9, 3)))
    groups = list("aabbbccca")
    np.testing.assert_allclose(silhouette(D, groups), by_hand(D, groups), atol=1e-15)


def test_groups_apart_and_mixed():
    D = distances(np.array([[0.0], [1], [100], [101]]))
    assert silhouette(D, list("aabb")).min() > 0.98
    assert silhouette(D, list("abab")).max() < 0


def test_a_task_alone_and_equal_tasks_count_nothing():
    D = distances(np.array([[0.0], [0], [0], [5]]))
    np.testing.assert_array_equal(silhouette(D, list("aabc"))[[2, 3]], 0)
    np.testing.assert_array_equal(silhouette(np.zeros((4, 4)), list("aabb")), 0)

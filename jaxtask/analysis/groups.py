"""Whether groups of tasks lie apart."""

from collections.abc import Sequence

import numpy as np


def silhouette(distances: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """How much nearer each task is to its own group than to the next one, [T], from −1 to 1.

    (b − a)/max(a, b), with a the mean distance to the others of its group and b the least mean
    distance to another group; 0 for a task alone in its group (Rousseeuw 1987).

    Args:
        distances: [T, T], symmetric.
        groups: The group of each task, two or more different ones.

    """
    labels = np.asarray(groups)
    own = labels[:, None] == labels
    others = own & ~np.eye(len(labels), dtype=bool)
    a = np.sum(distances, axis=1, where=others) / np.maximum(others.sum(axis=1), 1)
    means = np.stack([distances[:, labels == g].mean(axis=1) for g in np.unique(labels)])
    b = np.min(means, axis=0, where=np.unique(labels)[:, None] != labels, initial=np.inf)
    larger = np.maximum(a, b)
    return np.where(others.any(axis=1) & (larger > 0), (b - a) / np.where(larger > 0, larger, 1), 0)

"""Whether groups of tasks lie apart."""

import difflib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from jaxtask.errors import AnalysisError

# Labelings at a time.
_BATCH = 512


def group_of(groups: Mapping[str, Sequence[str]], tasks: Sequence[str]) -> dict[str, str]:
    """The group of each task that has one.

    Args:
        groups: Tasks by group.
        tasks: All there are.

    Raises:
        AnalysisError: A task is unknown or in two groups, there are fewer than two groups, or none
            has two tasks.

    """
    found: dict[str, str] = {}
    for group, members in groups.items():
        for task in members:
            if task not in tasks:
                near = difflib.get_close_matches(str(task), tasks, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there: {', '.join(tasks)}"
                raise AnalysisError(f"group {group!r}: no task {task!r} in the result; {hint}")
            if task in found:
                where = (
                    f"groups {found[task]!r} and {group!r}"
                    if found[task] != group
                    else (f"group {group!r} twice")
                )
                raise AnalysisError(f"task {task!r} is in {where}, expected one group per task")
            found[task] = group
    if len(set(found.values())) < 2:
        raise AnalysisError(
            f"groups: found {len(set(found.values()))} with tasks in it, expected two or more"
        )
    sizes = Counter(found.values())
    if sizes and max(sizes.values()) < 2:
        raise AnalysisError("groups: every group has one task, expected two or more in one of them")
    return found


def silhouette(distances: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """How much nearer each task is to its own group than to the next one, [T], from −1 to 1.

    (b − a)/max(a, b), with a the mean distance to the others of its group and b the least mean
    distance to another group; 0 for a task alone in its group (Rousseeuw 1987).

    Args:
        distances: [T, T], symmetric.
        groups: The group of each task, two or more different ones.

    """
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    return _silhouettes(distances, codes[None])[0]


def _silhouettes(distances: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Silhouettes [B, T] under B labelings [B, T] of the same group sizes."""
    member = codes[:, :, None] == np.arange(codes.max() + 1)
    sizes = member[0].sum(axis=0)
    sums = distances @ member.astype(float)
    own = np.take_along_axis(sums, codes[:, :, None], axis=2)[..., 0]
    alone = sizes[codes] == 1
    a = own / np.maximum(sizes[codes] - 1, 1)
    b = np.min(np.where(member, np.inf, sums / sizes), axis=2)
    larger = np.maximum(a, b)
    return np.where(alone | (larger <= 0), 0, (b - a) / np.where(larger > 0, larger, 1))


@dataclass(frozen=True)
class Permanova:
    """Permutation tests of whether groups of tasks lie apart.

    Attributes:
        F: Anderson's pseudo-F.
        R2: Share of the summed squared distances that lies between the groups.
        p: How often labels at random give F at least as large.
        silhouette_p: The same of the mean silhouette.
        permutations: Labelings that were looked at, the given one not counted.
        exact: They are all that there are.

    """

    F: float
    R2: float
    p: float
    silhouette_p: float
    permutations: int
    exact: bool


def permanova(
    distances: np.ndarray, groups: Sequence[str], permutations: int = 9999, seed: int = 0
) -> Permanova:
    """Anderson's PERMANOVA (Austral Ecology 26, 2001) and the mean silhouette, by permutation.

    With N tasks in a groups, SS_total = Σ_{i<j} d²/N, SS_within = Σ_g Σ_{i<j in g} d²/n_g, and
    F = (SS_total − SS_within)/(a − 1) / (SS_within/(N − a)). p = (1 + labelings with F at least as
    large)/(1 + labelings); where fewer labelings than `permutations` exist, all are looked at once
    and p is exact.

    Args:
        distances: [T, T], symmetric, finite.
        groups: The group of each task: two or more, and fewer than there are tasks.
        permutations: Labelings to look at if there are more.
        seed: Random seed for the permutations.

    """
    _, labels = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(labels)
    T, a = len(labels), len(sizes)
    squared = distances**2
    total = squared.sum() / (2 * T)

    def within(codes: np.ndarray) -> np.ndarray:
        member = (codes[:, :, None] == np.arange(a)).astype(float)
        inside = np.einsum("big,big->bg", squared @ member, member)
        return (inside / (2 * sizes)).sum(axis=1)

    def mean_silhouette(codes: np.ndarray) -> np.ndarray:
        return _silhouettes(distances, codes).mean(axis=1)

    here, apart = within(labels[None])[0], mean_silhouette(labels[None])[0]
    count = exceeding = tighter = 0
    exact = _labelings(sizes) - 1 <= permutations
    every = _all(labels) if exact else _some(labels, permutations, seed)
    slack = 1e-12 * max(total, 1e-300)
    for codes in every:
        count += len(codes)
        # F falls as SS_within grows; rounding must not tell equal labelings apart.
        exceeding += int((within(codes) <= here + slack).sum())
        tighter += int((mean_silhouette(codes) >= apart - 1e-12).sum())
    between = total - here
    F = (between / (a - 1)) / (here / (T - a)) if here > 0 else math.inf
    return Permanova(
        F=float(F),
        R2=float(between / total) if total > 0 else math.nan,
        p=(1 + exceeding) / (1 + count),
        silhouette_p=(1 + tighter) / (1 + count),
        permutations=count,
        exact=exact,
    )


@dataclass(frozen=True)
class Separation:
    """Whether groups of tasks lie apart, by one distance.

    Attributes:
        tasks: Those that have a group, N of them.
        silhouette: [N], from −1 to 1.
        within: Mean distance within each group, NaN for a group of one.
        between: Mean distance between tasks of different groups.

    """

    variable: str
    tasks: tuple[str, ...]
    silhouette: np.ndarray
    mean_silhouette: float
    within: Mapping[str, float]
    between: float
    test: Permanova


def separation(
    distances: np.ndarray, variable: str, groups: Mapping[str, str], permutations: int, seed: int
) -> Separation:
    """Silhouettes, mean distances and permutation tests.

    Args:
        distances: [N, N], symmetric, finite, of the tasks in `groups`, in that order.
        variable: Name of the distance.
        groups: The group of each task.
        permutations: See `permanova`.
        seed: Random seed for the permutations.

    """
    labels = np.array(list(groups.values()))
    same = labels[:, None] == labels
    others = ~np.eye(len(labels), dtype=bool)
    within = {}
    for group in dict.fromkeys(groups.values()):
        own = distances[same & others & (labels == group)[:, None]]
        within[group] = float(own.mean()) if own.size else math.nan
    found = silhouette(distances, list(labels))
    return Separation(
        variable=variable,
        tasks=tuple(groups),
        silhouette=found,
        mean_silhouette=float(found.mean()),
        within=within,
        between=float(distances[~same].mean()),
        test=permanova(distances, list(labels), permutations, seed),
    )


def _labelings(sizes: np.ndarray) -> int:
    """Distinct ways of giving these labels to the tasks."""
    found = math.factorial(int(sizes.sum()))
    for size in sizes:
        found //= math.factorial(int(size))
    return found


def _some(labels: np.ndarray, permutations: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for start in range(0, permutations, _BATCH):
        size = min(_BATCH, permutations - start)
        yield rng.permuted(np.tile(labels, (size, 1)), axis=1)


def _all(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Every distinct labeling but the given one, in batches."""
    batch = []
    for codes in _arrangements(np.full(len(labels), -1), 0, np.bincount(labels)):
        if not np.array_equal(codes, labels):
            batch.append(codes)
        if len(batch) == _BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _arrangements(codes: np.ndarray, group: int, sizes: np.ndarray) -> Iterator[np.ndarray]:
    if group == len(sizes):
        yield codes
        return
    free = np.flatnonzero(codes < 0)
    for chosen in combinations(free, int(sizes[group])):
        given = codes.copy()
        given[list(chosen)] = group
        yield from _arrangements(given, group + 1, sizes)

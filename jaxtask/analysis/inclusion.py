"""Whether one task includes another: how much of the target the source's spaces and spectrum hold.

The score of an ordered pair is the mean of three parts, as far as they are known, each 0 at the
null mean and 1 where the target lies wholly in the source:

    energy      (E − E_chance)/(1 − E_chance), the share of ‖ΔW₂‖² that the source's spaces catch
    rec         (REC − REC_chance)/(1 − REC_chance)
    residual    1 − residual/residual_chance

The direction is decided by the energy alone where it is known. REC and the residual depend on how
the singular pairs lie to each other, also where one space holds all of the other, and so differ
both ways for equal spaces with unequal spectra; the energy is then 1 both ways.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxtask.analysis.calibration import Calibration, Pairs
from jaxtask.analysis.significance import adjusted, interval

ENERGIES = ("energy_core", "energy_out", "energy_in")
"""Which energy is used, the first that there is."""

# Of the larger of the two: a lead below this share counts as none.
_MARGIN = 0.05
# Share of the way from the null mean to all of the target, below which tasks are not called equal.
_ENOUGH = 0.8


@dataclass(frozen=True)
class Inclusion:
    """What includes what. Matrices are [T, T], rows are sources, NaN on the diagonal.

    Attributes:
        score: Mean of the parts.
        parts: Pooled parts by variable: 0 at the null mean, 1 where the target lies wholly in the
            source.
        difference: score(i → j) − score(j → i).
        low: 95% interval of the difference, resampled over `resampled`.
        p: One-sided p-value of the part that decides.
        p_adjusted: The same, adjusted over all ordered pairs by Benjamini and Hochberg.
        lead: The difference of the part that decides.
        direction: "includes" (the source the target), "included", "equal", "neither"; "" on the
            diagonal.
        decided_by: The variable whose calibrated form decides the direction.
        resampled: "layers", "cells" (too few layers) or "nothing" (one cell, no intervals).
        edges: (including, included), by number: the significant inclusions, see `inclusion_graph`.
            Tasks that are equal or include each other in a circle stand in a circle of edges, and
            the first of them has the edges of all.
        classes: Those circles.

    """

    score: np.ndarray
    parts: Mapping[str, np.ndarray]
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    p_adjusted: np.ndarray
    lead: np.ndarray
    lead_low: np.ndarray
    lead_high: np.ndarray
    direction: np.ndarray
    decided_by: str
    resampled: str
    edges: tuple[tuple[int, int], ...]
    classes: tuple[tuple[int, ...], ...]


def inclusion(
    parts: Mapping[str, Calibration],
    pairs: Pairs,
    *,
    level: float = 0.05,
    resamples: int = 1000,
    seed: int = 0,
) -> Inclusion:
    """Scores, directions and the graph of inclusions.

    "includes": the interval of the lead lies wholly above 0 by more than 5% of the larger value,
    and what the source holds exceeds the null (after Benjamini and Hochberg). "included": the
    same the other way. "equal": neither leads, and both hold at least four fifths of what there
    is to hold beyond the null mean. "neither": all else.

    Args:
        parts: Parts by variable; energies decide, see `ENERGIES`.
        pairs: All ordered pairs.
        level: Significance level.
        resamples: Bootstrap resamples for the intervals.
        seed: Random seed for the intervals.

    """
    T = pairs.tasks
    number = np.empty((T, T), int)
    number[pairs.i, pairs.j] = np.arange(len(pairs.i))
    back = number[pairs.j, pairs.i]
    cells = {name: c.calibrated_cells for name, c in parts.items()}
    known = {name: c for name, c in cells.items() if c is not None}
    stacked = np.stack(list(known.values()))
    count = np.isfinite(stacked).sum(axis=0)
    total = np.nansum(stacked, axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    decided_by = next((name for name in ENERGIES if name in known), next(iter(known)))
    options = {"resamples": resamples, "seed": seed}
    low, high, resampled = interval(mean - mean[..., back], **options)
    decisive = known[decided_by]
    lead_low, lead_high, _ = interval(decisive - decisive[..., back], **options)

    pooled = {name: np.asarray(parts[name].calibrated) for name in known}
    score = _mean_of(list(pooled.values()))
    held = pooled[decided_by]
    lead = held - held[back]
    p = parts[decided_by].pooled_p
    p_adjusted = adjusted(p)
    better = p_adjusted <= level
    margin = _MARGIN * np.maximum(held, held[back])
    surely = np.where(np.isfinite(lead_low), lead_low, lead)
    ahead = (surely > margin) & better
    behind = ahead[back]
    equal = ~ahead & ~behind & (np.minimum(held, held[back]) >= _ENOUGH) & better & better[back]
    words = np.where(ahead, "includes", np.where(behind, "included", "neither"))
    words = np.where(equal, "equal", words)
    direction = np.full((T, T), "", dtype="<U8")
    direction[pairs.i, pairs.j] = words
    edges, classes = inclusion_graph(direction, pairs.square(held))
    square = pairs.square
    return Inclusion(
        score=square(score),
        parts={name: square(values) for name, values in pooled.items()},
        difference=square(score - score[back]),
        low=square(low),
        high=square(high),
        p=square(p),
        p_adjusted=square(p_adjusted),
        lead=square(lead),
        lead_low=square(lead_low),
        lead_high=square(lead_high),
        direction=direction,
        decided_by=decided_by,
        resampled=resampled,
        edges=edges,
        classes=classes,
    )


def inclusion_graph(
    direction: np.ndarray, held: np.ndarray
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, ...], ...]]:
    """The inclusions that do not follow from others, a transitive reduction.

    An edge is left out if steps lead to its end of which each holds as much as it does (less 5%).
    Where all hold everything, that is the usual reduction (Aho, Garey, Ullman 1972); steps that
    hold little do not make up for an edge that holds much.

    Args:
        direction: [T, T] as in `Inclusion`.
        held: [T, T] how much of the target the source holds.

    Returns:
        Edges and classes, as in `Inclusion`.

    """
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(direction)))
    graph.add_edges_from(np.argwhere((direction == "includes") | (direction == "equal")).tolist())
    members = sorted(sorted(own) for own in nx.strongly_connected_components(graph))
    N = len(members)
    direct = np.full((N, N), -np.inf)
    known = np.where(direction == "includes", held, -np.inf)
    for a, b in np.ndindex(N, N):
        if a != b:
            direct[a, b] = known[np.ix_(members[a], members[b])].max()
    widest = direct.copy()  # the least that a way's steps hold, for the best way
    for x in range(N):
        widest = np.maximum(widest, np.minimum(widest[:, x, None], widest[None, x]))
    by_steps = np.full((N, N), -np.inf)
    for x in range(N):
        by_steps = np.maximum(by_steps, np.minimum(direct[:, x, None], widest[None, x]))
    own = np.isfinite(direct) & (by_steps < direct - _MARGIN * np.abs(direct))
    edges = [(members[a][0], members[b][0]) for a, b in np.argwhere(own)]
    classes = [tuple(tasks) for tasks in members if len(tasks) > 1]
    for tasks in classes:
        edges += zip(tasks, tasks[1:] + tasks[:1], strict=True)
    return tuple(sorted(edges)), tuple(classes)


def _mean_of(values: list[np.ndarray]) -> np.ndarray:
    stacked = np.stack(values)
    count = np.isfinite(stacked).sum(axis=0)
    return np.where(count > 0, np.nansum(stacked, axis=0) / np.maximum(count, 1), np.nan)

"""Which pairs of tasks are looked at one by one, and what is kept of them."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.analysis.null_samples import random_angles
from jaxtask.analysis.result_view import updates_of
from jaxtask.errors import ReportError

if TYPE_CHECKING:
    import xarray as xr

    from jaxtask.analysis.findings import Findings

MOST = 20
_NEAREST, _INCLUDING = 10, 5
SIDES = ("out", "in")
# What holds 95% of the draws.
_BAND = (0.025, 0.975)

Pair = tuple[int, int]


def named_pairs(text: str, tasks: Sequence[str]) -> list[Pair]:
    """The pairs of a list such as "sum:ner,coref:srl".

    Raises:
        ReportError: A part is no pair, names a task that is not there, or one task twice.

    """
    known = {name: n for n, name in enumerate(tasks)}
    pairs = []
    for part in (p.strip() for p in text.split(",")):
        # Task names may hold a colon: every split that gives two known names will do.
        splits = [(part[:n], part[n + 1 :]) for n, c in enumerate(part) if c == ":"]
        if not splits:
            raise ReportError(f"pair {part!r}: expected two tasks with a colon, such as sum:ner")
        names = next((s for s in splits if s[0] in known and s[1] in known), splits[0])
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, tasks, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"there: {', '.join(tasks)}"
                raise ReportError(f"pair {part!r}: no task {name!r} in this result ({hint})")
        if names[0] == names[1]:
            raise ReportError(f"pair {part!r}: expected two different tasks")
        pairs.append((known[names[0]], known[names[1]]))
    return list(dict.fromkeys(pairs))


def telling_variable(findings: "Findings") -> str:
    """The variable by which pairs are near or far: that of the maps, or the first that says so."""
    if findings.maps is not None:
        return findings.maps.variable
    names = findings.pooled
    return next((name for name in names if names[name].towards is not None), next(iter(names)))


def telling_pairs(findings: "Findings") -> list[Pair]:
    """The pairs that are shown if nobody chooses: all, or the twenty most telling.

    Those are the ten nearest ones by `telling_variable`, the five of which one includes the other
    by the largest lead (the including task comes first), and the farthest ones.
    """
    pooled = findings.pooled[telling_variable(findings)]
    d = -pooled.values if pooled.towards == "large" else pooled.values
    i, j = np.triu_indices(len(d), 1)
    order = np.argsort(np.where(np.isfinite(d[i, j]), d[i, j], np.inf), kind="stable")
    nearest_first = [(int(i[n]), int(j[n])) for n in order]
    if len(nearest_first) <= MOST:
        return nearest_first
    chosen = nearest_first[:_NEAREST]
    directed = [p for p in _directed(findings) if tuple(sorted(p)) not in chosen]
    chosen += directed[:_INCLUDING]
    taken = {tuple(sorted(p)) for p in chosen}
    farthest = [p for p in reversed(nearest_first) if np.isfinite(d[p]) and p not in taken]
    return chosen + farthest[: MOST - len(chosen)]


def _directed(findings: "Findings") -> list[Pair]:
    """Pairs (i, j) where i includes j, the clearest first."""
    inclusion = findings.inclusion
    if inclusion is None:
        return []
    i, j = np.nonzero(inclusion.direction == "includes")
    order = np.argsort(-inclusion.lead[i, j], kind="stable")
    return [(int(i[n]), int(j[n])) for n in order]


def angle_sides(ds: "xr.Dataset") -> tuple[str, ...]:
    """The sides whose principal angles were kept."""
    return tuple(side for side in SIDES if f"angles_{side}" in ds)


def has_spectra(ds: "xr.Dataset") -> bool:
    """Whether S₁ and S₂ were kept."""
    return "projected" in ds and "spectra" in ds


def pair_vectors(ds: "xr.Dataset", name: str, pairs: Sequence[Pair]) -> np.ndarray:
    """One kept vector (angles or projected spectrum) of some ordered pairs.

    Returns:
        [P, L, M, r] float32, NaN beyond each rank.

    """
    # A module at a time: a result on disk is stored so, and may be larger than memory.
    i, j = np.array(pairs).T
    sizes = tuple(ds.sizes[dim] for dim in ("layer", "module"))
    found = np.empty((len(pairs), *sizes, ds.sizes["component"]), np.float32)
    for layer, module in np.ndindex(sizes):
        values = ds[name].isel(layer=layer, module=module)
        found[:, layer, module] = values.transpose("source", "target", "component").values[i, j]
    return found


class Bands:
    """Between what bounds the principal angles of random spans lie, for every shape that occurs."""

    def __init__(self, ds: "xr.Dataset") -> None:
        updates = updates_of(ds)
        self._rank = updates.rank
        self._dims = {"out": updates.d_out, "in": updates.d_in}
        self._index: dict[tuple[int, int, int], int] = {}
        self.bands: list[dict[str, list[float]]] = []
        """Of each shape that was asked for: "low", "mean" and "high" of every angle, ascending."""

    def of(self, pair: Pair, side: str) -> list[int | None]:
        """Which band belongs to each cell (layer × module); None where a task or a size lacks."""
        n, rank = self._dims[side], self._rank[..., list(pair)]
        return [
            self._band(int(n[at]), *sorted(map(int, rank[at])))
            if np.isfinite([n[at], *rank[at]]).all() and rank[at].min() > 0
            else None
            for at in np.ndindex(n.shape)
        ]

    def _band(self, n: int, k: int, l: int) -> int:  # noqa: E741
        if (n, k, l) not in self._index:
            angles = random_angles(n, k, l)
            low, high = np.quantile(angles, _BAND, axis=0)
            self._index[n, k, l] = len(self.bands)
            parts: dict[str, Any] = {"low": low, "mean": angles.mean(axis=0), "high": high}
            self.bands.append({name: x.round(5).tolist() for name, x in parts.items()})
        return self._index[n, k, l]

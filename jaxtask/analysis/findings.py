"""From a result to findings: what stands out, tested against null models. Pure data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.analysis.calibration import (
    Calibration,
    Pairs,
    Towards,
    calibrate,
    cells_of,
    norms_of,
    pairs_of,
    towards_of,
)
from jaxtask.analysis.caveats import check_result, few_layers, shared_start, told
from jaxtask.analysis.groups import Separation, group_of, separation
from jaxtask.analysis.inclusion import ENERGIES, Inclusion, inclusion
from jaxtask.analysis.maps import Maps, make_maps
from jaxtask.analysis.null_models import expected, metric_of
from jaxtask.analysis.pooling import Weights, check_weights, pool, poolable
from jaxtask.analysis.result_view import Updates, updates_of
from jaxtask.analysis.significance import discoveries, layer_interval
from jaxtask.errors import AnalysisError, shown
from jaxtask.metrics import METRICS
from jaxtask.text_files import parse_json

if TYPE_CHECKING:
    import xarray as xr

# Variables whose agreement over pairs is told.
_COMPARED = ("grassmann_out", "grassmann_in", "cosine", "overlap_out", "rec", "energy_core")


@dataclass(frozen=True)
class Pooled:
    """One pair variable, pooled. All [T, T], rows are sources.

    All but `values` are NaN on the diagonal. `chance` and what follows is None without a null
    distribution.

    Attributes:
        low: 95% interval, layers drawn with replacement; NaN with fewer than two layers.
        towards: Which values say that two tasks are alike, where they say anything of it.
        chance: Null mean: the expectation for a random target of the same dimensions, rank and
            norm.
        sd: Standard deviation of that.
        z: (values − chance)/sd.
        p: P-value: how often the null is at least as similar; two-sided where `towards` is None.
        calibrated: Mean over the cells of (null mean − value)/(null mean − value of equal updates):
            0 at the null mean, 1 for equal updates (nested ones for spaces of unequal rank).

    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    towards: Towards | None
    chance: np.ndarray | None = None
    sd: np.ndarray | None = None
    z: np.ndarray | None = None
    p: np.ndarray | None = None
    calibrated: np.ndarray | None = None


@dataclass(frozen=True)
class CellTests:
    """The cells (layer, module, pair) of one variable, each tested against the null distribution.

    Attributes:
        significant: After Benjamini and Hochberg over all cells.
        share: [L, M] share of significant cells; NaN where none is tested.

    """

    tested: int
    significant: int
    share: np.ndarray
    level: float


@dataclass(frozen=True)
class Findings:
    """What a result says. T tasks, L layers, M module types.

    Attributes:
        groups: Group of each task that has one.
        about: Sizes, settings and provenance.
        pooled: Pooled numbers by pair variable.
        cells: Tests of single cells, by pair variable with a null distribution.
        profiles: Profiles by pair variable, [L, M]: means over the pairs of different tasks.
        chance_profiles: The same for the null means.
        agreement: Spearman's rank correlation of two pooled variables over pairs of tasks.
        notes: What a reader must know.

    """

    tasks: tuple[str, ...]
    groups: Mapping[str, str] | None
    about: Mapping[str, Any]
    pooled: Mapping[str, Pooled]
    cells: Mapping[str, CellTests]
    separation: Separation | None
    inclusion: Inclusion | None
    maps: Maps | None
    profiles: Mapping[str, np.ndarray]
    chance_profiles: Mapping[str, np.ndarray]
    agreement: Mapping[tuple[str, str], float]
    notes: tuple[str, ...]


def analyze(
    ds: "xr.Dataset",
    groups: Mapping[str, Sequence[str]] | None = None,
    *,
    distance: str | None = None,
    weights: Weights = "equal",
    seed: int = 0,
    permutations: int = 9999,
    resamples: int = 1000,
    level: float = 0.05,
) -> Findings:
    """Pool and test a result: groups, inclusion, maps and notes.

    Args:
        ds: A result of `compare`.
        groups: Tasks by group; whether the groups are separated is tested.
        distance: The symmetric variable that groups and maps are of; "grassmann_out" or the first
            distance that there is by default.
        weights: Weights of layers and modules, see `pool`.
        seed: Random seed for everything that is drawn.
        permutations: Permutations of the group labels.
        resamples: Bootstrap resamples of the layers.
        level: Significance level.

    Raises:
        AnalysisError: There are fewer than two adapters, no module that two of them have, or no
            metric that can be pooled; groups do not fit; a variable is asked for that the result
            does not have.

    """
    check_weights(weights)
    tasks = tuple(str(t) for t in ds["source"].values)
    updates = updates_of(ds)
    notes = check_result(ds, tasks, updates)
    own_groups = None if groups is None else group_of(groups, tasks)
    main = _distance(ds, distance, needed=groups is not None)
    calibrations: dict[str, Calibration] = {}
    pooled: dict[str, Pooled] = {}
    profiles: dict[str, np.ndarray] = {}
    reasons: dict[str, list[str]] = {}
    for name in poolable(ds):
        pairs = pairs_of(ds, name)
        values = cells_of(ds, name, pairs)
        norms = norms_of(updates, pairs, weights)
        low, high = layer_interval(values, norms, resamples=resamples, seed=seed)
        null = expected(ds, name, updates)
        chance = None
        if isinstance(null, str):
            reasons.setdefault(null, []).append(name)
        else:
            chance = calibrations[name] = calibrate(null, values, pairs, norms, seed)
        pooled[name] = _pooled(ds, name, weights, pairs, (low, high), chance)
        profiles[name] = _over_pairs(values)
    start = shared_start(calibrations)
    kept = any(f"{name}_chance" in ds for name in calibrations)
    shared = start is not None and start.detected
    if start is not None and shared:
        notes.append(told(start, kept))
    if kept:
        notes.append(
            "The null model of metrics of both sides draws output sides at random and holds the "
            "input sides fixed."
        )
    elif updates.flat and calibrations.keys() & {"cosine", *ENERGIES}:
        notes.append(
            "The null model of metrics that read both sides assumes flat spectra, since the result "
            "has none; real ones vary more: `jaxtask compare … --keep spectra`."
        )
    notes += [
        f"No null distribution of {', '.join(names)}: {why}." for why, names in reasons.items()
    ]
    # A shared start alone lifts the energy of both sides above a null that does not have it.
    energies = ("energy_out",) if shared and not kept else ENERGIES
    holds = _inclusion(calibrations, ds, energies, level, resamples, seed, notes)
    apart = None
    if own_groups is not None and main is not None:
        matrix = pooled[main].values
        apart = _separation(main, matrix, tasks, own_groups, permutations, seed, notes)
    notes += few_layers(ds, "layers" if holds is None else holds.resampled)
    return Findings(
        tasks=tasks,
        groups=own_groups,
        about=_about(ds, updates)
        | {"weights": weights, "seed": seed, "resamples": resamples, "level": level},
        pooled=pooled,
        cells={name: _cell_tests(c, level) for name, c in calibrations.items()},
        separation=apart,
        inclusion=holds,
        maps=_maps(main, pooled, notes),
        profiles=profiles,
        chance_profiles={name: _over_pairs(c.mean) for name, c in calibrations.items()},
        agreement=_agreement(pooled),
        notes=tuple(notes),
    )


def check_origin(findings: Findings, ds: "xr.Dataset") -> None:
    """Check that findings are of this result.

    Raises:
        AnalysisError: If they were made of another one: other adapters, numbers or settings.

    """
    tasks = tuple(str(t) for t in ds["source"].values)
    own = {**_about(ds, updates_of(ds)), "names": tasks, "variables": tuple(poolable(ds))}
    its = {**findings.about, "names": findings.tasks, "variables": tuple(findings.pooled)}
    for key, expected_value in own.items():
        if (found := its.get(key)) != expected_value:
            raise AnalysisError(
                f"the findings are of another result: {key}: found {shown(found, 80)}, expected "
                f"{shown(expected_value, 80)}; run `jaxtask analyze` on this one"
            )


def distances(ds: "xr.Dataset") -> list[str]:
    """The symmetric variables that groups and maps can be of, the first to be preferred."""
    return [
        f"{m.name}_{side}"
        for side in ("out", "in")
        for m in METRICS.values()
        if m.sided and m.symmetric and m.pooled and towards_of(m.name) == "small"
        and f"{m.name}_{side}" in ds
    ]  # fmt: skip


def _distance(ds: "xr.Dataset", asked: str | None, *, needed: bool) -> str | None:
    known = distances(ds)
    if asked is not None and asked not in known:
        stem = asked.removesuffix("_out").removesuffix("_in")
        raise AnalysisError(
            f"the result has no distance {asked!r} (there: {', '.join(known) or 'none'}); "
            f"`jaxtask compare … --metrics {stem if stem in METRICS else 'grassmann'}` computes it"
        )
    if not known and needed:
        raise AnalysisError(
            "groups need a distance between tasks, and the result has none: "
            "`jaxtask compare … --metrics grassmann` computes one"
        )
    return asked or next(iter(known), None)


def _pooled(
    ds: "xr.Dataset",
    name: str,
    weights: Weights,
    pairs: Pairs,
    bounds: tuple[np.ndarray, np.ndarray],
    chance: Calibration | None,
) -> Pooled:
    metric = metric_of(ds, name)
    plain = Pooled(
        values=pool(ds, name, weights).values.astype(float),
        low=pairs.square(bounds[0]),
        high=pairs.square(bounds[1]),
        towards=towards_of(None if metric is None else metric.name),
    )
    if chance is None:
        return plain
    spread = np.where(chance.pooled_sd > 0, chance.pooled_sd, np.nan)
    return replace(
        plain,
        chance=pairs.square(chance.pooled_mean),
        sd=pairs.square(chance.pooled_sd),
        z=pairs.square((chance.pooled - chance.pooled_mean) / spread),
        p=pairs.square(chance.pooled_p),
        calibrated=None if chance.calibrated is None else pairs.square(chance.calibrated),
    )


def _over_pairs(values: np.ndarray) -> np.ndarray:
    """[L, M] means over pairs, NaN where there are none."""
    known = np.isfinite(values)
    count = known.sum(axis=2)
    total = np.sum(values, axis=2, where=known)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _cell_tests(chance: Calibration, level: float) -> CellTests:
    tested = np.isfinite(chance.p)
    found = discoveries(chance.p, level)
    count = tested.sum(axis=2)
    share = np.where(count > 0, found.sum(axis=2) / np.maximum(count, 1), np.nan)
    return CellTests(int(tested.sum()), int(found.sum()), share, level)


def _inclusion(
    calibrations: Mapping[str, Calibration],
    ds: "xr.Dataset",
    energies: Sequence[str],
    level: float,
    resamples: int,
    seed: int,
    notes: list[str],
) -> Inclusion | None:
    energy = [name for name in energies if name in calibrations][:1]
    parts = {
        name: calibrations[name]
        for name in (*energy, "rec", "residual")
        if name in calibrations and calibrations[name].calibrated is not None
    }
    missing = [name for name in (energies[0], "rec", "residual") if name not in parts]
    if missing:
        lacking = ", ".join(missing)
        what = "Inclusion was not tested" if not parts else "Inclusion was tested"
        notes.append(
            f"{what} without {lacking}: `jaxtask compare … --metrics {energies[0]},rec,residual "
            "--keep spectra` computes all parts."
        )
    if not parts:
        return None
    pairs = pairs_of(ds, next(iter(parts)))
    return inclusion(parts, pairs, level=level, resamples=resamples, seed=seed)


def _separation(
    variable: str,
    d: np.ndarray,
    tasks: Sequence[str],
    groups: Mapping[str, str],
    permutations: int,
    seed: int,
    notes: list[str],
) -> Separation | None:
    own = [n for n, task in enumerate(tasks) if task in groups]
    if left := [task for task in tasks if task not in groups]:
        notes.append(f"In no group, and left out of the test of groups: {', '.join(left)}.")
    square = d[np.ix_(own, own)]
    lacking = np.argwhere(~np.isfinite(square))
    if len(lacking):
        i, j = (tasks[own[n]] for n in lacking[0])
        notes.append(f"Groups were not tested: {i} and {j} have no module in common.")
        return None
    named = {tasks[n]: groups[tasks[n]] for n in own}
    return separation(square, variable, named, permutations, seed)


def _maps(main: str | None, pooled: Mapping[str, Pooled], notes: list[str]) -> Maps | None:
    if main is None:
        notes.append(
            "There are no maps, since the result has no distance: "
            "`jaxtask compare … --metrics grassmann` computes one."
        )
        return None
    return make_maps(pooled[main].values, main)


def _agreement(pooled: Mapping[str, Pooled]) -> dict[tuple[str, str], float]:
    from scipy.stats import rankdata

    found = {}
    for a, b in combinations([name for name in _COMPARED if name in pooled], 2):
        x, y = pooled[a].values, pooled[b].values
        both = np.isfinite(x) & np.isfinite(y) & ~np.eye(len(x), dtype=bool)
        ranks = rankdata(x[both]), rankdata(y[both])
        varies = both.sum() > 2 and min(map(np.ptp, ranks)) > 0
        found[a, b] = float(np.corrcoef(*ranks)[0, 1]) if varies else float("nan")
    return found


def _about(ds: "xr.Dataset", updates: Updates) -> dict[str, Any]:
    """Sizes and provenance of a result."""
    attrs = dict(ds.attrs)
    # What only results on disk have.
    for name in ("variables", "digests", "format"):
        attrs.pop(name, None)
    for name in ("adapters", "versions"):
        attrs[name] = parse_json(attrs.get(name, "{}"), f"attribute {name}", AnalysisError)
    return {
        "tasks": ds.sizes["source"],
        "layers": [int(layer) for layer in ds["layer"].values],
        "modules": [str(module) for module in ds["module"].values],
        "updates_sha256": updates.sha256,
        **attrs,
    }

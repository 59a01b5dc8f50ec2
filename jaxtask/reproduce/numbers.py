"""One seed's numbers that the summary speaks of, as JSON-able data."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.errors import ExperimentError
from jaxtask.reproduce.experiment import Experiment
from jaxtask.reproduce.published import COLUMNS, DISTANCE
from jaxtask.text_files import read_object

if TYPE_CHECKING:
    import xarray as xr

    from jaxtask.analysis.findings import Findings


def losses(adapters: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Steps of every adapter, and its loss per token on held-out examples before and after."""
    found = {}
    for name in names:
        file = adapters / name / "jaxtask.json"
        about = read_object(file, ExperimentError)
        try:
            dev = about["dev_loss"]
            found[name] = {"steps": about["steps"], "before": dev["before"], "after": dev["last"]}
        except (KeyError, TypeError) as error:
            raise ExperimentError(
                f"{file}: does not record the losses of a run: {error}"
            ) from error
    return found


def numbers(ds: "xr.Dataset", findings: "Findings", experiment: Experiment) -> dict[str, Any]:
    """What a result and its findings say of the questions that an experiment asks."""
    distances = findings.pooled[DISTANCE].values
    where = {name: n for n, name in enumerate(findings.tasks)}
    return {
        "separation": _separation(findings, experiment),
        "corpora": _corpora(experiment, distances, where),
        "twins": _twins(experiment, distances, where),
        "agreement": {
            b if a == DISTANCE else a: _number(value)
            for (a, b), value in findings.agreement.items()
            if DISTANCE in (a, b)
        },
        "table": [_row(findings, where[i], where[j]) for i, j in permutations(experiment.table, 2)],
        "directions": _directions(ds, findings, experiment),
        "inclusion": _inclusion(findings, experiment, where),
        "notes": list(findings.notes),
    }


def _separation(findings: "Findings", experiment: Experiment) -> dict[str, Any] | None:
    """Whether the groups lie apart."""
    found = findings.separation
    if found is None:
        return None
    own = dict(zip(found.tasks, found.silhouette, strict=True))
    return {
        "variable": found.variable,
        "silhouette": _number(found.mean_silhouette),
        "silhouette_p": _number(found.test.silhouette_p),
        "F": _number(found.test.F),
        "R2": _number(found.test.R2),
        "p": _number(found.test.p),
        "groups": {
            group: float(np.mean([own[name] for name in names]))
            for group, names in experiment.groups.items()
        },
        "within": {group: _number(value) for group, value in found.within.items()},
        "between": _number(found.between),
    }


def _corpora(
    experiment: Experiment, d: np.ndarray, where: Mapping[str, int]
) -> dict[str, Any] | None:
    """Whether adapters lie together by corpus rather than by group."""
    from jaxtask.analysis.groups import permanova

    corpus_of = {name: key for key, corpus in experiment.corpora.items() for name in corpus.names}
    group_of = experiment.group_of
    if len(experiment.corpora) < 2 or group_of is None:
        return None
    test = permanova(d, [corpus_of[name] for name in where])
    means: dict[str, list[float]] = {}
    for one, other in combinations(where, 2):
        kind = "same" if group_of[one] == group_of[other] else "other"
        home = "same" if corpus_of[one] == corpus_of[other] else "other"
        means.setdefault(f"{kind} group, {home} corpus", []).append(d[where[one], where[other]])
    return {
        "R2": test.R2,
        "p": test.p,
        "mean_distance": {key: float(np.mean(values)) for key, values in sorted(means.items())},
    }


def _twins(experiment: Experiment, d: np.ndarray, where: Mapping[str, int]) -> list[dict[str, Any]]:
    """Tasks that are built on two corpora: the how-many-th nearest of each is the other."""
    homes: dict[str, list[str]] = {}
    for corpus in experiment.corpora.values():
        for task, name in zip(corpus.tasks, corpus.names, strict=True):
            homes.setdefault(task, []).append(name)
    found = []
    for names in homes.values():
        for one, other in permutations(names, 2):
            row = np.delete(d[where[one]], where[one])
            nearer = int(np.sum(row < d[where[one], where[other]]))
            found.append({"of": one, "twin": other, "place": 1 + nearer, "others": len(row)})
    return found


def _row(findings: "Findings", i: int, j: int) -> dict[str, Any]:
    """One pair of the table: each number, its null mean and p-value."""
    row: dict[str, Any] = {"source": findings.tasks[i], "target": findings.tasks[j]}
    row |= {"chance": {}, "p": {}}
    for column in COLUMNS:
        pooled = findings.pooled[column]
        row[column] = _number(pooled.values[i, j])
        if pooled.chance is not None:
            row["chance"][column] = _number(pooled.chance[i, j])
        if pooled.p is not None:
            row["p"][column] = _number(pooled.p[i, j])
    return row


def _directions(
    ds: "xr.Dataset", findings: "Findings", experiment: Experiment
) -> list[dict[str, Any]]:
    """By how much i → j is above j → i, raw, and above the null mean where the result has it."""
    found = []
    for column in COLUMNS:
        cells, beyond = ds[column].astype(float), None
        # What does not depend on the target has its own value as null mean.
        if f"{column}_chance" in ds and findings.pooled[column].chance is not None:
            # Cell by cell, so that differences in the null mean between layers widen no interval.
            beyond = cells - ds[f"{column}_chance"]
        for one, other in permutations(experiment.table, 2):
            found.append(
                {
                    "column": column,
                    "source": one,
                    "target": other,
                    **_lead(cells, one, other),
                    "beyond_chance": None if beyond is None else _lead(beyond, one, other),
                }
            )
    return found


def _lead(cells: "xr.DataArray", one: str, other: str) -> dict[str, float | None]:
    """Pooled one → other less other → one, with its 95% interval over layers."""
    from jaxtask.analysis.significance import interval

    there, back = (
        cells.sel(source=i, target=j, drop=True) for i, j in ((one, other), (other, one))
    )
    lead = there - back
    low, high, _ = interval(lead.transpose("layer", "module").values[..., None])
    return {
        "difference": _number(lead.mean("layer").mean("module").item()),
        "low": _number(low[0]),
        "high": _number(high[0]),
    }


def _inclusion(
    findings: "Findings", experiment: Experiment, where: Mapping[str, int]
) -> dict[str, Any] | None:
    found = findings.inclusion
    if found is None:
        return None
    pairs = []
    for one, other in permutations(experiment.table, 2):
        i, j = where[one], where[other]
        pairs.append(
            {
                "source": one,
                "target": other,
                "score": _number(found.score[i, j]),
                "difference": _number(found.difference[i, j]),
                "low": _number(found.low[i, j]),
                "high": _number(found.high[i, j]),
                "lead": _number(found.lead[i, j]),
                "lead_low": _number(found.lead_low[i, j]),
                "lead_high": _number(found.lead_high[i, j]),
                "direction": str(found.direction[i, j]),
                "parts": {name: _number(part[i, j]) for name, part in found.parts.items()},
            }
        )
    names = findings.tasks
    return {
        "decided_by": found.decided_by,
        "pairs": pairs,
        "edges": [[names[i], names[j]] for i, j in found.edges],
    }


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None

"""What the sections of the page say in words, and why one has nothing to show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.report import summary
from jaxtask.report.graph import layered
from jaxtask.report.pairs import MOST, Pair, angle_sides, has_spectra
from jaxtask.report.talk import COLUMNS, default_pairs, talk_cell, talk_rows

if TYPE_CHECKING:
    import xarray as xr

    from jaxtask.analysis.findings import Findings

SECTIONS = {
    "overview": "Overview",
    "matrix": "Matrix of tasks",
    "maps": "Maps",
    "clusters": "Clusters",
    "inclusion": "Inclusion",
    "pairs": "Pairs",
    "layers": "Layers",
    "table": "Spectral projection",
    "provenance": "Provenance",
}
"""Headings by the names that links and scripts know them by."""

# Names in one sentence, and of one class of equal tasks.
_LISTED, _EQUAL = 12, 4
# Settings of a result, and what they are called; what is longer than a line has a table.
_ABOUT = {
    "base_model": "base model",
    "command": "command",
    "convention": "convention",
    "dtype": "precision",
    "padding": "unequal ranks count",
    "rank_rtol": "zero singular values, below",
    "sides": "sides",
    "keep": "kept",
    "device": "device",
    "native": "native library",
    "kernels": "computed by",
    "weights": "weights of modules",
    "level": "level of significance",
    "resamples": "draws of layers",
    "seed": "seed",
    "versions": "versions",
}


def texts(
    ds: "xr.Dataset", findings: "Findings", pairs: Sequence[Pair], with_maps: Sequence[str]
) -> dict[str, Any]:
    """Everything that the template says, apart from what the scripts say.

    Args:
        ds: A result of `compare`.
        findings: What was found in it.
        pairs: Those that are shown one by one.
        with_maps: Variables whose single layers and modules are in the page.

    """
    return {
        "title": "How these tasks relate",
        "subtitle": _subtitle(findings),
        "headings": SECTIONS,
        "overview": list(summary.sections(findings)),
        "matrix_text": _left_out(findings, with_maps),
        **_maps(findings),
        **_inclusion(findings),
        "pairs_text": _pairs(findings, pairs),
        "angle_sides": angle_sides(ds),
        "angles_absent": None if angle_sides(ds) else _absent("The principal angles", "angles"),
        "spectra_absent": None if has_spectra(ds) else _absent("The spectra S1, S2", "spectra"),
        **_table(findings),
        "provenance": list(_provenance(findings.about)),
        "adapters": _adapters(findings),
    }


def _subtitle(findings: "Findings") -> str:
    about = findings.about
    base = about.get("base_model") or "a base model that is not named"
    return (
        f"{len(findings.tasks)} tasks, by their adapters on {_count(about['layers'], 'layer')} and "
        f"{_count(about['modules'], 'module type')} of {base}"
    )


def _count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _absent(what: str, keep: str) -> str:
    return f"{what} of pairs are not in this result: jaxtask compare … --keep {keep} keeps them."


def _left_out(findings: "Findings", with_maps: Sequence[str]) -> str:
    if len(with_maps) == len(findings.pooled):
        return ""
    return (
        f"Single layers and modules are in this page for {', '.join(with_maps) or 'no variable'}, "
        f"of {len(findings.pooled)} variables in all; jaxtask report … --maps chooses which."
    )


def _maps(findings: "Findings") -> dict[str, Any]:
    made = findings.maps
    if made is None:
        absent = (
            "The result has no distance for maps of the tasks: "
            "jaxtask compare … --metrics grassmann computes one."
        )
        return {"maps_absent": absent, "pca_text": "", "mds_text": "", "tree_text": ""}
    rest = (
        f" Pairs without a distance, drawn at a mean distance: {made.filled}."
        if made.filled
        else ""
    )
    if findings.groups:
        rest = f" Colours and shapes are the groups.{rest}"
    fits = "" if np.isnan(made.cophenetic) else f"; cophenetic correlation {made.cophenetic:.2f}"
    return {
        "maps_absent": None,
        "pca_text": f"PCA: rows of the pooled {made.variable} as features.{rest}",
        "mds_text": f"Classical scaling of the pooled {made.variable}: stress {made.stress:.2f}, "
        f"negative eigenvalues {abs(made.mds_negative):.0%} of all.{rest}",
        "tree_text": f"Joined by {made.method} linkage of the pooled {made.variable}{fits}.{rest}",
    }


def _inclusion(findings: "Findings") -> dict[str, Any]:
    found = findings.inclusion
    if found is None:
        absent = (
            "Inclusion was not tested: jaxtask compare … --metrics energy_core,rec,residual --keep "
            "spectra computes what it is made of."
        )
        return {"inclusion_absent": absent, "inclusion_drawn": False, "inclusion_text": ""}
    names = findings.tasks
    equal = "".join(f" Equal: {_listed([names[n] for n in own], _EQUAL)}." for own in found.classes)
    layout = layered(found)
    if layout is None:
        none = f"No task was found to include another more than the reverse.{equal}"
        return {"inclusion_absent": None, "inclusion_drawn": False, "inclusion_text": none}
    drawn = {task for node in layout.nodes for task in node.tasks}
    left = [name for n, name in enumerate(names) if n not in drawn]
    alone = f" Without an arrow: {_listed(left)}." if left else ""
    return {
        "inclusion_absent": None,
        "inclusion_drawn": True,
        "inclusion_text": "An arrow leads from a task to one that it includes; those that follow "
        f"from others are left out.{equal}{alone}",
    }


def _listed(names: Sequence[str], most: int = _LISTED) -> str:
    """Names in words, the first ones if there are many."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _pairs(findings: "Findings", pairs: Sequence[Pair]) -> str:
    T = len(findings.tasks)
    if len(pairs) == T * (T - 1) // 2:
        return "All pairs, the nearest first." if len(pairs) > 1 else "The one pair there is."
    if len(pairs) == MOST:
        return (
            "The most telling pairs: the ten nearest, up to five of which one includes the other, "
            "and the farthest. jaxtask report … --pairs A:B,C:D shows others."
        )
    return "The chosen pairs."


def _table(findings: "Findings") -> dict[str, Any]:
    lacking = [name for name in COLUMNS if name not in findings.pooled]
    if lacking:
        metrics = ",".join(COLUMNS)
        absent = (
            f"Without {', '.join(lacking)} there is no such table: jaxtask compare … --metrics "
            f"{metrics} computes all columns."
        )
        return {"table": None, "table_absent": absent}
    rows = talk_rows(findings, default_pairs(findings))
    titles = list(rows[0])[2:]
    table = {
        "title": "The target's update, projected on the source's singular directions: pooled "
        "distance and overlap of the spectra, and their entropies",
        "columns": ["source → target", *titles],
        "rows": [
            [f"{row['source']} → {row['target']}", *(talk_cell(float(row[t])) for t in titles)]
            for row in rows
        ],
    }
    return {"table": table, "table_absent": None}


def _provenance(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, name in _ABOUT.items():
        value = about.get(key)
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        if value not in (None, ""):
            yield name, str(value)


def _adapters(findings: "Findings") -> dict[str, Any] | None:
    """What was compared, a row an adapter; None where the result does not tell."""
    adapters = findings.about.get("adapters", {}).get("adapters", [])
    if not adapters:
        return None
    rows = []
    for adapter in adapters:
        modules = adapter["modules"].values()
        ranks, scalings = (
            ", ".join(f"{x:g}" for x in sorted({x for m in modules for x in m[key]}))
            for key in ("ranks", "scalings")
        )
        told = adapter.get("approximate") or ", ".join(adapter.get("notes", [])) or "–"
        source = str(adapter["source"] or "–")
        rows.append([adapter["name"], adapter["format"], ranks, scalings, source, told])
    return {
        "title": f"The {len(rows)} adapters",
        "columns": ["task", "format", "rank", "scaling", "file", "note"],
        "rows": rows,
    }

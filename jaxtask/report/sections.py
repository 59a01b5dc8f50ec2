"""What the sections of the page say in words, and why one has nothing to show."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.report.pairs import MOST, Pair, angle_sides

if TYPE_CHECKING:
    import xarray as xr

    from jaxtask.analysis.findings import Findings

SECTIONS = (
    ("overview", "Overview"),
    ("matrix", "Matrix of tasks"),
    ("maps", "Maps"),
    ("clusters", "Clusters"),
    ("inclusion", "Inclusion"),
    ("pairs", "Pairs"),
    ("layers", "Layers"),
    ("table", "Spectral projection"),
    ("provenance", "Provenance"),
)
_KEEP = (
    "Not in this result: jaxtask compare … --keep angles,spectra computes what is shown here ({})."
)


def texts(ds: "xr.Dataset", findings: "Findings", pairs: Sequence[Pair]) -> dict[str, Any]:
    """Everything that the template says, apart from what is drawn."""
    sides = angle_sides(ds)
    spectra = "projected" in ds and "spectra" in ds
    return {
        "title": "How these tasks relate",
        "subtitle": _subtitle(ds, findings),
        "sections": SECTIONS,
        "overview": [],
        "overview_tables": [],
        "notes": findings.notes,
        **_maps(findings),
        **_inclusion(findings),
        "pairs_text": _pairs(findings, pairs),
        "angle_sides": sides,
        "angles_absent": None if sides else _KEEP.format("principal angles"),
        "spectra_absent": None if spectra else _KEEP.format("the spectra S1 and S2"),
        "talk_table": None,
        "table_text": "",
        "table_absent": "TODO",
        "provenance": _provenance(ds, findings),
        "adapters": _adapters(ds),
    }


def _subtitle(ds: "xr.Dataset", findings: "Findings") -> str:
    sizes = ds.sizes
    return (
        f"{len(findings.tasks)} tasks, compared by their LoRA adapters on {sizes['layer']} layers "
        f"and {sizes['module']} module types of {ds.attrs.get('base_model') or 'an unnamed base'}."
    )


def _maps(findings: "Findings") -> dict[str, Any]:
    made = findings.maps
    filled = (
        f" {made.filled} pairs without a distance were given a mean one." if made.filled else ""
    )
    groups = " Colours and shapes are the groups." if findings.groups else ""
    fits = "" if np.isnan(made.cophenetic) else f"; cophenetic correlation {made.cophenetic:.2f}"
    return {
        "maps_absent": None,
        "pca_text": f"PCA of the pooled {made.variable}: its rows as features.{groups}{filled}",
        "mds_text": f"Classical scaling of the pooled {made.variable}: stress {made.stress:.2f}, "
        f"negative eigenvalues {abs(made.mds_negative):.0%} of all.{groups}{filled}",
        "tree_text": f"Tasks joined by {made.method} linkage of the pooled {made.variable}{fits}."
        f"{groups}{filled}",
    }


def _inclusion(findings: "Findings") -> dict[str, Any]:
    inclusion = findings.inclusion
    if inclusion is None:
        return {
            "inclusion_absent": "Not in this result: jaxtask compare … --metrics energy_core,rec,"
            "residual computes what inclusion is made of.",
            "inclusion_drawn": False,
            "inclusion_text": "",
        }
    equal = "".join(f" Equal: {' = '.join(own)}." for own in inclusion.classes)
    if not inclusion.edges:
        none = f"No task was found to include another.{equal}"
        return {"inclusion_absent": None, "inclusion_drawn": False, "inclusion_text": none}
    joined = {task for edge in inclusion.edges for task in edge}
    joined |= {task for own in inclusion.classes if own[0] in joined for task in own}
    left = [task for task in findings.tasks if task not in joined]
    alone = f" In no inclusion: {', '.join(left)}." if left else ""
    return {
        "inclusion_absent": None,
        "inclusion_drawn": True,
        "inclusion_text": "An arrow leads from a task to one that it includes; what follows from "
        f"other arrows is left out.{equal}{alone}",
    }


def _pairs(findings: "Findings", pairs: Sequence[Pair]) -> str:
    T = len(findings.tasks)
    if len(pairs) == T * (T - 1) // 2:
        return f"All {len(pairs)} pairs, the nearest first." if len(pairs) > 1 else "The one pair."
    if len(pairs) == MOST:
        return (
            "The most telling pairs: the ten nearest, up to five with the clearest direction of "
            "inclusion, and the farthest. jaxtask report … --pairs A:B,C:D shows others."
        )
    return f"{len(pairs)} chosen pairs."


def _provenance(ds: "xr.Dataset", findings: "Findings") -> list[tuple[str, str]]:
    return [(k, v if isinstance(v, str) else json.dumps(v)) for k, v in findings.about.items()]


def _adapters(ds: "xr.Dataset") -> dict[str, Any] | None:
    """The adapters that were compared, as a table; None where the result does not tell them."""
    told = ds.attrs.get("adapters")
    return None if told is None else {"title": "Adapters", "columns": ("task",), "rows": ()}

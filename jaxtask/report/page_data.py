"""What the scripts of the page read: everything that is drawn, as JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.analysis.pooling import FIRST
from jaxtask.report.embed import floats, map_bytes, maps, pairs_of
from jaxtask.report.graph import layered
from jaxtask.report.pairs import Bands, Pair, angle_sides, has_spectra, pair_vectors

if TYPE_CHECKING:
    import xarray as xr

    from jaxtask.analysis.findings import Findings, Pooled

MAP_BYTES = 5_000_000
"""Room in the page for the maps of single layers and modules."""
_POOLED = ("values", "chance", "z", "p", "low", "high")


def page_data(
    ds: "xr.Dataset", findings: "Findings", pairs: Sequence[Pair], with_maps: Sequence[str]
) -> dict[str, Any]:
    """All that is drawn.

    Args:
        ds: A result of `compare`.
        findings: What was found in it.
        pairs: Those whose spectra are shown.
        with_maps: Variables whose values of single layers and modules are in the page.

    """
    groups = findings.groups
    return {
        "tasks": list(findings.tasks),
        "groups": [groups.get(t, "no group") for t in findings.tasks] if groups else None,
        "layers": ds["layer"].values.tolist(),
        "modules": [str(m) for m in ds["module"].values],
        "variables": [_variable(ds, findings, name, with_maps) for name in findings.pooled],
        **_maps(findings),
        "graph": _graph(findings),
        **_pairs(ds, pairs),
    }


def mapped_variables(ds: "xr.Dataset", names: Sequence[str]) -> list[str]:
    """As many of these variables as have room, the ones that are looked at first before others."""
    order = [n for n in FIRST if n in names] + [n for n in names if n not in FIRST]
    cells, room, chosen = ds.sizes["layer"] * ds.sizes["module"], MAP_BYTES, []
    for name in order:
        size = map_bytes(ds.sizes["source"], cells, symmetric=_symmetric(ds, name))
        if size <= room:
            room -= size
            chosen.append(name)
    return chosen


def _symmetric(ds: "xr.Dataset", name: str) -> bool:
    return bool(ds[name].attrs.get("symmetric", False))


def _variable(
    ds: "xr.Dataset", findings: "Findings", name: str, with_maps: Sequence[str]
) -> dict[str, Any]:
    metric, _, side = name.rpartition("_")
    sided = side in ("out", "in")
    symmetric = _symmetric(ds, name)
    pooled = findings.pooled[name]
    made: dict[str, Any] = {
        "name": name,
        "metric": metric if sided else name,
        "side": side if sided else "",
        "title": ds[name].attrs.get("long_name", ""),
        "symmetric": symmetric,
        "similar": pooled.towards,
        "pooled": _pooled(pooled, symmetric),
        "profile": _profile(findings, name),
    }
    if name in with_maps:
        values = ds[name].transpose("layer", "module", "source", "target").values
        made["maps"] = maps(values, symmetric=symmetric)
    return made


def _pooled(pooled: "Pooled", symmetric: bool) -> dict[str, Any]:
    """The parts that are there; one number where all pairs have the same."""
    parts: dict[str, Any] = {}
    for part in _POOLED:
        values = getattr(pooled, part)
        if values is None:
            continue
        flat = pairs_of(np.asarray(values, np.float32), symmetric=symmetric)
        if np.isfinite(flat).any():
            same = np.isfinite(flat).all() and np.ptp(flat) == 0
            parts[part] = float(flat[0]) if same and part != "values" else floats(flat)
    parts.setdefault("values", floats(pairs_of(pooled.values, symmetric=symmetric)))
    return parts


def _profile(findings: "Findings", name: str) -> dict[str, Any]:
    parts = {"values": findings.profiles.get(name), "chance": findings.chance_profiles.get(name)}
    return {part: None if x is None else plain(x.ravel()) for part, x in parts.items()}


def _maps(findings: "Findings") -> dict[str, Any]:
    made = findings.maps
    if made is None:
        return {"maps": None, "tree": None, "order": None}
    from scipy.cluster.hierarchy import dendrogram

    tree = dendrogram(made.linkage, no_plot=True)
    joins = [
        # SciPy sets leaf n at 10·n + 5.
        {"height": plain(height), "place": plain((np.array(place) - 5) / 10)}
        for height, place in zip(tree["dcoord"], tree["icoord"], strict=True)
    ]
    return {
        "maps": {
            "variable": made.variable,
            **{
                part: plain(getattr(made, part))
                for part in ("pca", "pca_shares", "mds", "mds_shares")
            },
        },
        "tree": {"joins": joins, "order": tree["leaves"]},
        "order": made.order.tolist(),
    }


def _graph(findings: "Findings") -> dict[str, Any] | None:
    """The inclusion graph, or None where no task includes another."""
    layout = layered(findings.inclusion)
    if layout is None:
        return None
    nodes = [{"tasks": node.tasks, "column": node.column, "row": node.row} for node in layout.nodes]
    return {"nodes": nodes, "edges": layout.edges}


def _pairs(ds: "xr.Dataset", pairs: Sequence[Pair]) -> dict[str, Any]:
    made: list[dict[str, Any]] = [
        {"tasks": list(pair), "angles": {}, "bands": {}, "projected": None} for pair in pairs
    ]
    bands = Bands(ds)
    for side in angle_sides(ds):
        kept = pair_vectors(ds, f"angles_{side}", pairs)
        for one, pair, angles in zip(made, pairs, kept, strict=True):
            one["angles"][side] = floats(angles)
            one["bands"][side] = bands.of(pair, side)
    spectra: dict[int, str] = {}
    if has_spectra(ds):
        back = [(j, i) for i, j in pairs]
        both = [pair_vectors(ds, "projected", way) for way in (pairs, back)]
        for one, *ways in zip(made, *both, strict=True):
            one["projected"] = [floats(way) for way in ways]
        own = ds["spectra"].transpose("task", "layer", "module", "component")
        spectra = {
            n: floats(own.isel(task=n).values) for n in sorted({n for p in pairs for n in p})
        }
    return {
        "pairs": made,
        "bands": bands.bands,
        "spectra": spectra,
        "components": ds.sizes.get("component", 0),
    }


def plain(values: Any) -> Any:
    """Lists of numbers of six digits, None where there is no number: what JSON can hold."""
    array = np.asarray(values, np.float64)
    if array.ndim > 1:
        return [plain(row) for row in array]
    return [float(f"{x:.6g}") if np.isfinite(x) else None for x in array]

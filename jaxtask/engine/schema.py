"""The shape of a result: its coordinates, its variables, and the attributes of each variable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxtask.adapters import AdapterBank, ModuleKey, ModuleShape
from jaxtask.engine.spec import ComparisonSpec

PAIR = ("layer", "module", "source", "target")
TASK = ("layer", "module", "task")
MODULE = ("layer", "module")


@dataclass(frozen=True)
class Variable:
    """One variable of a result, before it has any numbers."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """Coordinates and variables of a result."""

    coords: Mapping[str, Sequence[Any]]
    variables: Mapping[str, Variable]

    @property
    def component(self) -> int:
        """Entries of kept vectors, the largest rank; 0 if none are kept."""
        return len(self.coords.get("component", ()))

    def where(self, key: ModuleKey) -> tuple[int, int]:
        """Indices (layer, module) of one module's numbers."""
        layer, module = key
        return list(self.coords["layer"]).index(layer), list(self.coords["module"]).index(module)


def layout(bank: AdapterBank, spec: ComparisonSpec) -> Layout:
    """What comparing `bank` will give."""
    rank = max(bank.shape(key).rank for key in bank.modules)
    coords: dict[str, Sequence[Any]] = {
        "layer": sorted({key.layer for key in bank.modules}),
        "module": sorted({key.module for key in bank.modules}),
        "source": bank.tasks,
        "target": bank.tasks,
        "task": bank.tasks,
    }
    if spec.vectors() or "spectra" in spec.keep:
        coords["component"] = range(rank)
    float_ = np.dtype(spec.dtype)
    variables: dict[str, Variable] = {}

    def add(name: str, dims: tuple[str, ...], dtype: np.dtype, **attrs: Any) -> None:
        shape = tuple(len(coords[d]) for d in dims)
        variables[name] = Variable(dims, shape, dtype, attrs)

    for name, metric in spec.variables().items():
        add(
            name,
            PAIR,
            float_,
            long_name=metric.summary,
            symmetric=metric.symmetric,
            pooled=metric.pooled,
        )
    for name, what in spec.null_variables().items():
        add(name, PAIR, float_, long_name=what)
    for name in spec.vectors():
        add(name, (*PAIR, "component"), float_, long_name=_VECTORS[name.split("_")[0]])
    if "spectra" in spec.keep:
        add("spectra", (*TASK, "component"), np.dtype("f8"), long_name="singular values of ΔW")
    add("frobenius", TASK, np.dtype("f8"), long_name="‖ΔW‖_F")
    add("rank", TASK, np.dtype("f8"), long_name="numerical rank of ΔW")
    add(
        "gap",
        TASK,
        np.dtype("f8"),
        long_name="least relative gap of the spectrum: at 0, S₂ is not unique",
    )
    add("d_out", MODULE, np.dtype("f8"), long_name="rows of ΔW, the dimension of outputs")
    add("d_in", MODULE, np.dtype("f8"), long_name="columns of ΔW, the dimension of inputs")
    add("valid", PAIR, np.dtype(bool), long_name="both updates exist and neither is zero")
    return Layout(coords, variables)


_VECTORS = {
    "angles": "principal angles in radians, ascending",
    "projected": "S₂: the target's spectral projection on the source",
}


def values(
    pairs: Mapping[str, np.ndarray],
    rank: np.ndarray,
    spectra: np.ndarray,
    shape: ModuleShape,
    spec: ComparisonSpec,
    component: int,
) -> dict[str, np.ndarray]:
    """One module's numbers by variable; NaN where a task lacks it.

    Args:
        pairs: [T, T] or [T, T, r] of every pair variable, source first.
        rank: [T] float64
        spectra: [T, r] float64, zero from each rank on.
        shape: Shape of the module, with the padded rank r.
        spec: What was computed.
        component: Entries that kept vectors are padded to with NaN.

    """
    live = rank > 0
    found = {
        **pairs,
        "frobenius": np.where(np.isnan(rank), np.nan, np.linalg.norm(spectra, axis=1)),
        "rank": rank,
        "gap": _least_gap(spectra, rank),
        "d_out": np.array(shape.d_out, float),
        "d_in": np.array(shape.d_in, float),
        "valid": live[:, None] & live,
    }
    if "spectra" in spec.keep:
        found["spectra"] = np.where(np.arange(shape.rank) < rank[:, None], spectra, np.nan)
    for name in (*spec.vectors(), *(["spectra"] if "spectra" in spec.keep else [])):
        short = component - found[name].shape[-1]
        widths = [(0, 0)] * (found[name].ndim - 1) + [(0, short)]
        found[name] = np.pad(found[name], widths, constant_values=np.nan)
    return found


def _least_gap(s: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Min over neighbours of (s_k − s_{k+1})/s_k among the live values; 1 with fewer than two."""
    pairs = np.arange(s.shape[1] - 1) < rank[:, None] - 1
    first = np.where(pairs, s[:, :-1], 1)
    gaps = np.where(pairs, (first - s[:, 1:]) / first, 1)
    return np.where(np.isnan(rank), np.nan, np.min(gaps, axis=1, initial=1))

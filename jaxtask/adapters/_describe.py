"""A bank as JSON-able data, for people and for `jaxtask inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxtask.adapters.keys import strip_wrappers

if TYPE_CHECKING:
    from jaxtask.adapters.adapter import Adapter
    from jaxtask.adapters.bank import AdapterBank


def describe_bank(bank: AdapterBank) -> dict[str, Any]:
    """``base_model``, ``tasks``, ``modules`` (how many), ``notes``, and one entry an adapter."""
    return {
        "base_model": bank.base_model,
        "tasks": list(bank.tasks),
        "modules": len(bank.modules),
        "notes": list(bank.notes),
        "adapters": [describe_adapter(adapter) for adapter in bank.adapters],
    }


def describe_adapter(adapter: Adapter) -> dict[str, Any]:
    """Name, base and provenance, and for each module type what its layers look like.

    ``modules`` maps a module type to its ``layers``, and to the distinct ``shapes`` (d_out × d_in),
    ``ranks``, ``scalings`` and ``dtypes`` (as stored) over those layers; and, for a difference of
    checkpoints, to the least and largest share of ‖ΔW‖² that the factors hold, ``kept``.
    """
    extracted = adapter.provenance.get("extracted", {}).get("modules", {})
    modules: dict[str, dict[str, Any]] = {}
    seen = set()  # most layers are alike
    for key, shape in adapter.modules.items():
        entry = adapter.entry(key)
        group = modules.setdefault(
            key.module,
            {"layers": [], "shapes": [], "ranks": [], "scalings": [], "dtypes": []},
        )
        group["layers"].append(key.layer)
        if told := extracted.get(strip_wrappers(entry.path)):
            least, largest = group.get("kept", (1.0, 0.0))
            group["kept"] = [min(least, told["kept"]), max(largest, told["kept"])]
        what = (key.module, *shape, entry.scale, entry.B.stored_as, entry.A.stored_as)
        if what in seen:
            continue
        seen.add(what)
        values = {
            "shapes": [shape.d_out, shape.d_in],
            "ranks": shape.rank,
            "scalings": entry.scale,
            "dtypes": entry.B.stored_as,
        }
        for field, value in values.items():
            if value not in group[field]:
                group[field].append(value)
        if entry.A.stored_as not in group["dtypes"]:
            group["dtypes"].append(entry.A.stored_as)
    provenance = adapter.provenance
    return {
        "name": adapter.name,
        "base_model": adapter.base_model,
        "format": provenance.get("format"),
        "source": provenance.get("source"),
        "approximate": provenance.get("approximate"),
        "modules": dict(sorted(modules.items())),
        "excluded": dict(provenance.get("excluded", {})),
        "notes": list(provenance.get("notes", [])),
    }

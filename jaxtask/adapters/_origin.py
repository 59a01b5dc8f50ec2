"""What `jaxtask.json` beside an adapter says that its tensors do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtask.adapters.adapter import Adapter
from jaxtask.errors import AdapterError
from jaxtask.text_files import read_object

ORIGIN = "jaxtask.json"


def add_origin(adapter: Adapter, folder: Path) -> None:
    """Puts into the provenance what an adapter was exported or extracted from, if it was.

    No number depends on it: a file that cannot be understood is noted.
    """
    file = folder / ORIGIN
    if not file.is_file():
        return
    try:
        origin = read_object(file, AdapterError)
        about = adapter.provenance
        if (exported := origin.get("exported")) is not None:
            left_out = {str(what): str(why) for what, why in exported["excluded"].items()}
            about["excluded"] = {**about["excluded"], **left_out}
            about["notes"] = [*about["notes"], *map(str, exported["notes"])]
        told: Any = origin.get("extracted")
        if told is None:
            return
        about["excluded"] = {**about["excluded"], **told["excluded"]}
        about["notes"] = [*about["notes"], *told["notes"]]
        about["approximate"] = about["approximate"] or told["approximate"]
        about["extracted"] = told
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        adapter.provenance["notes"].append(f"{file}: was not understood: {error!r}.")

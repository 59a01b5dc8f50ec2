"""What `jaxtask.json` beside an adapter says that its tensors do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtask.adapters.adapter import Adapter
from jaxtask.errors import AdapterError
from jaxtask.text_files import read_object

ORIGIN = "jaxtask.json"


def add_origin(adapter: Adapter, folder: Path) -> None:
    """Puts into the provenance how an adapter was extracted from checkpoints, if it was.

    No number depends on it: a file that cannot be understood is noted.
    """
    file = folder / ORIGIN
    if not file.is_file():
        return
    try:
        told: Any = read_object(file, AdapterError).get("extracted")
        if told is None:
            return
        about = adapter.provenance
        about["excluded"] = {**about["excluded"], **told["excluded"]}
        about["notes"] = [*about["notes"], *told["notes"]]
        about["approximate"] = about["approximate"] or told["approximate"]
        about["extracted"] = told
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        adapter.provenance["notes"].append(f"{file}: was not understood: {error!r}.")

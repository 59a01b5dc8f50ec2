"""What `jaxtask.json` beside an adapter says that its tensors do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtask.adapters.adapter import Adapter
from jaxtask.errors import AdapterError, shown
from jaxtask.text_files import read_object

ORIGIN = "jaxtask.json"
_KINDS = ("linear", "embedding", "conv1d")


def add_origin(adapter: Adapter, folder: Path) -> None:
    """Puts into the provenance what an adapter was exported or extracted from, if it was.

    No number depends on it: a file that cannot be understood is noted, and nothing of it is taken.
    """
    file = folder / ORIGIN
    if not file.is_file():
        return
    try:
        found = _understood(read_object(file, AdapterError), adapter.provenance)
    except (OSError, ValueError) as error:
        adapter.provenance["notes"].append(f"{ORIGIN} was not understood: {error}")
    else:
        adapter.provenance.update(found)


def _understood(origin: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """What changes of the provenance `about`; raises `ValueError` for what we do not write."""
    found: dict[str, Any] = {"excluded": dict(about["excluded"]), "notes": list(about["notes"])}
    for part in ("exported", "extracted"):
        if (told := origin.get(part)) is None:
            continue
        told = _object(told, part)
        excluded = _object(told.get("excluded"), f"{part}.excluded")
        found["excluded"] |= {what: _text(excluded, what) for what in excluded}
        notes = told.get("notes")
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise ValueError(f"{part}.notes is {shown(notes, 60)}, expected a list of texts")
        found["notes"] += notes
        if part == "extracted":
            approximate = None if told.get("approximate") is None else _text(told, "approximate")
            found["approximate"] = about["approximate"] or approximate
            modules = _object(told.get("modules"), f"{part}.modules")
            found["extracted"] = {**told, "modules": {m: _module(modules, m) for m in modules}}
    return found


def _module(modules: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    module = _object(modules[name], "a module of extracted.modules")
    kind, kept = module.get("kind"), module.get("kept")
    if kind not in _KINDS:
        raise ValueError(f"a module's kind is {shown(kind, 60)}, expected {', '.join(_KINDS)}")
    if not isinstance(kept, int | float) or isinstance(kept, bool) or not 0 <= kept <= 1:
        raise ValueError(f"a module's kept is {shown(kept, 60)}, expected a share from 0 to 1")
    return module


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {shown(value, 60)}, expected an object")
    return value


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f"{shown(name, 60)} is {shown(value, 60)}, expected a text")
    return value

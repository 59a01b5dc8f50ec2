"""Which files of a Hugging Face folder hold a model's weights."""

from __future__ import annotations

from pathlib import Path

from jaxtask.errors import ModelError
from jaxtask.names import check_name
from jaxtask.text_files import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """The weight files, each with the tensors that the index puts there (None: all of them).

    Raises `ModelError` if there is neither a file nor an index, or the index is none.
    """
    if (folder / SINGLE).exists():
        return {folder / SINGLE: None}
    index = folder / INDEX
    if not index.exists():
        raise ModelError(f"{folder}: holds neither {SINGLE} nor {INDEX}.")
    fields = read_json(index, ModelError)
    places = fields.get("weight_map") if isinstance(fields, dict) else None
    if not isinstance(places, dict) or not places:
        raise ModelError(
            f"{index}: expected a JSON object whose 'weight_map' gives every tensor's file."
        )
    files: dict[Path, set[str] | None] = {}
    for name, file in sorted(places.items()):
        held = files.setdefault(folder / check_name(file, f"{index}: the file", ModelError), set())
        assert held is not None
        held.add(name)
    return files

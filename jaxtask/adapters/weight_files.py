"""Which files of a Hugging Face folder hold a model's weights."""

from __future__ import annotations

from pathlib import Path

from jaxtask.errors import JaxtaskError, ModelError
from jaxtask.names import check_name
from jaxtask.text_files import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """The weight files, each with the tensors that the index puts there (None: all of them).

    Raises:
        ModelError: There is neither a file nor an index, or the index is none.

    """
    if (folder / SINGLE).exists():
        return {folder / SINGLE: None}
    index = folder / INDEX
    if not index.exists():
        raise ModelError(f"{folder}: holds neither {SINGLE} nor {INDEX}")
    return {**read_index(index, ModelError)}


def read_index(index: Path, error: type[JaxtaskError]) -> dict[Path, set[str]]:
    """The files beside `index` that it names, each with its tensors.

    Raises:
        error: It is no index; names the file.

    """
    fields = read_json(index, error)
    places = fields.get("weight_map") if isinstance(fields, dict) else None
    if not isinstance(places, dict) or not places:
        raise error(f"{index}: expected a JSON object whose 'weight_map' gives every tensor's file")
    files: dict[Path, set[str]] = {}
    for name, file in sorted(places.items()):
        file = check_name(file, f"{index}: weight_map: the file", error)
        files.setdefault(index.parent / file, set()).add(name)
    return files

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
    try:
        places = read_json(index, ModelError)["weight_map"]
        files: dict[Path, set[str] | None] = {}
        for name, file in sorted(places.items()):
            check_name(file, "weight_map has", ModelError)
            held = files.setdefault(folder / file, set())
            assert held is not None
            held.add(name)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{index}: expected a JSON object whose 'weight_map' gives every tensor's "
            f"file: {error!r}."
        ) from error
    return files

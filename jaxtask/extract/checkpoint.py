"""A model's checkpoint as stored tensors by name, none of them read yet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from jaxtask.adapters.tensors.safetensors import read_header
from jaxtask.adapters.tensors.stored import StoredTensor
from jaxtask.adapters.weight_files import INDEX, SINGLE, weight_files
from jaxtask.errors import ModelError
from jaxtask.names import check_path
from jaxtask.text_files import read_object


@dataclass(frozen=True)
class Checkpoint:
    """What a folder, a file or an id of the Hub holds.

    Attributes:
        source: The path or id as it was given.
        path: Where it was found.
        model_type: What ``config.json`` says, if there is one.

    """

    source: str
    path: Path
    tensors: dict[str, StoredTensor]
    model_type: str | None

    @property
    def name(self) -> str:
        """The last part of the source that says which it is."""
        path = Path(os.path.abspath(self.source))
        if path.name in (SINGLE, INDEX):
            path = path.parent
        return path.stem if path.is_file() else path.name


def open_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Opens a checkpoint in safetensors format. Reads headers only.

    Args:
        source: A folder with ``model.safetensors`` or with shards and their index, a safetensors
            file or an index itself, or the id of a model in the local Hugging Face cache (nothing
            is downloaded).

    Raises:
        ModelError: There is none, or its index or config cannot be used.
        AdapterError: A file is no safetensors file, or is damaged.

    """
    text = os.fspath(source)
    path = check_path(text, "checkpoint", ModelError)
    if not path.exists():
        path = _cached(text)
    if path.is_dir():
        files, home = weight_files(path), path
    elif path.name.endswith(INDEX):
        files, home = weight_files(path.parent), path.parent
    elif path.suffix == ".safetensors":
        files, home = {path: None}, path.parent
    else:
        raise ModelError(f"{path}: expected a folder, a .safetensors file or {INDEX}")
    tensors: dict[str, StoredTensor] = {}
    for file, expected in files.items():
        held, _ = read_header(file)
        lacking = (expected or set()) - held.keys()
        if lacking:
            raise ModelError(f"{file}: lacks tensor '{min(lacking)}', which {INDEX} puts there")
        tensors |= {n: held[n] for n in held if expected is None or n in expected}
    return Checkpoint(text, path, tensors, _model_type(home / "config.json"))


def _cached(source: str) -> Path:
    """The folder of a model in the local Hugging Face cache."""
    import huggingface_hub

    try:
        for name in (SINGLE, INDEX):
            cached = huggingface_hub.try_to_load_from_cache(source, name)
            if isinstance(cached, str):
                return Path(cached).parent
    except ValueError as error:  # the Hub's own check of the name
        raise ModelError(f"'{source}' is neither a path nor a valid Hub id: {error}") from error
    raise ModelError(
        f"'{source}' is neither a path nor a model with {SINGLE} or {INDEX} in the local Hugging "
        f"Face cache; nothing is downloaded here: run `hf download {source}` first"
    )


def _model_type(config: Path) -> str | None:
    if not config.is_file():
        return None
    found = read_object(config, ModelError).get("model_type")
    return found if isinstance(found, str) else None

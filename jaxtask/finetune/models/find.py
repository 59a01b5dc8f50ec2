"""Where a base model is: a path, or an id of the Hub that the local cache holds."""

import os
from pathlib import Path

from jaxtask.errors import ModelError
from jaxtask.finetune.models.config import ModelConfig, read_config
from jaxtask.finetune.models.gguf import GgufWeights
from jaxtask.names import check_path


def find_base(base: str | os.PathLike[str]) -> Path:
    """The folder or GGUF file of a base model. Nothing is downloaded.

    Raises:
        ModelError: It is no path, and the local Hugging Face cache has no such model.

    """
    path = check_path(base, "base", ModelError)
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    if path.exists():
        raise ModelError(f"{path}: is neither a folder with a model nor a .gguf file")
    import huggingface_hub

    try:
        cached = huggingface_hub.try_to_load_from_cache(str(base), "config.json")
    except ValueError as error:  # the Hub's own check of the name
        raise ModelError(
            f"base {str(base)!r} is neither a path nor a valid id of the Hub: {error}"
        ) from error
    if not isinstance(cached, str):
        raise ModelError(
            f"base {str(base)!r} is neither a path nor a model in the local Hugging Face cache; "
            f"nothing is downloaded here: give its folder, base=PATH, or run `hf download "
            f"{base}` first"
        )
    return Path(cached).parent


def base_config(path: Path) -> ModelConfig:
    """The config of the model at `path`, without its weights.

    Raises:
        ModelError: There is no config, or it cannot be read.

    """
    return GgufWeights(path).config if path.suffix == ".gguf" else read_config(path)

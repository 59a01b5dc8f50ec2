"""Recipes as YAML files, and the ones that ship with the package."""

import difflib
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from jaxtask.errors import RecipeError
from jaxtask.finetune.recipe import Recipe, make_recipe


class _Loader(yaml.SafeLoader):
    """Plain data only. YAML 1.1 reads 4e-5 as text, and takes the last of two equal keys."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice", key_node.start_mark
            )
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def shipped_recipes() -> list[str]:
    """The names of the recipes that ship with the package."""
    folder = resources.files("jaxtask.finetune").joinpath("recipes")
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def read_recipe(source: str | os.PathLike[str]) -> Recipe:
    """The recipe in a YAML file, or the shipped one of that name.

    Raises:
        RecipeError: There is none, it is no YAML, or a setting of it cannot be used. Names the
            file, the key (or line), what was found and what was expected.

    """
    return make_recipe(read_settings(_text(source), str(source)), str(source))


def read_settings(text: str, source: str) -> dict[str, Any]:
    """The names and values in the text of a YAML file, `source`. Raises `RecipeError`."""
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise RecipeError(f"{source}: is not valid YAML: {said}.") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{source}: holds {values!r}, expected names with values.")
    return values


def read_value(text: str) -> Any:
    """One value as a recipe's file would have it. Raises `RecipeError` if it is no YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{text!r} is not a valid value.") from error


def _text(source: str | os.PathLike[str]) -> str:
    path = Path(source)
    if not path.exists():
        names = shipped_recipes()
        if str(source) in names:
            home = resources.files("jaxtask.finetune").joinpath("recipes")
            return home.joinpath(f"{source}.yaml").read_text(encoding="utf-8")
        near = difflib.get_close_matches(path.stem, names, 1, 0.6)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise RecipeError(
            f"{source}: is neither a file nor a shipped recipe{hint}: those are {', '.join(names)}."
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{source}: cannot be read: {error}.") from error

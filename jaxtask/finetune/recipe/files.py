"""Recipes as YAML files, and the ones that ship with the package."""

import difflib
import os
from importlib import resources
from typing import Any

from jaxtask.errors import RecipeError, shown
from jaxtask.finetune.recipe.settings import Recipe, make_recipe
from jaxtask.names import check_path
from jaxtask.text_files import MAX_YAML_BYTES, parse_yaml, read_text


def shipped_recipes() -> list[str]:
    """The names of the recipes that ship with the package."""
    folder = resources.files("jaxtask.finetune.recipe").joinpath("shipped")
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
    """The names and values in the text of a YAML file, `source`.

    Raises:
        RecipeError: It is no YAML, or holds anything else.

    """
    values = parse_yaml(text, source, RecipeError)
    if not isinstance(values, dict):
        raise RecipeError(f"{source}: holds {shown(values)}, expected names with values")
    return values


def read_value(text: str) -> Any:
    """One value as a recipe's file would have it.

    Raises:
        RecipeError: The text is no YAML.

    """
    return parse_yaml(text, shown(text, 100), RecipeError)


def _text(source: str | os.PathLike[str]) -> str:
    path = check_path(source, "recipe", RecipeError)
    if not path.exists():
        names = shipped_recipes()
        if str(source) in names:
            home = resources.files("jaxtask.finetune.recipe").joinpath("shipped")
            return home.joinpath(f"{source}.yaml").read_text(encoding="utf-8")
        near = difflib.get_close_matches(path.stem, names, 1, 0.6)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise RecipeError(
            f"{source}: is neither a file nor a shipped recipe{hint}: those are {', '.join(names)}"
        )
    return read_text(path, RecipeError, MAX_YAML_BYTES)

"""Recipes as files."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ...spec import nearest
from ...zoo_path import zoo_path
from ..errors import RecipeError
from .fields import Recipe


def list_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in (zoo_path() / "recipes").glob("*.toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by the name of one that ships with the package, or by the path of a TOML file.

    The file's top level holds Recipe's fields; a table `about` may hold whatever its author wants to say (model, data,
    command, expected result) and is not read here.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = zoo_path() / "recipes" / f"{name_or_path}.toml"
        if not path.is_file():
            names = list_recipes()
            raise RecipeError(
                f"no recipe named {str(name_or_path)!r}.{nearest(str(name_or_path), names)} Shipped recipes: "
                f"{', '.join(names) or 'none'}. For a file of your own give its path, ending in .toml."
            )
    if not path.is_file():
        raise RecipeError(f"recipe file {path} not found")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} is not valid TOML: {error}") from None
    values.pop("about", None)
    try:
        return Recipe.from_dict(values)
    except RecipeError as error:
        raise RecipeError(f"recipe {path}: {error}") from None

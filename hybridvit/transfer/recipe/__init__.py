"""Training recipes: every choice of a run that is not the model or the data, read from TOML and saved with the run."""

from .defaults import default_recipe
from .fields import Recipe
from .files import list_recipes, load_recipe

__all__ = ["Recipe", "default_recipe", "list_recipes", "load_recipe"]

"""Optimizers of the caller's own, named as MODULE:RECIPE: a subclass of `Recipe` in their module."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType

from scionlab.errors import UserError
from scionlab.optim.recipes.base import Recipe
from scionlab.own.finding import described, find, told

EXAMPLE = "my_optimizer:MyRecipe"


def is_own(optimizer: str) -> bool:
    """Whether the name is that of a recipe of the caller's own, MODULE:RECIPE."""
    return ":" in optimizer


@lru_cache(maxsize=64)
def own_recipe(optimizer: str) -> tuple[ModuleType, type[Recipe]]:
    """The module and the recipe that `optimizer`, MODULE:RECIPE, names. Raises UserError where there is none."""
    module, found = find("optimizer", optimizer, "MODULE:RECIPE", EXAMPLE)
    if not (inspect.isclass(found) and issubclass(found, Recipe)):
        what = f"the class {found.__name__}" if inspect.isclass(found) else described(found)
        raise UserError(f"optimizer: {optimizer!r} is {what}; it must be a class made from scionlab.optim.Recipe")
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(found.__abstractmethods__))
        raise UserError(f"optimizer: {optimizer!r} is a recipe without {lacking}; it must define what Recipe does not")
    return module, found


@contextmanager
def asked(optimizer: str) -> Iterator[None]:
    """What an own recipe raises in this block becomes a UserError that says where; others' errors stay as they are."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not is_own(optimizer):
            raise
        raise UserError(f"optimizer: {optimizer!r} raised {told(error, own_recipe(optimizer)[0])}") from error

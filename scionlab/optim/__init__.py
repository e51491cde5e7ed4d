"""Optimizers by name. To add one, write a file with a `Recipe` and add its line to `OPTIMIZERS`."""

from pydantic import ValidationError

from scionlab.errors import from_validation, unknown
from scionlab.optim.adam import Adam, AdamMuP
from scionlab.optim.conditional import ScionRecipe, UnconstrainedScionRecipe
from scionlab.optim.muon import Muon
from scionlab.optim.recipe import Recipe
from scionlab.optim.scion import Scion
from scionlab.spec import Trial

OPTIMIZERS: dict[str, type[Recipe]] = {
    "adam": Adam,
    "adam-mup": AdamMuP,
    "muon": Muon,
    "scion": ScionRecipe,
    "uscion": UnconstrainedScionRecipe,
}


def recipe(trial: Trial) -> Recipe:
    """The trial's recipe with its options; a UserError for an unknown name or option."""
    if trial.optimizer not in OPTIMIZERS:
        raise unknown("optimizer", trial.optimizer, OPTIMIZERS)
    try:
        return OPTIMIZERS[trial.optimizer](**trial.options)
    except ValidationError as error:
        raise from_validation(error, where="options.") from None


__all__ = ["OPTIMIZERS", "Recipe", "Scion", "recipe"]

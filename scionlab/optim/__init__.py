"""Optimizers by name. To add one, write a file with a `Recipe` and add its line to `OPTIMIZERS`; names with a colon
are recipes of the caller's own (`scionlab.optim.recipes.own`).

Methods around the LMO are compositions of `scionlab.optim.steps.parts`; docs/optimizers.md says which is which.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from scionlab.errors import from_validation, unknown
from scionlab.optim.method import Method
from scionlab.optim.recipes.adam import Adam, AdamMuP
from scionlab.optim.recipes.base import Recipe
from scionlab.optim.recipes.classical import (
    AdaGradRecipe,
    LInfDescentRecipe,
    NormalizedSgdRecipe,
    RmsPropRecipe,
    SgdRecipe,
    ShampooRecipe,
    SignSgdRecipe,
    SignumRecipe,
    SpectralDescentRecipe,
)
from scionlab.optim.recipes.conditional import (
    AlmondRecipe,
    ClippedScionRecipe,
    ClippedUnconstrainedScionRecipe,
    LmoRecipe,
    ScionLightRecipe,
    ScionRecipe,
    UnconstrainedScionRecipe,
)
from scionlab.optim.recipes.muon import AdaGoRecipe, AdaMuonRecipe, Muon, MuonHyperballRecipe, NorMuonRecipe
from scionlab.optim.recipes.own import asked, is_own, own_recipe
from scionlab.optim.steps.scion import Scion, ScionLight
from scionlab.roles.presets import PRESETS
from scionlab.roles.roles import Claim
from scionlab.spec import Trial

OPTIMIZERS: dict[str, type[Recipe]] = {
    "adam": Adam,
    "adam-mup": AdamMuP,
    "muon": Muon,
    "normuon": NorMuonRecipe,
    "adamuon": AdaMuonRecipe,
    "muon-hyperball": MuonHyperballRecipe,
    "adago": AdaGoRecipe,
    "scion": ScionRecipe,
    "uscion": UnconstrainedScionRecipe,
    "scion-light": ScionLightRecipe,
    "clipped-scion": ClippedScionRecipe,
    "clipped-uscion": ClippedUnconstrainedScionRecipe,
    "almond": AlmondRecipe,
    "sgd": SgdRecipe,
    "normalized-sgd": NormalizedSgdRecipe,
    "signum": SignumRecipe,
    "sign-sgd": SignSgdRecipe,
    "linf-descent": LInfDescentRecipe,
    "spectral-descent": SpectralDescentRecipe,
    "shampoo": ShampooRecipe,
    "adagrad": AdaGradRecipe,
    "rmsprop": RmsPropRecipe,
}
# The preset of `scionlab.roles.presets` that says which parts a model's layers play, and how they are measured.
DOMAINS = {"mlp": "image-mlp", "cnn": "image", "cifarnet": "image", "deit": "image", "nanogpt": "nanogpt"}


def domain(trial: Trial) -> str:
    """Name of the preset of the trial's roles: its own choice, or its model's."""
    return DOMAINS.get(trial.model, "text") if trial.roles == "auto" else trial.roles


def recipe(trial: Trial) -> Recipe:
    """The trial's recipe with its options; a UserError for an unknown name or option.

    Where the trial is silent, a model has the norms and radii of its domain's preset, as Scion is concerned.
    """
    chosen = recipe_class(trial.optimizer)
    given = _domain_options(trial) if issubclass(chosen, ScionRecipe) else {}
    # A recipe that says other balls than Scion's keeps its own.
    defaults = {name: ball for name, ball in given.items() if _default(chosen, name) == _default(ScionRecipe, name)}
    with asked(trial.optimizer):
        try:
            return chosen(**{**defaults, **trial.options})
        except ValidationError as error:
            raise from_validation(error, where="options.") from None


def method_of(trial: Trial, claims: Sequence[Claim], lr: float | None = None) -> Method:
    """How the trial's method moves these parameters, at the trial's rate or at `lr`, that of a stage of it."""
    chosen = recipe(trial)
    made = chosen.method(claims, trial.lr if lr is None else lr, trial.momentum, trial.width)
    if chosen.anchored and isinstance(made, Method):
        made.anchor(chosen.anchor_fade_start, chosen.anchor_fade_end)
    return made


def recipe_class(optimizer: str) -> type[Recipe]:
    """The recipe that a name in the table or MODULE:RECIPE is of; a UserError for an unknown one."""
    if is_own(optimizer):
        return own_recipe(optimizer)[1]
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, [*OPTIMIZERS, "MODULE:RECIPE"])
    return OPTIMIZERS[optimizer]


def _default(chosen: type[Recipe], name: str) -> Any:
    return chosen.model_fields[name].default


def _domain_options(trial: Trial) -> dict[str, Any]:
    """Scion's options by the preset of the trial's domain; none for text, whose are the recipe's own."""
    if domain(trial) == "text":
        return {}
    preset = PRESETS[domain(trial)]
    norms = {f"norm_{role}": preset.norms[role] for role in ("input", "hidden", "output")}
    return norms | {f"radius_{role}": preset.radii[role] for role in ("input", "hidden", "output")}


def geometry(trial: Trial) -> LmoRecipe:
    """The recipe whose balls the trial's parameters are measured in: its own, or Scion's of its domain by default.

    So the constants of the landscape are comparable between methods that have no balls, in one stated norm.
    """
    own = recipe(trial)
    return own if isinstance(own, LmoRecipe) else ScionRecipe(**_domain_options(trial))


__all__ = [
    "OPTIMIZERS",
    "LmoRecipe",
    "Recipe",
    "Scion",
    "ScionLight",
    "asked",
    "domain",
    "geometry",
    "method_of",
    "recipe",
    "recipe_class",
]

"""What of a trial cannot change a number: fields and options that nothing in it reads.

They are put to their defaults when a trial is resolved. So they are in no identity, and equal trials are trained once.
In the identity stay fields that decide what a run measures (`probe`, `noise_probe`, `watch`, `validate_every`) and when
it ends (`divergence_factor`, `divergence_scale`): a run that diverges ends at another step with another factor.
"""

from collections.abc import Iterator

from scionlab.optim.recipes.base import Recipe
from scionlab.problems.models import SIZES
from scionlab.spec import Trial

# Fields that only some models read.
OF_MODELS = frozenset(field for fields in SIZES.values() for field in fields)
OF_OWN = ("depth",)  # models of the caller's are called with width and depth


def unread_fields(trial: Trial, method: Recipe) -> set[str]:
    """The fields of the trial, by name, that neither its model, nor its schedule, nor its method reads."""
    return set(_unread(trial, method))


def without_unread(trial: Trial, method: Recipe) -> Trial:
    """The trial with these fields, and the options that its method does not read, at their defaults."""
    fields = {name: Trial.model_fields[name].default for name in unread_fields(trial, method)}
    options = {name: type(method).model_fields[name].default for name in method.unread}
    return trial.replace(**fields, options=method.model_copy(update=options).model_dump())


def _unread(trial: Trial, method: Recipe) -> Iterator[str]:
    yield from OF_MODELS.difference(OF_OWN if trial.has_own_model else SIZES.get(trial.model, OF_MODELS))
    if trial.schedule != "trapezoid":
        yield from ("decay_fraction", "decay")
    if trial.schedule == "constant":
        yield "min_lr_ratio"
    if not trial.clip_norm:
        yield "clip_by"
    if trial.momentum_schedule != "constant" or not method.reads_momentum:
        yield "momentum"

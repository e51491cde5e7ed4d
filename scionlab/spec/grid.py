"""Grids of trials: plain functions that experiments compose, and the extension of a grid that did not settle it."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from scionlab.errors import UserError
from scionlab.spec import Experiment, Preset, Trial
from scionlab.spec.scaled import resolved
from scionlab.spec.trial import MEASURED

NOT_OF_NAMES = re.compile(r"[^a-z0-9_-]+")  # of experiments
ByRate = Mapping[float, Sequence[Trial]]  # the trials of a setting


def log2_range(first: int, last: int) -> list[float]:
    """2^first … 2^last, one value an octave, both ends included."""
    return [2.0**exponent for exponent in range(first, last + 1)]


def trials(fixed: Mapping[str, Any], **axes: Iterable[Any]) -> tuple[Trial, ...]:
    """One trial for every combination of the axes, on top of the fixed fields; the last axis varies fastest.

    A value may be `scaled` by others of its trial, also that of an option. UserError, naming the axis, for one that is
    no collection of values: a single value belongs to the fixed fields, and a text would be taken apart into
    characters.
    """
    for name, values in axes.items():
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise UserError(
                f"{name}: {values!r} is not allowed: an axis must be a list of values, such as [{values!r}]"
            )
    combinations = itertools.product(*axes.values())
    return tuple(Trial(**resolved({**fixed, **dict(zip(axes, values, strict=True))})) for values in combinations)


def named_for(experiment: str, optimizer: str) -> str:
    """What an experiment is called with another optimizer: batch-muon, or batch-module-recipe for module:Recipe."""
    return f"{experiment}-{NOT_OF_NAMES.sub('-', optimizer.lower()).strip('-')}"


def extend_preset(
    experiment: Experiment, preset: str, seeds: int = 1, more_rates: int = 0, finer_rates: bool = False
) -> Experiment:
    """The experiment with the grid of one preset extended as `extend` does; the preset's `about` says so, too."""
    asked = experiment.preset(preset)
    grid = extend(asked.trials, seeds, more_rates, finer_rates)
    said = [
        f"{more_rates} more at both ends of the learning rates" if more_rates else "",
        "a learning rate between every two" if finer_rates else "",
        f"at least {seeds} seeds" if seeds > 1 else "",
    ]
    extended = Preset(trials=grid, about="; ".join(filter(None, [asked.about, *said])))
    return experiment.model_copy(update={"presets": {**experiment.presets, preset: extended}})


def extend(grid: Iterable[Trial], seeds: int = 1, more_rates: int = 0, finer_rates: bool = False) -> tuple[Trial, ...]:
    """The grid as it is and, after it, the trials that it lacks of more learning rates and seeds; rates come first.

    A setting is everything of a trial but its rates, its seed and what it measures (MEASURED). The rates of a trial in
    stages stand in fixed ratios to `lr` and go with it; where they do not, each trial is a setting.

    - `more_rates`: so many rates beyond both ends of a setting's, each by the ratio of the two rates at that end;
      default 0.
    - `finer_rates`: the geometric mean of every two neighbours, also of those that `more_rates` added.
    - `seeds`: at each rate the smallest seeds it lacks, until it has so many; none is taken away; default 1.

    New rates get every seed of their setting. A setting of one rate keeps it: that is how an experiment says that it is
    not tuned. Further trials measure as little as any of their setting does. UserError if a rate is asked for and no
    setting has two, and for rates that a trial does not allow.
    """
    for name, value, least in (("seeds", seeds, 1), ("more-rates", more_rates, 0)):
        if value < least:
            raise UserError(f"{name}: {value} is not allowed: it must be at least {least}")
    grid = tuple(grid)
    settings: dict[str, dict[float, list[Trial]]] = {}
    for trial in grid:
        settings.setdefault(_setting(trial), {}).setdefault(trial.lr, []).append(trial)
    if (more_rates or finer_rates) and all(len(by_rate) == 1 for by_rate in settings.values()):
        asked = f"more-rates: {more_rates}" if more_rates else "finer-rates: True"
        raise UserError(
            f"{asked} is not allowed: every setting of this grid has one learning rate, which stays as it is; "
            "a setting must have two or more"
        )
    added = (_lacking(by_rate, seeds, more_rates, finer_rates) for by_rate in settings.values())
    return (*grid, *itertools.chain.from_iterable(added))


def _setting(trial: Trial) -> str:
    # What it measures is no part of it: `experiments/batch.py` probes one seed of a few cells.
    fields = trial.model_dump(exclude={"lr", "seed", *MEASURED})
    # Ratios, without the last digits: stages computed from different rates are rounded differently.
    stages = [stage.model_dump() | {"lr": f"{stage.lr / trial.lr:.12g}"} for stage in trial.stages]
    return json.dumps(fields | {"stages": stages}, sort_keys=True)


def _lacking(by_rate: ByRate, seeds: int, more_rates: int, finer_rates: bool) -> Iterator[Trial]:
    """The trials that a setting lacks."""
    there = [trial for found in by_rate.values() for trial in found]
    least = {name: min(getattr(trial, name) for trial in there) for name in MEASURED}
    of_setting = {trial.seed for trial in there}
    for rate in _new_rates(sorted(by_rate), more_rates, finer_rates):
        stages = [stage.model_dump() | {"lr": stage.lr * (rate / there[0].lr)} for stage in there[0].stages]
        first = there[0].replace(lr=rate, stages=stages, **least)
        yield from (first.replace(seed=seed) for seed in [*sorted(of_setting), *_further(of_setting, seeds)])
    for found in by_rate.values():
        yield from (found[0].replace(seed=seed, **least) for seed in _further({t.seed for t in found}, seeds))


def _new_rates(rates: Sequence[float], more: int, finer: bool) -> list[float]:
    """What extends some ascending rates; none for a single one."""
    if len(rates) == 1:
        return []
    # Ends first: so both options together give what either gives.
    wide = sorted({*_beyond(rates[1], rates[0], more), *rates, *_beyond(rates[-2], rates[-1], more)})
    between = [math.sqrt(low * high) for low, high in itertools.pairwise(wide)] if finer else []
    return sorted({*wide, *between} - {*rates})


def _beyond(inner: float, end: float, count: int) -> Iterator[float]:
    """The next rates after `end`, by its ratio to its neighbour."""
    ratio = end / inner
    for _ in range(count):
        end *= ratio
        yield end


def _further(seeds: Iterable[int], count: int) -> list[int]:
    """The smallest seeds not among these that make them so many."""
    there = {*seeds}
    free = (seed for seed in itertools.count() if seed not in there)
    return list(itertools.islice(free, max(0, count - len(there))))

"""Where a sweep's runs come from, as the commands that add to it name it (`analysis.fits.advice`)."""

import math
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from analysis.fits.advice import OWN_FILE, Extension, Kind, Larger, Source
from analysis.fits.outcomes import Missing
from analysis.tables.sweep import IMPORTED, SweepTables
from scionlab.runs.where import BESIDE_A_BUCKET, ResultsPlace
from scionlab.spec import Trial
from scionlab.spec.loading import BuiltIn, built_in
from scionlab.spec.tuning import TransferExperiment

# What studies may vary beside the learning rate.
AXES = ("width", "depth", "tokens", "batch_size", "seq_len", "momentum")
TRANSFER = "transfer"  # the study of sweeps that `scionlab transfer` makes


def origin(tables: SweepTables, place: ResultsPlace) -> Source:
    """The source of a sweep's runs or of an import; the project's own experiments have presets to go on to."""
    name, preset = tables.experiment, str(tables.sweep["preset"])
    results = () if place.root == str(BESIDE_A_BUCKET) else ("--results", place.root)
    kind: Kind = "imported" if preset == IMPORTED else "transfer" if tables.study == TRANSFER else "run"
    known = None if kind == "imported" else built_in(name, tables.runs["optimizer"].unique())
    if known is None or preset not in known.spec.presets:
        return Source(kind, (OWN_FILE,), name, preset, results, tuple(place.to_option))
    about = kind, known.which, name, preset, results, tuple(place.to_option), _larger(known, preset)
    if isinstance(known.spec, TransferExperiment):
        return Source(*about, trials=known.spec.presets[preset].trials)
    return Source(*about, extension=extension(known.spec.presets[preset].trials, tables.runs))


def extension(grid: Sequence[Trial], runs: pd.DataFrame) -> Extension:
    """What runs have beyond a grid: seeds, and in its settings rates beyond both ends and between.

    With a rate between every two there are two to each that was added at an end.
    """
    where = ["optimizer", "width", "tokens_budget", "batch_size", "seq_len"]
    at_a_rate = runs.groupby([*where, "lr"])["seed"].nunique()  # of most rates: one may have fewer yet
    seeds, known = 0 if at_a_rate.empty else int(at_a_rate.median()), len({trial.seed for trial in grid})
    rates: dict[tuple[object, ...], set[float]] = {}
    for trial in grid:
        place = (trial.optimizer, trial.width, trial.tokens, trial.batch_size, trial.seq_len)
        rates.setdefault(place, set()).add(_octave(trial.lr))
    beyond, finer = 0, False
    for of, rows in runs.groupby(where):
        if (asked := rates.get(tuple(of))) is not None:
            trained = _octaves(rows["lr"])
            beyond = max(beyond, sum(rate < min(asked) for rate in trained), sum(rate > max(asked) for rate in trained))
            finer = finer or any(min(asked) < rate < max(asked) for rate in trained - asked)
    return Extension(seeds if seeds > known else 0, math.ceil(beyond / 2) if finer else beyond, finer)


def _octaves(rates: Iterable[float]) -> set[float]:
    return {_octave(rate) for rate in rates}


def _octave(rate: float) -> float:
    """log₂ of a rate, rounded so that one rate is one number."""
    return round(math.log2(rate), 6)


def _larger(known: BuiltIn, preset: str) -> Larger | None:
    names = list(known.spec.presets)
    following = names[names.index(preset) + 1 :]
    if not following:
        return None
    if isinstance(known.spec, TransferExperiment):
        return Larger(following[0], len(known.spec.presets[following[0]].seeds))
    here, there = known.spec.presets[preset].trials, known.spec.presets[following[0]].trials
    return Larger(following[0], len({trial.seed for trial in there}), _more(here, there))


def _more(here: Sequence[Trial], there: Sequence[Trial]) -> frozenset[Missing]:
    """What a grid has more of than another, of what only a larger preset adds."""

    def grows(count: Callable[[Sequence[Trial]], int]) -> bool:
        return count(there) > count(here)

    def values(field: str) -> Callable[[Sequence[Trial]], int]:
        return lambda grid: len({getattr(trial, field) for trial in grid})

    found = {
        Missing.BUDGETS: grows(values("tokens")),
        Missing.BATCHES: grows(_batches),
        Missing.PLACES: any(grows(values(axis)) for axis in AXES),
        Missing.LONGER: grows(lambda grid: max(trial.steps for trial in grid)),
    }
    return frozenset(kind for kind, has in found.items() if has)


def _batches(grid: Sequence[Trial]) -> int:
    """The most tokens a step that one budget is trained at."""
    at: dict[int, set[int]] = {}
    for trial in grid:
        at.setdefault(trial.tokens, set()).add(trial.batch_size * trial.seq_len)
    return max(len(sizes) for sizes in at.values())

"""Tuned values: the lowest cost of a cell's curve over learning rates, where it lies, and what that is worth.

The *cost* is that of the curve as read (`analysis.fits.reading`), or of the only rate. *State*:

- inside: the best rate has neighbours that trained, to either side
- beside divergence: one of them diverged: the optimum lies between grid points, at most a step away
- grid's edge: the best rate ends the grid: the arm may do better beyond
- another grid's edge: what is tuned beside the rate, such as the momentum, ends its grid
- one rate: nothing was tuned, by design
- diverged: no rate trained
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

import numpy as np

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.lr_curve import LrCurve
from analysis.fits.noise import Noise, measure_noise
from analysis.fits.reading import Reading, read_curves, read_levels
from analysis.fits.valley import MEANS
from analysis.studies.comparison.design import Cell, is_number
from analysis.tables.arrays import Floats

EDGE: Final = "grid's edge"
OTHER_EDGE: Final = "another grid's edge"
DIVERGED: Final = "diverged"
State = Literal["inside", "beside divergence", "grid's edge", "another grid's edge", "one rate", "diverged"]
DOUBTFUL = (EDGE, OTHER_EDGE, DIVERGED)
# Values that a grid can end with, as there are none beyond.
LAST = {"momentum": 1.0, "warmup": 0.0, "options.weight_decay": 0.0}


@dataclass(frozen=True)
class Quantity:
    """A cost, or a difference of costs, and its resamples (R,), if there is noise to resample.

    `may_fall` and `may_rise`: what was not tried may give a lower or a higher value. `doubts` say what of whom is open.
    """

    value: float
    sample: Floats | None
    may_fall: bool = False
    may_rise: bool = False
    doubts: tuple[tuple[str, str], ...] = ()

    def __sub__(self, other: Self) -> "Quantity":
        with np.errstate(invalid="ignore"):  # inf − inf is not a number, and says nothing
            value = float(np.subtract(self.value, other.value))
            sample = None
            if self.sample is not None and other.sample is not None:
                sample = self.sample - other.sample
        return Quantity(
            value,
            sample,
            self.may_fall or other.may_rise,
            self.may_rise or other.may_fall,
            tuple(dict.fromkeys((*self.doubts, *other.doubts))),
        )

    @property
    def centred(self) -> Floats | None:
        """The resamples, moved so that their median is the value: noise makes the lowest of several look lower, and
        more so in a resample, which has it twice.
        """
        if self.sample is None or not np.isfinite(self.sample).all():
            return self.sample
        return np.asarray(self.sample + (self.value - np.median(self.sample)))

    def estimate(self, sign: float = 1.0, level: float = CONFIDENCE) -> Estimate:
        """With its interval of so much confidence, below 1; `sign` turns costs back into the metric."""
        sample = self.centred
        return Estimate.of(sign * self.value, None if sample is None else sign * sample, level)


@dataclass(frozen=True)
class Tuned:
    """A cell's tuned cost, log₂ of its learning rate with resamples, and the best rate of the grid, log₂."""

    cell: Cell
    cost: Quantity
    log2_lr: float | None
    log2_lrs: Floats | None
    best: float | None
    state: State

    def doubting(self, name: str) -> Quantity:
        """The cost with what is to be doubted about it; `name` is the cell's."""
        return replace(self.cost, doubts=((self.state, name),) if self.state in DOUBTFUL else ())


@dataclass(frozen=True)
class TunedCells:
    """The tuned cells, and their noise."""

    tuned: tuple[Tuned, ...]
    noise: Noise


def tune(cells: Sequence[Cell], count: int, rng: np.random.Generator) -> TunedCells:
    """The tuned values of cells, with `count` resamples where noise is known.

    A seed's level is of a size that its arm and its place tell, and curves of an arm have one shape. What a seed has in
    common in all cells cancels.
    """
    trained = [cell for cell in cells if cell.trained]
    arms, curves = [cell.arm for cell in trained], [cell.read for cell in trained]
    noise = measure_noise(curves, groups=arms, places=[cell.place for cell in trained])
    known = noise.levels_known
    readings = iter(read_levels(curves, noise, count, rng, arms))
    nothing = Quantity(np.inf, np.full(count, np.inf) if known else None)
    tuned = [_tuned(cell, next(readings) if cell.trained else None, known, nothing) for cell in cells]
    other = [_with_rate(of, rng) if of.cell.trained and of.cell.read is not of.cell.curve else of for of in tuned]
    places: dict[tuple[int, int], list[Tuned]] = {}
    for each in other:
        places.setdefault((each.cell.arm, each.cell.place), []).append(each)
    return TunedCells(tuple(map(_chosen, places.values())), noise)


def _chosen(choices: list[Tuned]) -> Tuned:
    """The lowest of an arm's choices at a place. Its resamples are of the lowest, whichever that is in each of them."""
    best = min(choices, key=lambda each: each.cost.value)
    if len(choices) == 1:
        return best
    samples = [each.cost.sample for each in choices if each.cost.sample is not None]
    sample = np.min(samples, axis=0) if len(samples) == len(choices) else None
    tried = {key: [each.cell.choice[key] for each in choices] for key in best.cell.choice}
    at_edge = any(_ends(best.cell.choice[key], values, LAST.get(key)) for key, values in tried.items())
    cost = replace(best.cost, sample=sample, may_fall=best.cost.may_fall or at_edge)
    other = at_edge and np.isfinite(cost.value) and best.state != EDGE
    return replace(best, cost=cost, state=OTHER_EDGE if other else best.state)


def _ends(value: Any, values: list[Any], last: float | None) -> bool:
    """Whether the value is the lowest or the highest of several numbers, and not the `last` that there is."""
    several = len(set(values)) > 1 and all(map(is_number, values))
    return several and value in (min(values), max(values)) and value != last


def _tuned(cell: Cell, reading: Reading | None, known: bool, nothing: Quantity) -> Tuned:
    curve, state = cell.curve, _state(cell.curve)
    if reading is None:
        return Tuned(cell, replace(nothing, may_fall=len(curve.x) > 1), None, None, None, state)
    best = float(curve.x[curve.best])
    cost = Quantity(reading.loss, reading.losses if known else None, may_fall=state == EDGE)
    return Tuned(cell, cost, reading.at, reading.drawn if known else None, best, state)


def _with_rate(of: Tuned, rng: np.random.Generator) -> Tuned:
    """With the best rate of the curve that was tuned, where another is compared at one of its rates."""
    return replace(of, log2_lr=read_curves([of.cell.curve], MEANS, rng)[0].at, log2_lrs=None)


def _state(curve: LrCurve) -> State:
    if not curve.finite.any():
        return DIVERGED
    if len(curve.x) == 1:
        return "one rate"
    if curve.at_edge:
        return EDGE
    return "inside" if curve.resolved else "beside divergence"

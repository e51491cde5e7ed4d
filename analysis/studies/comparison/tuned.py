"""Tuned values: the lowest cost of a cell's curve over learning rates, where it lies, and what that is worth.

The *cost* is that of the parabola through the best rate and its neighbours in log₂ lr, or of the only rate. *State*:

- inside: the best rate has neighbours that trained, to either side
- beside divergence: one of them diverged: the optimum lies between grid points, at most a step away
- grid's edge: the best rate ends the grid: the arm may do better beyond
- one rate: nothing was tuned, by design
- diverged: no rate trained
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, Self

import numpy as np

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.lr_curve import LrCurve
from analysis.fits.profile import depth
from analysis.studies.comparison.design import Cell
from analysis.studies.comparison.noise import Noise
from analysis.tables.arrays import Floats

EDGE: Final = "grid's edge"
DIVERGED: Final = "diverged"
State = Literal["inside", "beside divergence", "grid's edge", "one rate", "diverged"]


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
        return replace(self.cost, doubts=((self.state, name),) if self.state in (EDGE, DIVERGED) else ())


def lowest(curve: LrCurve, means: Floats) -> tuple[Floats, Floats]:
    """Lowest cost and log₂ lr of each of the mean curves (R, J) of a curve that trained."""
    at, _ = curve.optimum(means)
    return depth(curve.x, means, at), at


def tune(cell: Cell, noise: Noise) -> Tuned:
    """The tuned value of a cell, with resamples where noise is known."""
    curve = cell.curve
    state = _state(curve)
    if not cell.trained:
        sample = np.full(noise.count, np.inf) if noise.known else None
        return Tuned(cell, Quantity(np.inf, sample, may_fall=len(curve.x) > 1), None, None, None, state)
    cost, at = lowest(cell.read, cell.read.mean[None])
    costs, rates = lowest(cell.read, noise.resample(cell)) if noise.known else (None, None)
    if cell.read is not curve:
        at, rates = curve.optimum(curve.mean[None])[0], None
    best = float(curve.x[int(np.argmin(curve.mean))])
    quantity = Quantity(float(cost[0]), costs, may_fall=state == EDGE)
    return Tuned(cell, quantity, float(at[0]), rates, best, state)


def _state(curve: LrCurve) -> State:
    best, last = int(np.argmin(curve.mean)), len(curve.x) - 1
    if not curve.finite.any():
        return DIVERGED
    if last == 0:
        return "one rate"
    if best in (0, last):
        return EDGE
    return "inside" if curve.finite[[best - 1, best + 1]].all() else "beside divergence"

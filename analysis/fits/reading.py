"""What a study reads off the loss curves of a series: optimum and regret, each with what the data leave open.

    optimum     where the valley is lowest (`analysis.fits.valley`); two-sided 95% percentile interval of drawn curves
    regret      loss at another curve's best rate minus the loss at its own; never negative

A regret near zero is one-sided: where the data cannot tell the two rates apart, its interval begins at 0. Drawn curves
add what noise does to a minimum a second time; the value is that of the mean curve, less what the draws exceed it by,
and at least 0. Its 95% interval holds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fits.interpolation import beside
from analysis.fits.intervals import TAIL, Estimate, interval
from analysis.fits.lr_curve import LrCurve
from analysis.fits.noise import points_of
from analysis.fits.valley import Valley, read_valleys
from analysis.tables.arrays import Bools, Floats


@dataclass(frozen=True)
class Reading:
    """A curve of which some rate trained, as read. `at` is log₂ lr*, `drawn` its draws (R,), None without noise.

    `resolved`: the best measured rate has neighbours to either side that train. `open_below`, `open_above`: the
    optimum, or more than 2.5% of its draws, lies at the lowest or highest rate that trains, and may lie beyond.
    """

    curve: LrCurve
    valley: Valley
    at: float
    drawn: Floats | None
    resolved: bool
    open_below: bool
    open_above: bool

    @property
    def optimum(self) -> Estimate:
        """log₂ lr* with its interval; none where it is not resolved."""
        return Estimate(self.at, *interval(self.drawn if self.resolved else None))

    @property
    def share_diverged(self) -> float:
        """The largest share of runs that diverged at the measured rates to either side of the optimum."""
        return float(self.curve.share_diverged[beside(self.curve.x, np.array(self.at))].max())

    def regret_of(self, other: "Reading") -> Estimate:
        """What training this curve's setting at the best rate of `other` costs, in the losses' unit.

        Infinite where that rate lies at or next to one that does not train. Beyond the grid it is read at its end.
        """
        value = self.valley.excess(other.at)
        if self._walled(np.array([other.at]))[0]:
            return Estimate(float("inf"))
        if self.drawn is None or other.drawn is None:
            return Estimate(value)
        costs = self.valley.excesses(other.drawn)
        assert costs is not None
        draws = np.where(self._walled(other.drawn), np.inf, costs)
        low, high = interval(draws)
        first, last = interval(self.drawn - other.drawn)
        if low is None or high is None or first is None or last is None:
            return Estimate(value)
        low = 0.0 if first <= 0 <= last else low
        trained = draws[np.isfinite(draws)]
        corrected = 2 * value - float(trained.mean()) if len(trained) else value
        return Estimate(float(np.clip(corrected, low, high)), low, high)

    def _walled(self, at: Floats) -> Bools:
        """Whether either measured rate around rates (R,) does not train."""
        return np.asarray(~self.curve.finite[beside(self.curve.x, at)].all(axis=0))


def read_curves(curves: Sequence[LrCurve], count: int, rng: np.random.Generator) -> list[Reading]:
    """Readings of a series' curves, which trained somewhere, with `count` draws where some seeds can be compared."""
    valleys = read_valleys(points_of(curves), count, rng)
    return [_reading(curve, valley) for curve, valley in zip(curves, valleys, strict=True)]


def _reading(curve: LrCurve, valley: Valley) -> Reading:
    best, last = int(np.argmin(curve.mean)), len(curve.x) - 1
    lowest = best == 0 or not curve.finite[best - 1]
    highest = best == last or not curve.finite[best + 1]
    resolved = not (lowest or highest)
    at = valley.optimum() if resolved else float(curve.x[best])
    below, above = valley.at_ends()
    return Reading(curve, valley, at, valley.optima(), resolved, lowest or below > TAIL, highest or above > TAIL)

"""What a study reads off the loss curves of a series: optimum and regret, each with what the data leave open.

    optimum     where the valley is lowest (`analysis.fits.valley`); two-sided 95% percentile interval of drawn curves
    loss        the valley's lowest, to be compared with other curves'
    regret      loss at another curve's best rate minus the loss at its own; never negative

A regret near zero is one-sided: where the data cannot tell the two rates apart, its interval begins at 0. Drawn curves
add what noise does to a minimum a second time; the value is that of the mean curve, less what the draws exceed it by,
and at least 0. Its 95% interval holds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from analysis.fits.interpolation import beside
from analysis.fits.intervals import TAIL, Estimate, interval
from analysis.fits.lr_curve import LrCurve
from analysis.fits.moderation import Pool
from analysis.fits.noise import Noise, measure_noise, near
from analysis.fits.valley import Valley, read_valleys, values_at
from analysis.tables.arrays import Bools, Floats


@dataclass(frozen=True)
class Reading:
    """A curve of which some rate trained, as read."""

    curve: LrCurve
    valley: Valley

    @property
    def resolved(self) -> bool:
        """Whether the best measured rate has neighbours to either side that train."""
        return self.curve.resolved

    @property
    def at(self) -> float:
        """log₂ lr*; the best measured rate where it is not resolved."""
        return self.valley.optimum() if self.resolved else float(self.curve.x[self.curve.best])

    @property
    def drawn(self) -> Floats | None:
        """Its draws (R,); None without noise."""
        return self.valley.optima()

    @cached_property
    def open_below(self) -> bool:
        """Whether the optimum, or more than 2.5% of its draws, is the lowest rate that trains, and may lie below."""
        return not self.curve.trains_beside[0] or self.valley.at_ends()[0] > TAIL

    @cached_property
    def open_above(self) -> bool:
        """The same of the highest rate that trains."""
        return not self.curve.trains_beside[1] or self.valley.at_ends()[1] > TAIL

    @property
    def optimum(self) -> Estimate:
        """log₂ lr* with its interval; none where it is not resolved."""
        return Estimate(self.at, *interval(self.drawn if self.resolved else None))

    @property
    def loss(self) -> float:
        """The mean curve's lowest value."""
        return float(self.valley.bottom[1][0])

    @property
    def losses(self) -> Floats | None:
        """The drawn curves' lowest values (R,)."""
        return None if self.valley.bottoms is None else self.valley.bottoms[1]

    def mean_at_rates(self) -> Floats:
        """The mean curve at the measured rates that train, (rates,)."""
        return values_at(self.valley.nodes, self.valley.mean[None], self.curve.x[self.curve.finite])[0]

    def drawn_at_rates(self) -> Floats:
        """The drawn curves there, (R, rates)."""
        assert self.valley.draws is not None, "a curve without noise has no draws"
        return values_at(self.valley.nodes, self.valley.draws, self.curve.x[self.curve.finite])

    @property
    def share_diverged(self) -> float:
        """The largest share of runs that diverged at the measured rates to either side of the optimum."""
        return float(self.curve.share_diverged[beside(self.curve.x, np.array(self.at))].max())

    def regret_of(self, other: "Reading") -> Estimate:
        """What training this curve's setting at the best rate of `other` costs, in the losses' unit.

        Infinite where that rate lies at or next to one that does not train. Beyond the grid it is read at its end.
        """
        value = self.valley.excess(other.at)
        if self.walled(np.array([other.at]))[0]:
            return Estimate(float("inf"))
        if self.drawn is None or other.drawn is None:
            return Estimate(value)
        costs = self.valley.excesses(other.drawn)
        assert costs is not None
        draws = np.where(self.walled(other.drawn), np.inf, costs)
        low, high = interval(draws)
        first, last = interval(self.drawn - other.drawn)
        if low is None or high is None or first is None or last is None:
            return Estimate(value)
        low = 0.0 if first <= 0 <= last else low
        trained = draws[np.isfinite(draws)]
        corrected = 2 * value - float(trained.mean()) if len(trained) else value
        return Estimate(float(np.clip(corrected, low, high)), low, high)

    def walled(self, at: Floats) -> Bools:
        """Whether either measured rate around rates (R,) does not train."""
        return np.asarray(~self.curve.finite[beside(self.curve.x, at)].all(axis=0))


def read_curves(curves: Sequence[LrCurve], count: int, rng: np.random.Generator) -> list[Reading]:
    """Readings of a series' curves, which trained somewhere, with `count` draws where some seeds can be compared.

    For optima and regrets: what moves a whole curve is not in the draws.
    """
    valleys = read_valleys(measure_noise(curves).points, count, rng)
    return [Reading(curve, valley) for curve, valley in zip(curves, valleys, strict=True)]


def read_levels(
    curves: Sequence[LrCurve],
    noise: Noise,
    count: int,
    rng: np.random.Generator,
    series: Sequence[Any] | None = None,
) -> list[Reading]:
    """Readings of curves whose losses are compared: in the draws, noise moves whole curves, too.

    noise: of these curves, in their order (`analysis.fits.noise.measure_noise`).
    series: one of each curve; curves of a series share a shape. Default: all curves are one.
    """
    series = [0] * len(curves) if series is None else list(series)
    valleys: dict[int, Valley] = {}
    for name in dict.fromkeys(series):
        mine = [i for i, of in enumerate(series) if of == name]
        valleys |= zip(mine, read_valleys([noise.points[i] for i in mine], count, rng), strict=True)
    factors = {pool.source: pool.factors(count, rng) for pool in noise.levels}  # what one source is off by, once
    found = []
    for i, (curve, pool) in enumerate(zip(curves, noise.levels, strict=True)):
        found.append(Reading(curve, _moved(curve, valleys[i], pool, pool.sd * factors[pool.source], rng)))
    return found


def _moved(curve: LrCurve, valley: Valley, pool: Pool, scale: Floats, rng: np.random.Generator) -> Valley:
    """The drawn curves at levels of their own, as far as these are known.

    Levels were read near the optimum, where they hold what the rests do to a mean: that part is taken off the draws.
    """
    if valley.draws is None or pool.freedom <= 0:
        return valley
    level = scale * rng.standard_normal(len(scale)) / np.sqrt(curve.n_seeds)
    nodes, around = valley.nodes, curve.x[near(curve)]
    if len(around):
        both = values_at(nodes, np.concatenate([valley.draws, valley.mean[None]]), around).mean(axis=1)
        level = level - (both[:-1] - both[-1])
    return Valley(nodes, valley.mean, valley.draws + level[:, None])

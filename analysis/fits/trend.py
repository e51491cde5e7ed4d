"""How a positive quantity goes with a size: the slope of a line in octaves, and its interval from seed noise.

    log₂ y = intercept + slope · log₂ x        least squares through the means over seeds, one of each size

The slope's interval is Student's from the seeds' scatter about their mean, pooled over the sizes, or from the means'
scatter about the line, whichever is wider, each with its own degrees of freedom: a bend does not pass for precision. In
simulations of 3 to 8 sizes, 2 to 5 seeds and departures from none to five times the noise, the nominal 95% covered the
exponent in 94% to 99%. One seed has no scatter, and its slope no interval. Where all seeds agree to the last digit
there is none either, and the means' distance from the line stands in.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.parabola import slope as least_squares
from analysis.tables.arrays import Floats

ROUNDING = 1e-9  # octaves; scatter below it is that of the last digits


@dataclass(frozen=True)
class Trend:
    """A line in octaves: `slope` with its interval, and log₂ y at x = 1. `misfit` is Birge's ratio, None if unknown.

    `bent`: the means miss the line by more than seeds explain, and the interval is as wide as that: other seeds would
    not narrow it.
    """

    slope: Estimate
    intercept: float
    misfit: float | None
    n_sizes: int
    n_seeds: int
    bent: bool

    def at(self, size: Floats) -> Floats:
        """y of the line at sizes x."""
        return np.asarray(2 ** (self.intercept + self.slope.value * np.log2(size)))


def trend(size: "pd.Series[float]", value: "pd.Series[float]") -> Trend | None:
    """The line through values (positive and finite, one a seed) at their sizes; None for fewer than two sizes."""
    logs = pd.Series(np.log2(value.to_numpy(float))).groupby(np.log2(size.to_numpy(float)))
    means, counts = logs.mean(), logs.size().to_numpy()
    if len(means) < 2:
        return None
    x, y = np.asarray(means.index, dtype=np.float64), np.asarray(means, dtype=np.float64)
    found = float(least_squares(x, y))
    intercept = float(y.mean() - found * x.mean())
    off_line = float(counts @ (y - intercept - found * x) ** 2)
    scatter = float(((logs.size() - 1) * logs.var().fillna(0)).sum())
    half, misfit, bent = _half_width(scatter, int((counts - 1).sum()), off_line, len(x) - 2)
    estimate = Estimate(found)
    if half is not None:
        weights = (x - x.mean()) / ((x - x.mean()) @ (x - x.mean()))
        half *= float(np.sqrt(weights**2 @ (1 / counts)))
        estimate = Estimate(found, found - half, found + half)
    return Trend(estimate, intercept, misfit, len(x), int(counts.max()), bent)


def _half_width(scatter: float, inside: int, off_line: float, between: int) -> tuple[float | None, float | None, bool]:
    """Half the interval of a single value, Birge's ratio of how far the means miss the line to the noise, and whether
    it is the misses that are wider.

    From the sums of squares about the seeds' means, with `inside` degrees of freedom, and of the means about the line,
    with `between` of them. None where nothing is known.
    """
    if inside == 0:
        return None, None, False
    noise = float(np.sqrt(scatter / inside))
    misses = float(np.sqrt(off_line / between)) if between else 0.0
    of_noise, of_misses = _student(noise, inside), _student(misses, between)
    if noise <= ROUNDING:
        return (of_misses if between else None), None, bool(between)
    return max(of_noise, of_misses), misses / noise if between else None, of_misses > of_noise


def _student(deviation: float, freedom: int) -> float:
    """Half of Student's interval for a standard deviation with that many degrees of freedom; 0 with none."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * deviation) if freedom else 0.0

"""Estimates with their intervals, and what an interval allows to say of a rule."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.fits.outcomes import Outcome
from analysis.tables.arrays import Floats

CONFIDENCE = 0.95
RESAMPLES = 2000
TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; `low` and `high` are None where there is nothing to resample."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, sample: Floats | None, level: float = CONFIDENCE) -> "Estimate":
        """With the percentile interval of a sample (R,), of so much confidence."""
        return cls(float(value), *interval(sample, level))

    def times(self, factor: float) -> "Estimate":
        """In another unit, or with its sign turned."""
        if self.low is None or self.high is None:
            return Estimate(self.value * factor)
        return Estimate(self.value * factor, *sorted((self.low * factor, self.high * factor)))

    def exp(self) -> "Estimate":
        """Of the number, where this is of its logarithm."""
        low, high = (None if end is None else float(np.exp(end)) for end in (self.low, self.high))
        return Estimate(float(np.exp(self.value)), low, high)

    def columns(self, name: str) -> dict[str, float | None]:
        """As columns of a table: `name`, and its ends as `name`_low and `name`_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def from_one(self) -> "Estimate":
        """One minus it."""
        opposite = self.times(-1.0)
        ends = (None if end is None else 1 + end for end in (opposite.low, opposite.high))
        return Estimate(1 + opposite.value, *ends)

    def text(self, form: str) -> str:
        """`value [low, high]`, as far as they are known."""
        return with_interval(self.value, self.low, self.high, form)


def columns_of(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """`Estimate.columns`; of None where there is no estimate."""
    return estimate.columns(name) if estimate else dict.fromkeys((name, f"{name}_low", f"{name}_high"))


def interval(sample: Floats | None, level: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """Percentile interval of a sample (R,), of so much confidence; None for no sample, or one with a NaN in it."""
    if sample is None or len(sample) == 0 or np.isnan(sample).any():
        return None, None
    # An observation, not a mean of two: one of them may be infinite.
    tail = (1 - level) / 2
    low, high = np.quantile(sample, [tail, 1 - tail], method="closest_observation")
    return float(low), float(high)


def student(values: "pd.Series[float]") -> Estimate | None:
    """Mean and Student's interval; no interval for one value, None if a value is infinite or there is none."""
    if len(values) == 0 or not np.isfinite(values).all():
        return None
    if len(values) == 1:
        return Estimate(float(values[0]))
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std() / np.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half)


def with_interval(value: float | None, low: float | None, high: float | None, form: str) -> str:
    """`value [low, high]`, as far as they are known."""
    if value is None:
        return "–"
    if low is None or high is None:
        return format(value, form)
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def verdict(
    estimate: Estimate, rule: tuple[float, float], alternatives: Sequence[float], cut_off: bool = False
) -> Outcome:
    """Whether an interval meets what a rule implies, from one exponent to another.

    "inside" needs more than that: the interval must exclude the `alternatives` (such as 0, no dependence), or it says
    nothing for the rule. An interval that is `cut_off` by a grid's edge is too narrow to exclude anything.
    """
    if estimate.low is None or estimate.high is None or cut_off:
        return Outcome.CANNOT_TELL
    if estimate.high < rule[0] or estimate.low > rule[1]:
        return Outcome.OUTSIDE
    held = any(estimate.low <= other <= estimate.high for other in alternatives)
    return Outcome.CANNOT_TELL if held else Outcome.INSIDE

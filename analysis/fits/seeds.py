"""How many seeds would settle what an interval leaves open."""

from collections.abc import Callable

from scipy import stats

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.outcomes import MOST, Lacks, Outcome, Seeds

FEWEST = 3  # to ask for where one gives no measure of noise


def more_seeds(
    present: int,
    estimate: Estimate | None = None,
    judge: Callable[[Estimate], Outcome] | None = None,
    groups: int | None = None,
) -> Lacks:
    """How many seeds would settle an outcome at the present value.

    It is the smallest number n for which `judge` says something settled of the interval, narrowed about the estimate as
    1/√n. Where the interval is Student's, from `groups` groups of so many seeds, its quantile falls as well. Without an
    interval, or without a way to judge another, it is twice the present number and at least `FEWEST`.
    """
    if estimate is None or judge is None or estimate.low is None or estimate.high is None:
        return Lacks.of((), Seeds(present, max(FEWEST, 2 * present)))
    found = (n for n in _numbers(present) if not judge(_narrowed(estimate, present, n, groups)).open)
    return Lacks.of((), Seeds(present, next(found, None)))


def _numbers(present: int) -> list[int]:
    """Every number up to the most that is asked for; beyond it in steps of a quarter, as only their size matters."""
    numbers = list(range(present + 1, Seeds(present, None).most + 1))
    while numbers[-1] < MOST:
        numbers.append(numbers[-1] + numbers[-1] // 4)
    return numbers


def _narrowed(estimate: Estimate, present: int, seeds: int, groups: int | None) -> Estimate:
    factor = (present / seeds) ** 0.5
    if groups is not None and present > 1:
        before, after = (float(stats.t.ppf((1 + CONFIDENCE) / 2, groups * (n - 1))) for n in (present, seeds))
        factor *= after / before
    value, low, high = estimate.value, estimate.low, estimate.high
    assert low is not None
    assert high is not None
    return Estimate(value, value - factor * (value - low), value + factor * (high - value))

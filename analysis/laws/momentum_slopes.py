"""How the best momentum and learning rate move with the budget, which tells two theories of their rules apart.

Tuned optima (γ*, α*) at several budgets T and batches of B tokens a step give two slopes, of log(γ/α) and of log(α/B)
on log T. Whatever is held fixed, and along every batch law, theory has

    stationarity (Frank–Wolfe gap)       −1/4 and −1/2
    function values (KL condition)       −1/3 and −2/3, up to logarithms

Derived from the bounds of arXiv 2603.15958 and of BST (`analysis.laws.rules.lmo`). Slopes are those of least squares.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fits.intervals import CONFIDENCE, TAIL, Estimate
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.fits.parabola import slope
from analysis.fits.seeds import more_seeds
from analysis.tables.arrays import Bools, Floats

Pair = tuple[float, float]
THEORIES: dict[str, Pair] = {"stationarity": (-1 / 4, -1 / 2), "KL": (-1 / 3, -2 / 3)}
UNMOVED: Pair = (0.0, 0.0)  # no dependence on the budget: a theory must be told from that, too
EACH = 1 - (1 - CONFIDENCE) / 2  # confidence of either slope, so that both hold together


@dataclass(frozen=True)
class Tuned:
    """Optima at n places in R resamples, one for measured ones: log₂ α and log₂ γ, (R, n).

    `momentum_ok` and `lr_ok` (R, n): whether they lie inside the values tried.
    """

    momentum: Floats
    lr: Floats
    momentum_ok: Bools
    lr_ok: Bools

    def at(self, places: Bools) -> "Tuned":
        """At some of the places."""
        momentum, lr = self.momentum[:, places], self.lr[:, places]
        return Tuned(momentum, lr, self.momentum_ok[:, places], self.lr_ok[:, places])

    def open(self) -> Lacks:
        """What is missing where an optimum lies inside in too few of the resamples."""
        beyond = {Missing.VALUES_BEYOND: self.momentum_ok, Missing.RATES_BEYOND: self.lr_ok}
        return Lacks.of([kind for kind, ok in beyond.items() if ok.size and (1 - ok.mean(axis=0)).max() > TAIL])


@dataclass(frozen=True)
class MomentumSlopes:
    """Slopes on log T over `n_places` places at `n_budgets` budgets; None below two budgets with optima inside.

    `rate` is that of log(γ/α) and `momentum` that of log(α/B). The intervals hold together with 95%. `theory` is the
    one that they leave, if they leave one and exclude slopes of 0; the outcome then is "inside", and "outside" if they
    leave neither.
    """

    rate: Estimate | None
    momentum: Estimate | None
    n_places: int
    n_budgets: int
    theory: str | None
    outcome: Outcome
    lacks: Lacks = SETTLED


def fit_momentum_slopes(
    tokens: Floats, batch_tokens: Floats, observed: Tuned, drawn: Tuned | None, n_seeds: int = 1
) -> MomentumSlopes:
    """From optima at n places.

    `tokens`, `batch_tokens`  T and B in tokens, (n,)
    `observed`                the measured optima, (1, n); places where one is not inside what was tried do not count
    `drawn`                   resampled ones, (R, n); None where no noise is known, which allows no interval
    `n_seeds`                 seeds of a setting, for the advice on what is open
    """
    keep = observed.momentum_ok[0] & observed.lr_ok[0]
    budgets = len(np.unique(tokens[keep]))
    if budgets < 2:
        lacks = observed.open() if not keep.all() else Lacks.of([Missing.BUDGETS])
        return MomentumSlopes(None, None, int(keep.sum()), budgets, None, Outcome.CANNOT_TELL, lacks)
    x, batch = np.log2(tokens[keep]), np.log2(batch_tokens[keep])
    kept, sample = observed.at(keep), None if drawn is None else drawn.at(keep)

    def estimate(of: Tuned, kind: int) -> Floats:
        return slope(x, of.lr - of.momentum if kind == 0 else of.momentum - batch)

    slopes = [
        Estimate.of(float(estimate(kept, kind)[0]), None if sample is None else estimate(sample, kind), EACH)
        for kind in (0, 1)
    ]
    cut_off = SETTLED if sample is None else sample.open()
    outcome, theory = (Outcome.CANNOT_TELL, None) if cut_off.missing else _judged(slopes)
    lacks = (cut_off if cut_off.missing else _lacks(slopes, n_seeds)) if outcome.open else SETTLED
    return MomentumSlopes(slopes[0], slopes[1], int(keep.sum()), budgets, theory, outcome, lacks)


def _judged(slopes: Sequence[Estimate]) -> tuple[Outcome, str | None]:
    if any(each.low is None for each in slopes):
        return Outcome.CANNOT_TELL, None
    left = [name for name, pair in THEORIES.items() if _holds(slopes, pair)]
    if not left:
        return Outcome.OUTSIDE, None
    if len(left) > 1 or _holds(slopes, UNMOVED):
        return Outcome.CANNOT_TELL, None
    return Outcome.INSIDE, left[0]


def _holds(slopes: Sequence[Estimate], pair: Pair) -> bool:
    """Whether both intervals contain their value."""
    ends = [(each.low, each.high) for each in slopes]
    return all(
        low is not None and high is not None and low <= value <= high
        for (low, high), value in zip(ends, pair, strict=True)
    )


def _lacks(slopes: Sequence[Estimate], n_seeds: int) -> Lacks:
    """Seeds alone where there is no interval; else it is too wide, which budgets farther apart narrow, too."""
    seeds = more_seeds(n_seeds)
    return seeds if any(each.low is None for each in slopes) else seeds | Lacks.of([Missing.BUDGETS])

"""How many tokens a method needs to a loss, from its losses at several budgets: between them, or by a law.

    between     log L over log T by a monotone cubic through the budgets, nothing beyond (`tokens_to_target`)
    law         L(T) = E + A T^-β by `analysis.fits.power_sum`, E fitted or held; T(ℓ) = (A/(ℓ − E))^(1/β)

Both are read from the losses and from draws of them, which hold what the noise of seeds leaves open.
"""

from dataclasses import dataclass

import numpy as np

from analysis.fits.intervals import Estimate
from analysis.fits.power_sum import SMALLEST, PowerSum
from analysis.laws.critical_batch import tokens_to_target
from analysis.tables.arrays import Floats

REFITS = 200  # draws of the losses to which the law is fitted again


@dataclass(frozen=True)
class LossCurve:
    """Losses (n,) at budgets of tokens (n,), ascending, and their draws (R, n); None where no noise is known."""

    tokens: Floats
    loss: Floats
    drawn: Floats | None = None

    @property
    def reach(self) -> tuple[float, float]:
        """The lowest and the highest loss that is measured between budgets."""
        return float(self.loss.min()), float(self.loss[0])

    def between(self, losses: Floats) -> tuple[Floats, Floats | None]:
        """log T at losses (q,), and of the draws (R, q); NaN where a loss is not reached between the budgets."""
        at = np.log(losses)
        drawn = None
        if self.drawn is not None:  # a wild draw of a noisy curve may be below 0: it is the lowest there is
            above = np.maximum(self.drawn, SMALLEST * self.loss.min())
            drawn = tokens_to_target(self.tokens, np.log(above), at)
        return tokens_to_target(self.tokens, np.log(self.loss)[None], at)[0], drawn


@dataclass(frozen=True)
class LossLaw:
    """E, A and β of L(T) = E + A T^-β as vectors (3,), and of draws (R, 3); None without. `held`: E was not fitted."""

    parameters: Floats
    drawn: Floats | None
    held: bool

    @property
    def estimates(self) -> dict[str, Estimate]:
        """With percentiles of the draws, by name."""
        of = [None] * 3 if self.drawn is None else list(self.drawn.T)
        return {
            name: Estimate.of(float(value), None if name == "E" and self.held else draws)
            for name, value, draws in zip(("E", "A", "b"), self.parameters, of, strict=True)
        }

    def at(self, tokens: Floats) -> Floats:
        """The loss at tokens."""
        floor, factor, exponent = self.parameters
        return np.asarray(floor + factor * tokens**-exponent)

    def log_tokens(self, losses: Floats) -> tuple[Floats, Floats | None]:
        """log T at losses (q,), and of the draws (R, q); NaN at losses that are not above E."""
        drawn = None if self.drawn is None else _inverse(self.drawn, losses)
        return _inverse(self.parameters[None], losses)[0], drawn


def fit_loss_law(curve: LossCurve, floor: float | None = None) -> LossLaw | None:
    """The law of a curve, with `floor` as its E if that is given.

    None where there are fewer distinct budgets than parameters, or a loss is not above the floor.
    """
    if floor is not None and not floor < curve.loss.min():
        return None
    problem = PowerSum(curve.tokens[None], curve.loss, floor)
    if problem.n_points < problem.n_parameters:
        return None
    best, even = problem.fit(), np.ones(len(curve.loss))
    if curve.drawn is None:
        return LossLaw(best, None, floor is not None)
    usable = [losses for losses in curve.drawn[:REFITS] if losses.min() > (floor or 0.0)]
    found = [PowerSum(curve.tokens[None], losses, floor).refit(best, even) for losses in usable]
    return LossLaw(best, np.stack(found) if found else None, floor is not None)


def _inverse(parameters: Floats, losses: Floats) -> Floats:
    floor, factor, exponent = (column[:, None] for column in parameters.T)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (np.log(factor) - np.log(losses - floor)) / exponent
    return np.where(np.isfinite(found), found, np.nan)

"""The free power law: nothing but a line in logarithms through optima at several budgets."""

from dataclasses import dataclass

import numpy as np

from analysis.laws.rules.base import Certainty, Point, Rule, Values
from analysis.tables.arrays import Floats
from scionlab.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PowerLaw(Rule):
    """The line in logarithms through measured optima: B·S ∝ T^batch_exponent, lr ∝ T^lr_exponent.

    It passes through (`tokens`, `at_batch_tokens`, `at_lr`), a point of reference on the line, not the base. All fields
    but `tokens` may have a resample axis.
    """

    name: str = "power-law"
    title: str = "B·S ∝ T^q, lr ∝ T^p, fitted"
    source: str = "least squares through the optima measured here"
    note: str = "nothing but the measured budgets supports it"
    certainty: Certainty = Certainty.DERIVED
    tokens: float
    at_batch_tokens: Values
    at_lr: Values
    batch_exponent: Values
    lr_exponent: Values

    @classmethod
    def fit(cls, tokens: Floats, batch_tokens: Floats, lr: Floats) -> "PowerLaw":
        """Least squares in logarithms: tokens (n,), batch_tokens (..., n), lr (..., n); fields get the shape (...).

        UserError unless there are at least two different budgets.
        """
        budgets = np.unique(tokens)
        if len(budgets) < 2:
            raise UserError(f"power-law: {len(budgets)} token budget is not enough; a line needs at least 2")
        # Logarithms relative to the largest budget: the reference then lies where predictions start from.
        x = np.log2(tokens / budgets[-1])
        (q, batch), (p, rate) = _line(x, np.log2(batch_tokens)), _line(x, np.log2(lr))
        return cls(tokens=float(budgets[-1]), at_batch_tokens=2**batch, at_lr=2**rate, batch_exponent=q, lr_exponent=p)

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return self.at_batch_tokens * (tokens / self.tokens) ** self.batch_exponent

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens`; the batch does not enter, for it was fitted along the best one."""
        return self.at_lr * (tokens / self.tokens) ** self.lr_exponent


def _line(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept (...) of the least-squares lines through x (n,), y (..., n)."""
    slope, intercept = np.polyfit(x, y.reshape(-1, y.shape[-1]).T, 1)
    return slope.reshape(y.shape[:-1])[()], intercept.reshape(y.shape[:-1])[()]

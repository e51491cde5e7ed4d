"""The BST rule where κ depends on the batch: a fixed point in the batch size."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from analysis.laws.rules import BST_SOURCE, Certainty, Point, Rule, Values
from analysis.tables.arrays import Floats
from scionlab.errors import UserError, argument

EXPONENT, SHIFT = "kappa-batch-exponent", "kappa-batch-shift"


def kappa_rule(
    measured: tuple[float, float] | None,
    exponent: float | None,
    shift: float | None,
    constants: float,
    base: Point,
    tokens: float,
) -> tuple["KappaBst | None", list[str]]:
    """BST with the given κ(B), else with the `measured` one, exponent and shift; None without either.

    Beside it sentences on what to distrust: a measured κ(B) that has no solution for the budget `tokens` is left out.
    UserError for a shift (sequences) without an exponent, and for a given κ(B) that `KappaBst` refuses.
    """
    if exponent is not None:
        return KappaBst(exponent=exponent, shift=shift or 0.0, constants=constants), []
    if measured is None:
        if shift is not None:
            raise UserError(f"{argument(SHIFT)}: {shift:g} says nothing without {argument(EXPONENT)}")
        return None, []
    try:
        rule = KappaBst(exponent=measured[0], shift=measured[1] if shift is None else shift, constants=constants)
        if shift is None:
            rule.batch_tokens(base, tokens)  # whether there is a solution depends on base and budget, too
        return rule, []
    except UserError as error:
        return None, [f"bst-kappa is left out for the measured κ(B): {error}"]


@dataclass(frozen=True, kw_only=True)
class KappaBst(Rule):
    """`bst` where κ depends on the batch, κ(B) = (B + shift)^exponent with B in sequences: a fixed point in B₁.

        B₁S₁ = B₀S₀ · (r · constants · κ(B₁)/κ(B₀))^(2/3)        lr₁ = lr₀ · (B₁S₁/B₀S₀)/r

    The formula is the corollary of `BST_SOURCE`, its κ that of the paper's measurements, exponent 0.1 and shift −9.4. κ
    is read off at B₁ = B₁S₁/S₀, as if the sequence length were kept.

    `exponent`   no unit, below 1.5
    `shift`      sequences, 0 by default; it may be negative where B₀ + shift is above 0
    `constants`  no unit, 1 by default: what else changes, (μ₁/μ₀)(κ₁/κ₀)/(L₁/L₀), where κ₁/κ₀ leaves out the batch

    For shift ≥ 0 the right side grows more slowly than the left, so there is exactly one solution. For shift < 0 that
    holds above `smallest_batch`. The base must lie there, and B₁ is the solution there: the one that starts at B₀ and
    grows with T. A base or a budget for which there is none raises UserError.
    """

    name: str = "bst-kappa"
    title: str = "BST with κ(B) solved self-consistently"
    source: str = BST_SOURCE
    note: str = "κ at the sequence length of the base"
    certainty: Certainty = Certainty.READ
    exponent: float
    shift: float = 0.0
    constants: float = 1.0

    def __post_init__(self) -> None:
        if not self.exponent < 3 / 2:
            raise UserError(
                f"{argument(EXPONENT)}: {self.exponent:g} is not allowed: from 1.5 on no batch size, or not only one, "
                "solves the rule; it must be below 1.5"
            )
        if not np.isfinite(self.shift):
            raise UserError(f"{argument(SHIFT)}: {self.shift:g} is not allowed; it must be a finite number")

    @property
    def smallest_batch(self) -> float:
        """Sequences above which there is one solution at most: −shift/(1 − 2/3·exponent), 0 for shift ≥ 0.

        For an exponent below 0 it is −shift, where κ ends.
        """
        return max(0.0, -self.shift / (1 - self._pull))

    @property
    def _pull(self) -> float:
        """2/3 of the exponent: as B → ∞, how fast the right side follows the left; 0 for an exponent below 0."""
        return 2 / 3 * max(self.exponent, 0.0)

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`, solved for every base point on its own."""
        smallest = float(np.min(base.batch_size))
        if not smallest > self.smallest_batch:
            raise UserError(
                f"{argument(SHIFT)}: {self.shift:g} is not allowed for a base of {smallest:g} sequences; it must be "
                f"above {-smallest * (1 - self._pull):.4g}"
            )
        drive = np.log(self.constants * tokens / base.tokens)
        if self.shift < 0:
            least = self._least_drive(np.asarray(base.batch_size, dtype=float))
            if np.any((drive < 0) & (drive <= least)):
                enough = float(np.max(base.tokens * np.exp(least))) / self.constants
                raise UserError(
                    f"{argument(SHIFT)}: {self.shift:g} is not allowed for {tokens:.4g} tokens; it must be nearer to "
                    f"0, or the tokens above {enough:.4g}"
                )
        solve = self._log_growth if self.shift >= 0 else self._log_growth_below
        log_growth = np.vectorize(solve, otypes=[float])(base.batch_size, drive)
        with np.errstate(over="ignore"):
            return base.batch_tokens * np.exp(log_growth)[()]

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens` when a step takes `batch_tokens` tokens."""
        return base.lr * (batch_tokens / base.batch_tokens) / (tokens / base.tokens)

    def _log_growth(self, batch_size: float, drive: float) -> float:
        """x = ln(B₁/B₀) with x = 2/3 (drive + ln κ(B₀eˣ) − ln κ(B₀)) for shift ≥ 0. In logs nothing overflows."""
        log_batch = np.log(batch_size)
        with np.errstate(divide="ignore"):
            log_shift = np.log(self.shift)

        def excess(x: float) -> float:
            kappa = np.logaddexp(log_batch + x, log_shift) - np.logaddexp(log_batch, log_shift)
            return float(x - 2 / 3 * (drive + self.exponent * kappa))

        # The excess rises with slope at least 1 - 2/3·exponent, so its root is no farther from 0 than this.
        reach = abs(excess(0.0)) / (1 - self._pull) + 1
        return float(brentq(excess, -reach, reach, xtol=1e-13))

    def _log_growth_below(self, batch_size: float, drive: float) -> float:
        """The same for shift < 0, solved in y = ln(B₁ + shift): near B₁ = −shift only that tells batches apart."""
        log_batch, log_shift, start = np.log(batch_size), np.log(-self.shift), np.log(batch_size + self.shift)

        def growth(y: float) -> float:
            return float(np.logaddexp(y, log_shift) - log_batch)

        def excess(y: float) -> float:
            return growth(y) - 2 / 3 * (drive + self.exponent * float(y - start))

        # The excess rises from `low` on, and the root is not below it.
        if drive >= 0:
            low = start
        elif self.exponent > 0:
            low = self._lowest
        else:
            low = log_shift - 50  # nearer to -shift than a double can tell
        if excess(low) >= 0:
            return growth(low)
        reach = 1.0
        while excess(start + reach) < 0:
            reach *= 2
        return growth(brentq(excess, low, start + reach, xtol=1e-13))

    @property
    def _lowest(self) -> float:
        """The ln of smallest batch + shift, which is smallest batch · pull: as a sum of logs it does not underflow."""
        return float(np.log(self.smallest_batch) + np.log(self._pull))

    def _least_drive(self, batch_size: Floats) -> Floats:
        """The ln of constants · r up to which shift < 0 has no solution above `smallest_batch`; −∞ where all have."""
        if self.exponent < 0:
            return np.full_like(batch_size, -np.inf)
        least = 3 / 2 * (np.log(self.smallest_batch) - np.log(batch_size))
        if self.exponent > 0:
            least -= self.exponent * (self._lowest - np.log(batch_size + self.shift))
        return np.asarray(least)

"""Rules that carry a tuned setting from one token budget to another, and nothing else.

A rule is a batch law and a learning-rate law. From a base point (T₀, B₀S₀, lr₀) to a budget T₁ = r·T₀ it says

    batch        B₁S₁ = f(base, T₁)
    lr           lr₁ = g(base, T₁, B₁S₁)        read off at any batch: also at one that was rounded

and momentum stays as it is. Most rules are anchored power laws, so that r = 1 gives the base back:

    B₁S₁ = B₀S₀ · (c·r)^q        lr₁ = lr₀ · r^p · (B₁S₁/B₀S₀)^s

`RULES` holds those that need nothing but a base point. Three need more: `KappaBst` (`analysis.laws.kappa`) the batch
law of κ, `AbsoluteStepLaw` the number of parameters, `PowerLaw` optima at several budgets. Fields of a base point, and
of a fitted power law, may be arrays of one shape (R,), resamples: predictions then have that shape, too.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from analysis.tables.arrays import Floats
from scionlab.errors import UserError

Values = float | Floats


@dataclass(frozen=True)
class Point:
    """One setting: T `tokens`, B `batch_size` in sequences, S `seq_len` in tokens, peak `lr`, `momentum` if known."""

    tokens: Values
    batch_size: Values
    seq_len: Values
    lr: Values
    momentum: float | None = 0.1

    @property
    def batch_tokens(self) -> Values:
        """B·S, tokens a step."""
        return self.batch_size * self.seq_len

    @property
    def steps(self) -> Values:
        """K = T/(B·S), fractions included."""
        return self.tokens / self.batch_tokens


@dataclass(frozen=True)
class Setting:
    """What a rule predicts, not rounded; how `batch_tokens` is split into B and S is the planner's business."""

    batch_tokens: Values
    lr: Values


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """A batch law and a learning-rate law; `title` is its formula, `source` who found it, `note` what to mind."""

    name: str
    title: str
    source: str
    note: str = ""

    @abstractmethod
    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""

    @abstractmethod
    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens` when a step takes `batch_tokens` tokens."""

    def predict(self, base: Point, tokens: float) -> Setting:
        """The rule's batch at the budget `tokens`, and the learning rate there."""
        batch_tokens = self.batch_tokens(base, tokens)
        return Setting(batch_tokens, self.learning_rate(base, tokens, batch_tokens))


@dataclass(frozen=True, kw_only=True)
class Anchored(Rule):
    """B₁S₁ = B₀S₀·(constants·r)^batch_exponent and lr₁ = lr₀·r^tokens_exponent·(B₁S₁/B₀S₀)^lr_batch_exponent."""

    batch_exponent: float
    tokens_exponent: float
    lr_batch_exponent: float
    constants: float = 1.0

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return base.batch_tokens * (self.constants * tokens / base.tokens) ** self.batch_exponent

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens` when a step takes `batch_tokens` tokens."""
        growth = batch_tokens / base.batch_tokens
        return base.lr * (tokens / base.tokens) ** self.tokens_exponent * growth**self.lr_batch_exponent


BST_SOURCE = "Islamov et al., arXiv 2603.21191, Corollary 4.1"


def bst(mu_ratio: float = 1.0, l_ratio: float = 1.0, kappa_ratio: float = 1.0) -> Anchored:
    """The rule B₁S₁ = B₀S₀ (r (μ₁/μ₀)(κ₁/κ₀)/(L₁/L₀))^(2/3), lr₁ = lr₀ (B₁S₁/B₀S₀)/r of `BST_SOURCE`.

    Each ratio is the constant of the large run over that of the base, without unit and 1 by default: `mu_ratio` of μ,
    `l_ratio` of the smoothness L, `kappa_ratio` of κ, where κσ⋆/√(B·S) is the noise of a gradient in the dual norm.
    """
    return Anchored(
        name="bst",
        title="B·S ∝ T^(2/3), lr ∝ B·S/T",
        source=BST_SOURCE,
        batch_exponent=2 / 3,
        tokens_exponent=-1,
        lr_batch_exponent=1,
        constants=mu_ratio * kappa_ratio / l_ratio,
    )


def square_root(mu_ratio: float = 1.0, l_ratio: float = 1.0, kappa_ratio: float = 1.0) -> Anchored:
    """The batch of `bst` with the square-root rule for the learning rate: lr ∝ √(B·S) at fixed T.

    `mu_ratio`, `l_ratio` and `kappa_ratio` are those of `bst`.
    """
    return Anchored(
        name="sqrt",
        title="B·S ∝ T^(2/3), lr ∝ √(B·S)",
        source="Krizhevsky, arXiv 1404.5997; Malladi et al., arXiv 2205.10287",
        note="the square-root rule is one at fixed T and says nothing about T itself",
        batch_exponent=2 / 3,
        tokens_exponent=0,
        lr_batch_exponent=1 / 2,
        constants=mu_ratio * kappa_ratio / l_ratio,
    )


NO_CHANGE = Anchored(
    name="no-change",
    title="same batch, same lr",
    source="Yang et al., arXiv 2203.03466: what μP advises when only T grows",
    batch_exponent=0,
    tokens_exponent=0,
    lr_batch_exponent=0,
)
# Along its own batch law T^(-0.56 + 0.62·0.45) = T^-0.28.
OPTIMAL_NORM = Anchored(
    name="norm",
    title="B·S ∝ T^0.45, lr ∝ (B·S)^0.62 T^-0.56",
    source="Filatov et al., arXiv 2510.03871",
    batch_exponent=0.45,
    tokens_exponent=-0.56,
    lr_batch_exponent=0.62,
)
STEP_LAW = Anchored(
    name="steplaw",
    title="B·S ∝ T^0.571, lr ∝ T^0.307",
    source="Li et al., arXiv 2503.04715",
    note="measured for AdamW; here its exponents from your base",
    batch_exponent=0.571,
    tokens_exponent=0.307,
    lr_batch_exponent=0,
)


@dataclass(frozen=True, kw_only=True)
class AbsoluteStepLaw(Rule):
    """B·S = 0.58 T^0.571 tokens and lr = 1.79 N^-0.713 T^0.307, whatever the base. N: parameters without embedding."""

    name: str = "steplaw-absolute"
    title: str = "B·S = 0.58 T^0.571, lr = 1.79 N^-0.713 T^0.307"
    source: str = "Li et al., arXiv 2503.04715"
    note: str = "measured for AdamW; does not use your base"
    n_params: float

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return 0.58 * tokens**0.571

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens`; the batch does not enter."""
        return 1.79 * self.n_params**-0.713 * tokens**0.307


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


RULES: dict[str, Rule] = {rule.name: rule for rule in (bst(), NO_CHANGE, square_root(), OPTIMAL_NORM, STEP_LAW)}

"""What a rule is: a batch law, a learning-rate law, and what else it moves.

From a base point (T₀, B₀S₀, lr₀, α₀, λ₀, β₂₀) to a budget T₁ = r·T₀ a rule says

    batch        B₁S₁ = f(base, T₁)
    lr           lr₁ = g(base, T₁, B₁S₁)        read off at any batch: also at one that was rounded
    α, λ, β₂     likewise, where the rule moves them; else they stay

Most rules are anchored power laws, so that r = 1 gives the base back. With b = B₁S₁/B₀S₀:

    B₁S₁ = B₀S₀ · (c·r)^q        lr₁ = lr₀ · r^p · b^s        α₁ = α₀ · r^p′ · b^s′        λ₁ = λ₀ · r^p″ · b^s″

and β₂₁ = β₂₀^(r^p‴ · b^s‴): a half-life that moves. For β₂ near 1 it is 1 − β₂ ∝ r^p‴ · b^s‴, but never leaves (0, 1).
Fields of a base point may be arrays of one shape (R,), resamples: predictions then have that shape, too.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from analysis.tables.arrays import Floats
from scionlab.errors import UserError, argument

Values = float | Floats


class Certainty(StrEnum):
    """How sure it is that a rule is what its source says. A rule that says nothing of it is remembered."""

    READ = "read in the source"
    DERIVED = "derived here"
    SEEN = "seen second hand"
    REMEMBERED = "remembered"


class Need(StrEnum):
    """What a rule must know besides the base's tokens, batch and learning rate, by the option that gives it."""

    MOMENTUM = "base-momentum"
    WEIGHT_DECAY = "base-weight-decay"
    BETA2 = "base-beta2"
    PARAMS = "params"


@dataclass(frozen=True)
class Point:
    """One setting: T `tokens`, B `batch_size` in sequences, S `seq_len` in tokens, peak `lr`, and what is known of:

    `momentum`      α, the weight of the new gradient, 0.1 by default
    `weight_decay`  λ, as the optimizer counts it: a step shrinks by lr·λ
    `beta2`         β₂, the weight of the old average of squares
    `n_params`      N, parameters without embedding
    """

    tokens: Values
    batch_size: Values
    seq_len: Values
    lr: Values
    momentum: float | None = 0.1
    weight_decay: float | None = None
    beta2: float | None = None
    n_params: float | None = None

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
    """What a rule predicts, not rounded; how `batch_tokens` is split into B and S is the planner's business.

    α, λ and β₂ are the base's where the rule does not move them, and None where the base's are not known.
    """

    batch_tokens: Values
    lr: Values
    momentum: Values | None = None
    weight_decay: Values | None = None
    beta2: Values | None = None


@dataclass(frozen=True)
class Power:
    """A factor r^tokens · b^batch, of the budget's growth r and the batch's growth b."""

    tokens: float
    batch: float

    def factor(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """The factor from a base point to a budget and a batch."""
        return (tokens / base.tokens) ** self.tokens * (batch_tokens / base.batch_tokens) ** self.batch


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """A rule: `title` is its formula, `source` who found it, `note` what to mind, `certainty` how sure it is.

    `needs` is what it must know; what it cannot do without is left out of plans where that is not given.
    """

    name: str
    title: str
    source: str
    note: str = ""
    certainty: Certainty = Certainty.REMEMBERED

    @property
    def moves(self) -> tuple[Need, ...]:
        """What of α, λ and β₂ the rule moves; none by default."""
        return ()

    @property
    def needs(self) -> tuple[Need, ...]:
        """What it must know: the base's value of everything it moves, by default."""
        return self.moves

    def for_size(self, n_params: float | None) -> "Rule":
        """The rule for a network of `n_params` parameters; itself, unless it depends on them."""
        return self

    @property
    def knows_size(self) -> bool:
        """Whether its prediction depends on the number of parameters."""
        return False

    @property
    def absolute(self) -> bool:
        """Whether it says batch and learning rate without a base, whose values are then not read."""
        return False

    @abstractmethod
    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""

    @abstractmethod
    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens` when a step takes `batch_tokens` tokens."""

    def momentum(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """α₁ there, which may be above 1; None where the base's is not known."""
        return base.momentum

    def weight_decay(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """λ₁ there; None where the base's is not known."""
        return base.weight_decay

    def beta2(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """β₂ there; None where the base's is not known."""
        return base.beta2

    def predict(self, base: Point, tokens: float) -> Setting:
        """The rule's batch at the budget `tokens`, and everything else there."""
        return self.at(base, tokens, self.batch_tokens(base, tokens))

    def at(self, base: Point, tokens: float, batch_tokens: Values) -> Setting:
        """What the rule says at the budget `tokens` when a step takes `batch_tokens` tokens."""
        where = base, tokens, batch_tokens
        return Setting(
            batch_tokens=batch_tokens,
            lr=self.learning_rate(*where),
            momentum=self.momentum(*where),
            weight_decay=self.weight_decay(*where),
            beta2=self.beta2(*where),
        )

    def lacking(self, base: Point, n_params: float | None = None) -> tuple[Need, ...]:
        """What it must know and a base point, and the size of the large network, do not say."""
        known = {
            Need.MOMENTUM: base.momentum,
            Need.WEIGHT_DECAY: base.weight_decay,
            Need.BETA2: base.beta2,
            Need.PARAMS: n_params,
        }
        return tuple(need for need in self.needs if known[need] is None)


@dataclass(frozen=True, kw_only=True)
class Anchored(Rule):
    """B₁S₁ = B₀S₀·(constants·r)^batch_exponent and lr₁ = lr₀·r^tokens_exponent·(B₁S₁/B₀S₀)^lr_batch_exponent.

    `momentum_power` and `decay_power` are what α and λ are multiplied by, `beta2_power` what the power of β₂ is; None,
    the default, where the rule does not move them.
    """

    batch_exponent: float
    tokens_exponent: float
    lr_batch_exponent: float
    constants: float = 1.0
    momentum_power: Power | None = None
    decay_power: Power | None = None
    beta2_power: Power | None = None

    @property
    def moves(self) -> tuple[Need, ...]:
        """What of α, λ and β₂ has a power."""
        powers = {
            Need.MOMENTUM: self.momentum_power,
            Need.WEIGHT_DECAY: self.decay_power,
            Need.BETA2: self.beta2_power,
        }
        return tuple(need for need, power in powers.items() if power is not None)

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return base.batch_tokens * (self.constants * tokens / base.tokens) ** self.batch_exponent

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens` when a step takes `batch_tokens` tokens."""
        growth = batch_tokens / base.batch_tokens
        return base.lr * (tokens / base.tokens) ** self.tokens_exponent * growth**self.lr_batch_exponent

    def momentum(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """α₁ there."""
        if self.momentum_power is None or base.momentum is None:
            return base.momentum
        return base.momentum * self.momentum_power.factor(base, tokens, batch_tokens)

    def weight_decay(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """λ₁ there."""
        if self.decay_power is None or base.weight_decay is None:
            return base.weight_decay
        return base.weight_decay * self.decay_power.factor(base, tokens, batch_tokens)

    def beta2(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """β₂ there."""
        if self.beta2_power is None or base.beta2 is None:
            return base.beta2
        return base.beta2 ** self.beta2_power.factor(base, tokens, batch_tokens)


@dataclass(frozen=True, kw_only=True)
class OfSize(Rule):
    """A rule that depends on the size of the large network, `n_params` parameters without embedding."""

    n_params: float | None = None

    @property
    def knows_size(self) -> bool:
        """Yes."""
        return True

    def for_size(self, n_params: float | None) -> Self:
        """For a network of `n_params`, unless it is for one already, or that is not known."""
        return self if n_params is None or self.n_params is not None else replace(self, n_params=n_params)

    def growth_of_size(self, base: Point) -> float:
        """N₁/N₀; 1, the same network, where one of them is not known."""
        return 1.0 if self.n_params is None or base.n_params is None else self.n_params / base.n_params


@dataclass(frozen=True, kw_only=True)
class OfKnownSize(OfSize):
    """A rule that says nothing unless the size is known; by default it then needs no base for batch and rate."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """N."""
        return (Need.PARAMS,)

    @property
    def absolute(self) -> bool:
        """Yes."""
        return True

    @property
    def size(self) -> float:
        """N of the large network; UserError if it is not known."""
        if self.n_params is None:
            raise UserError(
                f"{argument('params')}: is missing; rule {self.name!r} needs the parameters of the large network"
            )
        return self.n_params

"""The joint law: lines in log N and log T through optima of several network sizes and budgets, fitted to your runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from analysis.laws.joint import BATCH_TOKENS, DECAY, LR, MAIN, MOMENTUM, SYMBOLS, JointLaw, Prediction
from analysis.laws.rules.base import Certainty, Need, OfKnownSize, Point, Values
from scionlab.errors import UserError


@dataclass(frozen=True, kw_only=True)
class JointRule(OfKnownSize):
    """y* = K N^a T^b … for every y of `laws`: lr, batch_tokens (B·S), momentum (α) and weight_decay (λ).

    `further` has the large network's depth and width by name, for laws with a term of them. What has no law stays the
    base's. The batch does not enter the others, for they were fitted along the best one.
    """

    name: str = "joint-law"
    title: str = "lr, B·S ∝ N^a T^b, fitted"
    source: str = "least squares through the optima of all sizes and budgets measured here"
    certainty: Certainty = Certainty.DERIVED
    laws: Mapping[str, JointLaw] = field(repr=False)
    further: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, laws: Mapping[str, JointLaw], note: str = "") -> Self:
        """With its numbers as title."""
        ordered = {name: laws[name] for name in (LR, BATCH_TOKENS, MOMENTUM, DECAY) if name in laws}
        title = ", ".join(f"{SYMBOLS[name]} = {law.formula()}" for name, law in ordered.items())
        return cls(title=title, note=note, laws=ordered)

    @property
    def moves(self) -> tuple[Need, ...]:
        """α and λ, where they have a law."""
        return tuple(
            need for name, need in ((MOMENTUM, Need.MOMENTUM), (DECAY, Need.WEIGHT_DECAY)) if name in self.laws
        )

    @property
    def absolute(self) -> bool:
        """Where it has laws of both batch and learning rate."""
        return {LR, BATCH_TOKENS} <= set(self.laws)

    def prediction(self, quantity: str, tokens: float) -> Prediction | None:
        """What its law says of a quantity, with both intervals; None without a law.

        UserError where the law has a term of a depth or a width that is not known.
        """
        if quantity not in self.laws:
            return None
        law = self.laws[quantity]
        terms = [term.resource for term in law.terms if term.resource not in MAIN]
        for name in terms:
            if name not in self.further:
                raise UserError(f"{name}: is missing; the joint law has a term of the {name} of the large network")
        return law.predict(self.size, tokens, **{name: self.further[name] for name in terms})

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        found = self._value(BATCH_TOKENS, tokens)
        return base.batch_tokens if found is None else found

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens`; the batch does not enter."""
        found = self._value(LR, tokens)
        return base.lr if found is None else found

    def momentum(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """α₁ there."""
        found = self._value(MOMENTUM, tokens)
        return base.momentum if found is None else found

    def weight_decay(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """λ₁ there."""
        found = self._value(DECAY, tokens)
        return base.weight_decay if found is None else found

    def _value(self, quantity: str, tokens: float) -> float | None:
        found = self.prediction(quantity, tokens)
        return None if found is None else float(found.value)

"""Rules that somebody fitted to sweeps: optimal norm, the step law, DeepSeek, the horizon of AdamW, time transfer."""

from dataclasses import dataclass

from analysis.laws.rules.base import Anchored, Certainty, OfKnownSize, OfSize, Point, Values

STEP_LAW_SOURCE = "Li et al., arXiv 2503.04715"

# Along its own batch law T^(-0.56 + 0.62·0.45) = T^-0.28.
OPTIMAL_NORM = Anchored(
    name="norm",
    title="B·S ∝ T^0.45, lr ∝ (B·S)^0.62 T^-0.56",
    source="Filatov et al., arXiv 2510.03871",
    certainty=Certainty.READ,
    batch_exponent=0.45,
    tokens_exponent=-0.56,
    lr_batch_exponent=0.62,
)
STEP_LAW = Anchored(
    name="steplaw",
    title="B·S ∝ T^0.571, lr ∝ T^0.307",
    source=STEP_LAW_SOURCE,
    note="measured for AdamW; here its exponents from your base",
    certainty=Certainty.READ,
    batch_exponent=0.571,
    tokens_exponent=0.307,
    lr_batch_exponent=0,
)
HORIZON = Anchored(
    name="adamw-horizon",
    title="same batch, lr ∝ T^-0.32",
    source="Bjorck et al., arXiv 2409.19913, as a comment in the code of HyperP quotes it",
    note="measured for AdamW, whose batch it does not move",
    certainty=Certainty.SEEN,
    batch_exponent=0,
    tokens_exponent=-0.32,
    lr_batch_exponent=0,
)
TIME_TRANSFER = Anchored(
    name="time-transfer",
    title="B·S ∝ T, same lr",
    source="Filatov et al., arXiv 2410.05838",
    note="it is about the critical batch size; of the learning rate nothing was seen, so that is kept",
    certainty=Certainty.SEEN,
    batch_exponent=1,
    tokens_exponent=0,
    lr_batch_exponent=0,
)


@dataclass(frozen=True, kw_only=True)
class AbsoluteStepLaw(OfKnownSize):
    """B·S = 0.58 T^0.571 tokens and lr = 1.79 N^-0.713 T^0.307, whatever the base. N: parameters without embedding."""

    name: str = "steplaw-absolute"
    title: str = "B·S = 0.58 T^0.571, lr = 1.79 N^-0.713 T^0.307"
    source: str = STEP_LAW_SOURCE
    note: str = "measured for AdamW; does not use your base"
    certainty: Certainty = Certainty.READ

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return 0.58 * tokens**0.571

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens`; the batch does not enter. UserError if the size is not known."""
        return 1.79 * self.size**-0.713 * tokens**0.307


@dataclass(frozen=True, kw_only=True)
class DeepSeek(OfSize):
    """B·S ∝ C^0.3271 and lr ∝ C^-0.1250 in the compute C ∝ N·T, from your base: C₁/C₀ = r·N₁/N₀."""

    name: str = "deepseek"
    title: str = "B·S ∝ C^0.3271, lr ∝ C^-0.125, C ∝ N·T"
    source: str = "DeepSeek, arXiv 2401.02954"
    note: str = "N as in the base unless both sizes are given; its C counts attention, too"
    certainty: Certainty = Certainty.REMEMBERED

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return base.batch_tokens * self._compute(base, tokens) ** 0.3271

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens`; the batch does not enter."""
        return base.lr * self._compute(base, tokens) ** -0.1250

    def _compute(self, base: Point, tokens: float) -> Values:
        return tokens / base.tokens * self.growth_of_size(base)


@dataclass(frozen=True, kw_only=True)
class AbsoluteDeepSeek(OfKnownSize):
    """B·S = 0.2920 C^0.3271 tokens and lr = 0.3118 C^-0.1250, whatever the base, with C = 6·N·T operations."""

    name: str = "deepseek-absolute"
    title: str = "B·S = 0.292 C^0.3271, lr = 0.3118 C^-0.125, C = 6·N·T"
    source: str = "DeepSeek, arXiv 2401.02954"
    note: str = "measured for AdamW; does not use your base; its C counts attention, too"
    certainty: Certainty = Certainty.REMEMBERED

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return 0.2920 * self._flops(tokens) ** 0.3271

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens`; the batch does not enter."""
        return 0.3118 * self._flops(tokens) ** -0.1250

    def _flops(self, tokens: float) -> float:
        return 6 * self.size * tokens

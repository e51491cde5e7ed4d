"""Rules for AdamW that move its weight decay λ and its β₂ beside batch and learning rate."""

from dataclasses import dataclass

from analysis.laws.rules.base import Anchored, Certainty, Need, OfSize, Point, Power, Values

SDE = Anchored(
    name="sde",
    title="lr, λ ∝ √(B·S/T), ln β₂ ∝ B·S/T, same batch",
    source="Mlodozeniec et al. (Complete(d)P), arXiv 2512.22382; Malladi et al., arXiv 2205.10287",
    note="any batch: here the base's; Adam's ε ∝ √(T/(B·S)), too; λ's part is remembered",
    certainty=Certainty.SEEN,
    batch_exponent=0,
    tokens_exponent=-1 / 2,
    lr_batch_exponent=1 / 2,
    decay_power=Power(-1 / 2, 1 / 2),
    beta2_power=Power(-1, 1),
)
TIMESCALE = Anchored(
    name="timescale",
    title="lr·λ·T/(B·S) stays: λ ∝ B·S/T, same batch and lr",
    source="Wang and Aitchison, arXiv 2405.13698; arXiv 2510.19093",
    note="any batch and lr: here the base's; at another lr λ ∝ 1/lr",
    certainty=Certainty.READ,
    batch_exponent=0,
    tokens_exponent=0,
    lr_batch_exponent=0,
    decay_power=Power(-1, 1),
)


@dataclass(frozen=True, kw_only=True)
class PowerLines(OfSize):
    """B·S ∝ T^0.383; λ = B·S/(lr·T·τ) with the timescale τ ∝ (T/N)^−0.527 in units of the run; lr stays."""

    name: str = "power-lines"
    title: str = "B·S ∝ T^0.383, same lr, λ ∝ B·S/T·(T/N)^0.527"
    source: str = "Bergsma et al. (Power Lines), arXiv 2505.13738"
    note: str = "the critical batch there ∝ T^0.462; N as in the base unless both sizes are given, lr then by μP"
    certainty: Certainty = Certainty.SEEN

    @property
    def moves(self) -> tuple[Need, ...]:
        """λ."""
        return (Need.WEIGHT_DECAY,)

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return base.batch_tokens * (tokens / base.tokens) ** 0.383

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """The base's."""
        return base.lr

    def weight_decay(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """λ₁ at the budget `tokens` when a step takes `batch_tokens` tokens."""
        if base.weight_decay is None:
            return None
        r = tokens / base.tokens
        return base.weight_decay * (batch_tokens / base.batch_tokens) / r * (r / self.growth_of_size(base)) ** 0.527

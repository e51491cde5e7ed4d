"""Rules that published training code follows: nanochat, HyperP and Delphi. The last two keep weights on spheres."""

from dataclasses import dataclass

import numpy as np

from analysis.laws.rules.base import Anchored, Certainty, Need, Point, Power, Rule, Values

NANOCHAT = Anchored(
    name="nanochat",
    title="B·S ∝ T^0.383, lr ∝ √(B·S), λ ∝ √(B·S)/T",
    source="karpathy/nanochat, scripts/base_train.py",
    note="batches there are powers of two, and λ then falls by a cosine",
    certainty=Certainty.READ,
    batch_exponent=0.383,
    tokens_exponent=0,
    lr_batch_exponent=1 / 2,
    decay_power=Power(-1, 1 / 2),
)
HYPERP = Anchored(
    name="hyperp",
    title="same batch, lr ∝ √(B·S) T^-0.32",
    source="microsoft/ArchScale, pretrain.py; arXiv 2603.28743",
    note="for weights on spheres, which have no decay; with depth lr ∝ depth^(-1/2)",
    certainty=Certainty.READ,
    batch_exponent=0,
    tokens_exponent=-0.32,
    lr_batch_exponent=1 / 2,
)


@dataclass(frozen=True, kw_only=True)
class Delphi(Rule):
    """2^16 steps at every budget, lr ∝ √(B·S)·T^−0.3, and β₂ with the same half-life in sequences, in [0.9, 0.9999]."""

    name: str = "delphi"
    title: str = "B·S = T/2^16, lr ∝ √(B·S) T^-0.3, ln β₂ ∝ B·S"
    source: str = "Marin, complete_adamh"
    note: str = "for weights on spheres, which have no decay; the batch does not use your base, and is rounded up there"
    certainty: Certainty = Certainty.READ

    @property
    def moves(self) -> tuple[Need, ...]:
        """β₂."""
        return (Need.BETA2,)

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return tokens / 2**16 + 0 * base.batch_tokens

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens` when a step takes `batch_tokens` tokens."""
        return base.lr * (batch_tokens / base.batch_tokens) ** 0.5 * (tokens / base.tokens) ** -0.3

    def beta2(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """β₂ there."""
        if base.beta2 is None:
            return None
        return np.clip(base.beta2 ** (batch_tokens / base.batch_tokens), 0.9, 0.9999)[()]

"""Rules that theory gives for steps of fixed length in a norm (linear minimization oracles: Scion, Muon, sign descent).

Stationarity, the Frank–Wolfe gap. With K = T/(B·S) steps the bound on the gradient is

    Δ/(γK) + σ/(αK√B) + σ√(α/B) + Lγ/α + Lγ

with the distance Δ, noise σ and smoothness L. Minimized over what is free it gives

    FW_GAP_FIXED    α and B fixed: γ ∝ K^(−1/2)
    FW_GAP          α fixed: the same, and B ∝ T^(1/2), from the terms in Δ and in 1/√B against σ√(α/B)
    FW_GAP_ALPHA    B fixed: Δ/(γK) = Lγ/α = σ√(α/B), so α ∝ B·T^(−1/2) and γ ∝ B·T^(−3/4)
    FW_GAP_ALL      nothing fixed: the same at every B from T⁰ to T^(1/2), and the two small terms pick B ∝ T^(1/6)

Function values under the Kurdyka–Łojasiewicz condition: with h = (T₁/ln T₁)/(T₀/ln T₀), B ∝ h^(2/3) and γ ∝ B/h at
fixed α, or α ∝ B·h^(−2/3) at any B (`LmoKl`). Without the logarithms that is BST.
"""

import math
from dataclasses import dataclass

from analysis.laws.rules.base import Anchored, Certainty, Need, Point, Power, Rule, Values
from scionlab.errors import UserError

FW_GAP_SOURCE = "Shulgin et al., arXiv 2603.15958; Frank–Wolfe gap, Theorem 1"
KL_SOURCE = "leloykun, bounds for LMO methods under the KL condition, checked in Lean"

FW_GAP_FIXED = Anchored(
    name="fw-gap-fixed",
    title="same batch, lr ∝ √(B·S/T)",
    source=FW_GAP_SOURCE,
    note="stationarity with α and batch fixed",
    certainty=Certainty.DERIVED,
    batch_exponent=0,
    tokens_exponent=-1 / 2,
    lr_batch_exponent=1 / 2,
)
FW_GAP = Anchored(
    name="fw-gap",
    title="B·S ∝ T^(1/2), lr ∝ √(B·S/T)",
    source=FW_GAP_SOURCE,
    note="stationarity with α fixed",
    certainty=Certainty.READ,
    batch_exponent=1 / 2,
    tokens_exponent=-1 / 2,
    lr_batch_exponent=1 / 2,
)
FW_GAP_ALPHA = Anchored(
    name="fw-gap-alpha",
    title="same batch, lr ∝ B·S T^(-3/4), α ∝ B·S T^(-1/2)",
    source=FW_GAP_SOURCE,
    note="stationarity with the batch fixed (regime B)",
    certainty=Certainty.DERIVED,
    batch_exponent=0,
    tokens_exponent=-3 / 4,
    lr_batch_exponent=1,
    momentum_power=Power(-1 / 2, 1),
)
FW_GAP_ALL = Anchored(
    name="fw-gap-all",
    title="B·S ∝ T^(1/6), lr ∝ B·S T^(-3/4), α ∝ B·S T^(-1/2)",
    source=FW_GAP_SOURCE,
    note="stationarity with everything tuned (regime D); batches from T^0 to T^(1/2) tie to first order",
    certainty=Certainty.DERIVED,
    batch_exponent=1 / 6,
    tokens_exponent=-3 / 4,
    lr_batch_exponent=1,
    momentum_power=Power(-1 / 2, 1),
)


@dataclass(frozen=True, kw_only=True)
class LmoKl(Rule):
    """B ∝ h^(2/3), lr ∝ B/h at fixed α; or with `momentum_moves` the batch stays, lr ∝ B/h and α ∝ B·h^(−2/3).

    h is the growth of T/ln T, with T in tokens. UserError for a budget of 3 tokens or fewer, up to which T/ln T falls.
    """

    source: str = KL_SOURCE
    certainty: Certainty = Certainty.READ
    momentum_moves: bool

    @property
    def moves(self) -> tuple[Need, ...]:
        """α, if it does."""
        return (Need.MOMENTUM,) if self.momentum_moves else ()

    def batch_tokens(self, base: Point, tokens: float) -> Values:
        """B₁S₁ at the budget `tokens`."""
        return base.batch_tokens * (1.0 if self.momentum_moves else self._horizon(base, tokens) ** (2 / 3))

    def learning_rate(self, base: Point, tokens: float, batch_tokens: Values) -> Values:
        """lr₁ at the budget `tokens` when a step takes `batch_tokens` tokens."""
        return base.lr * (batch_tokens / base.batch_tokens) / self._horizon(base, tokens)

    def momentum(self, base: Point, tokens: float, batch_tokens: Values) -> Values | None:
        """α₁ there."""
        if not self.momentum_moves or base.momentum is None:
            return base.momentum
        return base.momentum * (batch_tokens / base.batch_tokens) * self._horizon(base, tokens) ** (-2 / 3)

    def _horizon(self, base: Point, tokens: float) -> float:
        """H: how much T/ln T grows."""
        before = float(base.tokens)
        if min(before, tokens) <= 3:
            raise UserError(
                f"tokens: {min(before, tokens):g} is not allowed for rule {self.name!r}; it must be above 3"
            )
        return (tokens / math.log(tokens)) / (before / math.log(before))


LMO_KL = LmoKl(name="lmo-kl", title="B·S ∝ (T/ln T)^(2/3), lr ∝ B·S ln T/T", momentum_moves=False)
LMO_KL_ALPHA = LmoKl(
    name="lmo-kl-alpha",
    title="same batch, lr ∝ B·S ln T/T, α ∝ B·S (ln T/T)^(2/3)",
    note="the batch is fixed",
    momentum_moves=True,
)


def schatten_batch(p: float, model: str = "variance") -> Anchored:
    """B·S ∝ T^((2p+2)/(3p+2)) and lr ∝ B·S/T, for steps in a norm with the uniform convexity of Schatten-p, p ≥ 2.

    From L R² n^(−(1+2/p)) = σ R n^(−1/p)/√B at n = T/B steps, `model` "variance". With "type", averaging gains B^(−1/p)
    only, which Schatten-p allows in any dimension, and B·S ∝ T^((p+1)/(p+2)). p = ∞ of the former is BST. UserError for
    p below 2 or another model. Derived from the setting of arXiv 2606.15268, whose own rule was not read.
    """
    if not p >= 2:
        raise UserError(f"p: {p:g} is not allowed; it must be at least 2")
    exponents = {"variance": (2 * p + 2, 3 * p + 2), "type": (p + 1, p + 2)}
    limits = {"variance": 2 / 3, "type": 1.0}
    if model not in exponents:
        raise UserError(f"model: {model!r} is not allowed; it must be variance or type")
    above, below = exponents[model]
    exponent = limits[model] if math.isinf(p) else above / below
    return Anchored(
        name=f"schatten-{p:g}" + ("" if model == "variance" else f"-{model}"),
        title=f"B·S ∝ T^{exponent:.3g}, lr ∝ B·S/T",
        source="the setting of Pethick, arXiv 2606.15268",
        note=f"for steps in Schatten-{p:g}",
        certainty=Certainty.DERIVED,
        batch_exponent=exponent,
        tokens_exponent=-1,
        lr_batch_exponent=1,
    )

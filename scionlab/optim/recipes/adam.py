"""AdamW in the standard parametrization and in μP (Yang et al., arXiv 2203.03466, table 8)."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch.optim import Optimizer

from scionlab.optim.recipes.base import Gaussian, fan_in
from scionlab.roles.roles import Claim


class Adam(Gaussian):
    """AdamW with one learning rate for everything: β₁ = 1 − α; matrices are decayed, vectors are not.

    A step shrinks matrices by γ·`weight_decay`, or if `independent_decay` by `weight_decay` times the schedule's factor
    alone, whatever the peak rate (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2).
    """

    ADDED_LATER: ClassVar[frozenset[str]] = Gaussian.ADDED_LATER | {"independent_decay"}
    # Its first steps, by second moments of few gradients, are too long at the rate that is best later.
    warmup: ClassVar[float] = 0.2

    beta2: float = Field(default=0.95, gt=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    independent_decay: bool = False

    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        groups = self.groups(claims, lr, width)
        return [torch.optim.AdamW(groups, lr=lr, betas=(1 - momentum, self.beta2), eps=self.eps)]

    def groups(self, claims: Sequence[Claim], lr: float, width: int) -> list[dict[str, Any]]:
        """Parameter groups: one for all of a kind with equal numbers, as every group costs a step time.

        Kinds do not depend on the numbers: networks that differ in these have the same groups, as a stack needs.
        """
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for claim in claims:
            numbers = self.numbers(claim, lr, width)
            kind = len(claim.shape) > 1, claim.role == "hidden"
            group = found.setdefault((*kind, *numbers.values()), {"params": [], **numbers})
            group["params"].append(claim.parameter)
        return list(found.values())

    def numbers(self, claim: Claim, lr: float, width: int) -> dict[str, float]:
        """A parameter's learning rate and weight decay."""
        return {"lr": lr, "weight_decay": self.decay(lr) if len(claim.shape) > 1 else 0.0}

    def decay(self, lr: float) -> float:
        """What PyTorch multiplies by the rate of every step."""
        return self.weight_decay / lr if self.independent_decay else self.weight_decay


class AdamMuP(Adam):
    """AdamW in μP: at `base_width` it is `Adam`, and from there three things change with width.

    Hidden learning rates fall as 1/width (rate times weight decay, the decay per step, stays); logits are multiplied by
    base_width/width; and the head's initial entries keep the variance they have at the base width.
    """

    base_width: int = Field(default=32, gt=0, le=2**16)

    def output_scale(self, width: int) -> float:
        return self.base_width / width

    def std(self, claim: Claim) -> float:
        factor = math.sqrt(fan_in(claim) / self.base_width) if claim.role == "output" else 1.0
        return super().std(claim) * factor

    def numbers(self, claim: Claim, lr: float, width: int) -> dict[str, float]:
        found = super().numbers(claim, lr, width)
        if claim.role == "hidden":
            found["lr"] *= self.base_width / width
            found["weight_decay"] *= width / self.base_width
        return found

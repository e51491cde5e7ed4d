"""AdamW in the standard parametrization and in μP (Yang et al., arXiv 2203.03466, table 8)."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch.optim import Optimizer

from scionlab.optim.recipe import Gaussian
from scionlab.optim.roles import Claim


class Adam(Gaussian):
    """AdamW with one learning rate for everything: β₁ = 1 − α; matrices are decayed, vectors are not."""

    beta2: float = Field(default=0.95, gt=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)

    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        groups = [self.group(claim, lr * self.lr_factor(claim, width)) for claim in claims]
        return [torch.optim.AdamW(groups, lr=lr, betas=(1 - momentum, self.beta2), eps=self.eps)]

    def lr_factor(self, claim: Claim, width: int) -> float:
        """The parameter's learning rate in units of the trial's."""
        return 1.0

    def group(self, claim: Claim, lr: float) -> dict[str, Any]:
        """A parameter group of one parameter."""
        decay = self.weight_decay if claim.parameter.ndim > 1 else 0.0
        return {"params": [claim.parameter], "lr": lr, "weight_decay": decay}


class AdamMuP(Adam):
    """AdamW in μP: at `base_width` it is `Adam`; from there hidden rates fall and the readout shrinks as 1/width."""

    base_width: int = Field(default=32, gt=0)

    def output_scale(self, width: int) -> float:
        return self.base_width / width

    def lr_factor(self, claim: Claim, width: int) -> float:
        return self.base_width / width if claim.role == "hidden" else 1.0

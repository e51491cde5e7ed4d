"""Muon on hidden matrices (PyTorch's own, which takes no convolutions), AdamW on everything else."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch.optim import Optimizer

from scionlab.optim.adam import Adam
from scionlab.optim.roles import Claim


class Muon(Adam):
    """The trial's learning rate is Muon's; AdamW runs at `adam_lr_ratio` times it, in the standard parametrization.

    So what transfers, or does not, is the pair. The default ratio is the middle of the range (1/16 to 1/4) that trained
    equally well at widths 32 and 128; at 1, AdamW's rate is so high that it decides where the pair's optimum lies.

    `adjust_lr` is PyTorch's: "original" multiplies by √max(1, d_out/d_in), "match_rms_adamw" by 0.2·√max(d_out, d_in).
    """

    adam_lr_ratio: float = Field(default=0.125, gt=0)
    nesterov: bool = True
    adjust_lr: Literal["original", "match_rms_adamw"] = "original"

    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        matrices = [claim.role == "hidden" and claim.parameter.ndim == 2 for claim in claims]
        hidden = [claim.parameter for claim, matrix in zip(claims, matrices, strict=True) if matrix]
        rest = [claim for claim, matrix in zip(claims, matrices, strict=True) if not matrix]
        if not hidden:
            return super().optimizers(rest, lr * self.adam_lr_ratio, momentum, width)
        muon = torch.optim.Muon(
            hidden,
            lr=lr,
            momentum=1 - momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            adjust_lr_fn=self.adjust_lr,
        )
        return [muon, *super().optimizers(rest, lr * self.adam_lr_ratio, momentum, width)]

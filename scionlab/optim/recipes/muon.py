"""Muon on hidden matrices (not convolutions), AdamW on everything else.

It is PyTorch's own where a parameter is one matrix (d_out, d_in), and ours for other layouts, blocks and batches.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch.optim import Optimizer

from scionlab.optim.recipes.adam import Adam
from scionlab.optim.steps.layered_muon import LayeredMuon
from scionlab.roles.roles import Claim


class Muon(Adam):
    """The trial's learning rate is Muon's; AdamW runs at `adam_lr_ratio` times it, in the standard parametrization.

    So what transfers, or does not, is the pair. The default ratio is the middle of the range (1/16 to 1/4) that trained
    equally well at widths 32 and 128; at 1, AdamW's rate is so high that it decides where the pair's optimum lies.

    `adam_lr`, `adam_beta1` and `adam_weight_decay` are AdamW's own where they are given: its rate instead of the
    ratio's, its β₁ instead of 1 − α, its decay instead of `weight_decay`, which is then Muon's alone.

    `adjust_lr` is PyTorch's: "original" multiplies by √max(1, d_out/d_in), "match_rms_adamw" by 0.2·√max(d_out, d_in).
    """

    warmup: ClassVar[float] = 0.0  # Muon's steps are of one length from the first on
    ADDED_LATER: ClassVar[frozenset[str]] = Adam.ADDED_LATER | {"adam_lr", "adam_beta1", "adam_weight_decay"}

    adam_lr_ratio: float = Field(default=0.125, gt=0)
    adam_lr: float | None = Field(default=None, gt=0, le=1e6)
    adam_beta1: float | None = Field(default=None, gt=0, lt=1)
    adam_weight_decay: float | None = Field(default=None, ge=0)
    nesterov: bool = True
    adjust_lr: Literal["original", "match_rms_adamw"] = "original"

    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        hidden = [claim for claim in claims if claim.role == "hidden" and len(claim.shape) == 2]
        rest = [claim for claim in claims if not any(claim is matrix for matrix in hidden)]
        plain = [claim for claim in hidden if _plain(claim)]
        layered = [claim for claim in hidden if not _plain(claim)]
        given: dict[str, Any] = {
            "lr": lr,
            "momentum": 1 - momentum,
            "nesterov": self.nesterov,
            "weight_decay": self.decay(lr),
            "adjust_lr_fn": self.adjust_lr,
        }
        made: list[Optimizer] = []
        if plain:
            made.append(torch.optim.Muon([claim.parameter for claim in plain], **given))
        if layered:
            made.append(LayeredMuon([_group(claim) for claim in layered], **given))
        return [*made, *self._beside(rest, lr, momentum, width)]

    def _beside(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        """AdamW on what Muon does not take."""
        decay = self.weight_decay if self.adam_weight_decay is None else self.adam_weight_decay
        fields = {name: getattr(self, name) for name in Adam.model_fields}
        rate = lr * self.adam_lr_ratio if self.adam_lr is None else self.adam_lr
        average = momentum if self.adam_beta1 is None else 1 - self.adam_beta1
        return Adam(**fields | {"weight_decay": decay}).optimizers(claims, rate, average, width)


def _plain(claim: Claim) -> bool:
    """Whether the parameter is stored as PyTorch's Muon reads it."""
    return (claim.layout, claim.blocks, claim.batch) == ("out_in", 1, 0)


def _group(claim: Claim) -> dict[str, Any]:
    return {"params": [claim.parameter], "layout": claim.layout, "blocks": claim.blocks, "batch": claim.batch}

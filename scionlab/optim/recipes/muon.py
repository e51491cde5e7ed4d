"""Muon and its relatives on hidden matrices (not convolutions), AdamW on everything else.

Muon is PyTorch's own where a parameter is one matrix (d_out, d_in), and ours for other layouts, blocks and batches.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch.optim import Optimizer

from scionlab.optim.recipes.adam import Adam
from scionlab.optim.steps.layered_muon import LayeredMuon
from scionlab.optim.steps.muon_variants import AdaGO, AdaMuon, MuonHyperball, NorMuon
from scionlab.roles.roles import Claim


class Muon(Adam):
    """The trial's learning rate is Muon's; AdamW runs at `adam_lr_ratio` times it, in the standard parametrization.

    So what transfers, or does not, is the pair. The default ratio is the middle of the range (1/16 to 1/4) that trained
    equally well at widths 32 and 128; at 1, AdamW's rate is so high that it decides where the pair's optimum lies.

    `adam_lr`, `adam_beta1` and `adam_weight_decay` are AdamW's own where they are given: its rate instead of the
    ratio's, its β₁ instead of 1 − α, its decay instead of `weight_decay`, which is then Muon's alone.

    `adjust_lr` multiplies the step of a matrix: "original", √max(1, d_out/d_in), and "match_rms_adamw", 0.2·√max(d_out,
    d_in), are PyTorch's; "spectral" is √(d_out/d_in), and "none" 1.
    """

    form: ClassVar[type[LayeredMuon]] = LayeredMuon
    warmup: ClassVar[float] = 0.0  # Muon's steps are of one length from the first on
    ADDED_LATER: ClassVar[frozenset[str]] = Adam.ADDED_LATER | {"adam_lr", "adam_beta1", "adam_weight_decay"}

    adam_lr_ratio: float = Field(default=0.125, gt=0)
    adam_lr: float | None = Field(default=None, gt=0, le=1e6)
    adam_beta1: float | None = Field(default=None, gt=0, lt=1)
    adam_weight_decay: float | None = Field(default=None, ge=0)
    nesterov: bool = True
    adjust_lr: Literal["original", "match_rms_adamw", "spectral", "none"] = "original"

    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        hidden = [claim for claim in claims if claim.role == "hidden" and len(claim.shape) == 2]
        rest = [claim for claim in claims if not any(claim is matrix for matrix in hidden)]
        given: dict[str, Any] = {
            "lr": lr,
            "momentum": 1 - momentum,
            "nesterov": self.nesterov,
            "weight_decay": self.decay(lr),
            "adjust_lr_fn": self.adjust_lr,
        }
        return [*self._matrices(hidden, given), *self._beside(rest, lr, momentum, width)]

    def _matrices(self, claims: Sequence[Claim], given: dict[str, Any]) -> list[Optimizer]:
        """Muon on hidden matrices: PyTorch's where it reads them as they are stored and has their scale."""
        pytorchs = self.form is LayeredMuon and self.adjust_lr in ("original", "match_rms_adamw")
        plain = [claim for claim in claims if pytorchs and _plain(claim)]
        layered = [claim for claim in claims if not (pytorchs and _plain(claim))]
        made: list[Optimizer] = []
        if plain:
            made.append(torch.optim.Muon([claim.parameter for claim in plain], **given))
        if layered:
            made.append(self.form([_group(claim) for claim in layered], **given, **self.form_options()))
        return made

    def form_options(self) -> dict[str, Any]:
        """What the form of Muon's step takes beyond Muon's arguments."""
        return {}

    def _beside(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        """AdamW on what Muon does not take."""
        decay = self.weight_decay if self.adam_weight_decay is None else self.adam_weight_decay
        fields = {name: getattr(self, name) for name in Adam.model_fields}
        rate = lr * self.adam_lr_ratio if self.adam_lr is None else self.adam_lr
        average = momentum if self.adam_beta1 is None else 1 - self.adam_beta1
        return Adam(**fields | {"weight_decay": decay}).optimizers(claims, rate, average, width)


class NorMuonRecipe(Muon):
    """NorMuon: the rows of Muon's step are made equally long. `matrix_beta2` is the decay of their mean squares."""

    form: ClassVar[type[LayeredMuon]] = NorMuon
    matrix_beta2: float = Field(default=0.95, ge=0, lt=1)

    def form_options(self) -> dict[str, Any]:
        return {"beta2": self.matrix_beta2}


class AdaMuonRecipe(NorMuonRecipe):
    """AdaMuon: the entries of Muon's step are, of signs, made equally large, and as large as AdamW's.

    `adjust_lr` is not read: entries have a root mean square of 0.2.
    """

    form: ClassVar[type[LayeredMuon]] = AdaMuon

    @property
    def unread(self) -> frozenset[str]:
        return super().unread | {"adjust_lr"}


class MuonHyperballRecipe(Muon):
    """Muon on spheres: hidden matrices keep their Frobenius norm and turn by the rate. `weight_decay` is AdamW's."""

    form: ClassVar[type[LayeredMuon]] = MuonHyperball

    @property
    def unread(self) -> frozenset[str]:
        return super().unread | {"adjust_lr"}


class AdaGoRecipe(Muon):
    """AdaGO: Muon's steps at AdaGrad's rate of gradient norms, clipped at `ceiling` and no smaller than `smallest`."""

    form: ClassVar[type[LayeredMuon]] = AdaGO
    ceiling: float = Field(default=10.0, gt=0)
    smallest: float = Field(default=5e-4, ge=0)

    def form_options(self) -> dict[str, Any]:
        return {"ceiling": self.ceiling, "smallest": self.smallest}


def _plain(claim: Claim) -> bool:
    """Whether the parameter is stored as PyTorch's Muon reads it."""
    return (claim.layout, claim.blocks, claim.batch) == ("out_in", 1, 0)


def _group(claim: Claim) -> dict[str, Any]:
    return {"params": [claim.parameter], "layout": claim.layout, "blocks": claim.blocks, "batch": claim.batch}

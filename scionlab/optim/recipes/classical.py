"""The classical members of the template as recipes: standard Gaussian start, and balls of radius 1 in one geometry.

Steepest descent in a norm is SGD (Euclidean), ℓ∞-descent (largest entry), spectral descent (largest singular value);
LMO steps are normalized SGD, SignSGD and Signum. Norms are layer by layer: normalized SGD normalizes every layer, and
ℓ∞-descent sums over the whole network. AdaGrad and RMSProp are PyTorch's.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch.optim import Optimizer

from scionlab.optim.recipes.adam import Adam
from scionlab.optim.recipes.base import Gaussian
from scionlab.optim.recipes.conditional import LmoRecipe
from scionlab.optim.steps.parts import Average, Scope, StepRule
from scionlab.optim.steps.shampoo import Shampoo
from scionlab.roles.presets import VECTORS
from scionlab.roles.roles import Claim


class ClassicalRecipe(Gaussian, LmoRecipe):
    """A recipe around the LMO with a Gaussian start and the same norm for every role; unconstrained."""

    constrained: bool = False
    radius_input: float = Field(default=1.0, gt=0)
    radius_hidden: float = Field(default=1.0, gt=0)
    radius_output: float = Field(default=1.0, gt=0)
    norm_vector: str = "euclidean-vector"

    def geometry(self, role: str) -> tuple[str, float]:
        return (self.norm_vector, 1.0) if role in VECTORS else super().geometry(role)


class NormalizedSgdRecipe(ClassicalRecipe):
    """Normalized SGD with momentum: d/‖d‖_F of every layer."""

    norm_input: str = "euclidean"
    norm_hidden: str = "euclidean"
    norm_output: str = "euclidean"


class SgdRecipe(NormalizedSgdRecipe):
    """SGD with an averaged gradient: Euclidean steepest descent, layer by layer."""

    step_rule: StepRule = "steepest"
    scope: Scope = "layer"


class SignumRecipe(ClassicalRecipe):
    """Signum: the sign of the average."""

    norm_input: str = "sign-onehot"
    norm_hidden: str = "sign-onehot"
    norm_output: str = "sign-onehot"
    norm_vector: str = "bias-max"


class SignSgdRecipe(SignumRecipe):
    """SignSGD: the sign of the gradient; momentum is not read."""

    average: Average = "none"


class LInfDescentRecipe(SignSgdRecipe):
    """ℓ∞-descent: ‖g‖₁ sign(g), with the sum over the whole network."""

    step_rule: StepRule = "steepest"


class SpectralDescentRecipe(ClassicalRecipe):
    """Stochastic spectral descent: (Σσ) U Vᵀ of every matrix, exactly; Euclidean for vectors; momentum is not read."""

    norm_input: str = "schatten-inf"
    norm_hidden: str = "schatten-inf"
    norm_output: str = "schatten-inf"
    average: Average = "none"
    step_rule: StepRule = "steepest"
    scope: Scope = "layer"


class ShampooRecipe(Gaussian):
    """Shampoo with full factors (`scionlab.optim.steps.shampoo`)."""

    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)

    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        parameters = [claim.parameter for claim in claims]
        own = {"beta2": self.beta2, "eps": self.eps, "weight_decay": self.weight_decay}
        return [Shampoo(parameters, lr=lr, momentum=momentum, **own)]


class AdaGradRecipe(Gaussian):
    """AdaGrad, PyTorch's; it has no momentum."""

    eps: float = Field(default=1e-10, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)

    @property
    def reads_momentum(self) -> bool:
        return False

    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        parameters = [claim.parameter for claim in claims]
        return [torch.optim.Adagrad(parameters, lr=lr, eps=self.eps, weight_decay=self.weight_decay)]


class RmsPropRecipe(Adam):
    """RMSProp, PyTorch's, without momentum; weight decay is coupled."""

    warmup: ClassVar[float] = 0.0
    weight_decay: float = Field(default=0.0, ge=0)

    @property
    def reads_momentum(self) -> bool:
        return False

    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        groups = self.groups(claims, lr, width)
        return [torch.optim.RMSprop(groups, lr=lr, alpha=self.beta2, eps=self.eps)]

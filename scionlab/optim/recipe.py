"""The contract of a recipe: how one named method initializes a model, scales its logits, and updates it.

A recipe is a frozen pydantic model, so the options a trial may set are its fields, typed and checked.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.optim import Optimizer

from scionlab.optim.roles import Claim


class Recipe(BaseModel, ABC):
    """A method with its options. Momentum α is the weight of the new gradient for every method."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def output_scale(self, width: int) -> float:
        """Constant factor on the logits."""
        return 1.0

    def check(self, lr: float) -> None:
        """Raise UserError for a learning rate the method cannot use; any positive one is fine by default."""
        return

    @abstractmethod
    def initialize(self, claims: Sequence[Claim], generator: torch.Generator) -> None:
        """Fill the parameters in place."""

    @abstractmethod
    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        """The optimizers that together update every parameter."""


class Gaussian(Recipe):
    """Standard initialization, shared by the methods that are not norm-constrained.

    Hidden and output matrices have variance 1/d_in; embeddings and matrices shared by input and output have
    standard deviation `embedding_std`; biases start at 0; gains keep what their module set.
    """

    embedding_std: float = Field(default=1.0, gt=0)
    output_init: float = Field(default=1.0, ge=0, description="factor on the head's initial standard deviation")

    @torch.no_grad()
    def initialize(self, claims: Sequence[Claim], generator: torch.Generator) -> None:
        for claim in claims:
            weight = claim.parameter
            if claim.role == "bias":
                weight.zero_()
            elif claim.role != "gain":
                embedding = claim.role == "input" or len(claim.names) > 1
                std = self.embedding_std if embedding else 1 / math.sqrt(weight.shape[-1])
                std *= self.output_init if claim.role == "output" and not embedding else 1.0
                weight.copy_(torch.randn(weight.shape, generator=generator) * std)

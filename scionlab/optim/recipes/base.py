"""The contract of a recipe: how one named method initializes a model, scales its logits, and updates it.

A recipe is a frozen pydantic model, so the options a trial may set are its fields, typed and checked.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch.optim import Optimizer

from scionlab.errors import UserError
from scionlab.optim.method import Method, OneGradient
from scionlab.roles.roles import Claim

ANCHOR_FADE = frozenset({"anchor_fade_start", "anchor_fade_end"})


class Recipe(BaseModel, ABC):
    """A method with its options. Momentum α is the weight of the new gradient for every method."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    # Options that came after trials had been stored, as `scionlab.spec.ADDED_LATER`; their defaults are fixed for good.
    ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"anchored", *ANCHOR_FADE})
    # How many gradients of its batch a step takes, as `method` asks for them: budgets and operations count them.
    gradients_per_step: ClassVar[int] = 1
    # Share of a run over which the rate rises, where the trial does not say.
    warmup: ClassVar[float] = 0.0
    # Part of the identity of this method's trials, as `scionlab.spec.NUMERICS_VERSION` is of all: raise it when a
    # change to a built-in method's code changes its numbers. Recipes outside this package are known by their code.
    NUMERICS: ClassVar[int] = 0

    anchored: bool = Field(default=False, description="pull weights to their start in place of decay (SODA)")
    anchor_fade_start: float = Field(default=1.0, ge=0, le=1, description="share of the run at which the pull fades")
    anchor_fade_end: float = Field(default=1.0, ge=0, le=1, description="share of the run from which there is none")

    @model_validator(mode="after")
    def _fades_in_order(self) -> Self:
        if self.anchor_fade_end < self.anchor_fade_start:
            raise UserError(
                f"anchor_fade_end: {self.anchor_fade_end} is not allowed: it must be at least anchor_fade_start, "
                f"{self.anchor_fade_start}"
            )
        return self

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        later = Recipe.ADDED_LATER | self.ADDED_LATER
        at_default = {name for name in later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in handler(self).items() if name not in at_default}

    @property
    def reads_momentum(self) -> bool:
        """Whether a trial's momentum changes its numbers."""
        return True

    @property
    def unread(self) -> frozenset[str]:
        """Names of the options that change nothing, given the others."""
        return frozenset() if self.anchored else ANCHOR_FADE

    def output_scale(self, width: int) -> float:
        """Constant factor on the logits."""
        return 1.0

    def check(self, lr: float) -> None:
        """Raise UserError for a learning rate the method cannot use, and for options that do not go together.

        Any positive rate is fine by default.
        """
        pulled = {name: getattr(self, name, None) for name in ("constrained", "weight_decay")}
        for name, value in pulled.items():
            if self.anchored and value:
                raise UserError(
                    f"options.anchored: True is not allowed with {name} {value}: the pull to the start takes its place"
                )

    @abstractmethod
    def initialize(self, claims: Sequence[Claim], generator: torch.Generator) -> None:
        """Fill the parameters in place."""

    @abstractmethod
    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        """The optimizers that together update every parameter."""

    def method(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> Method:
        """How they come to their gradients: one of every batch, by default."""
        return OneGradient(self.optimizers(claims, lr, momentum, width))


class Gaussian(Recipe):
    """Standard initialization, shared by the methods that are not norm-constrained.

    Matrices have variance 1/d_in, also one shared by input and output, and convolutions 1/(c_in·k²); embeddings have
    standard deviation `embedding_std`, and zero for padding; biases start at 0; gains keep what their module set.
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
                claim.fill(torch.randn(weight.shape, generator=generator) * self.std(claim))

    def std(self, claim: Claim) -> float:
        """Standard deviation of a matrix's entries."""
        if claim.role == "input" and claim.layout == "in_out":
            return self.embedding_std
        own_head = claim.role == "output" and not claim.shared
        return (self.output_init if own_head else 1.0) / math.sqrt(fan_in(claim))


def fan_in(claim: Claim) -> int:
    """Entries of the parameter that one output sums over."""
    return claim.shape[0] if claim.layout == "in_out" else math.prod(claim.shape[1:])

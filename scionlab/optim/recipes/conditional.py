"""Scion and its relatives as recipes: a norm and a radius for every role, initialization on the balls, and the parts.

The same balls, put together, are the network's norm in which the landscape is measured (`network_norm`).
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch.optim import Optimizer

from scionlab.errors import UserError
from scionlab.geometry import NORMS, Layer, NetworkNorm, NewtonSchulz, layer_of, norm_named
from scionlab.optim.recipes.base import Recipe
from scionlab.optim.steps.parts import Average, Scope, StepRule
from scionlab.optim.steps.scion import Scion, ScionLight
from scionlab.roles.presets import PRESETS, VECTORS, norm_for
from scionlab.roles.roles import Claim

TEXT = PRESETS["text"]
PARTS = (
    "average", "optimism", "first_average", "step_rule", "power", "scope", "smoothness", "weight_decay", "coupled",
)  # fmt: skip


class LmoRecipe(Recipe):
    """What all methods around the LMO share: balls by role, and the parts of `scionlab.optim.steps.parts`.

    A role's norm is named for matrices; a convolution has the norm that plays its part (`presets.norm_for`). `steps`,
    `coefficients` and `dtype` are those of Newton-Schulz, for the norms that use it; 0 and "" are its defaults.
    `floor` is that of an embedding's norm (`scionlab.geometry.Column`); at 0, all rows that had a gradient move at full
    length. `period` and `period_blocks` are of hidden matrices, as those of `Scion`. With `mass_hidden` m the rate of
    each of n hidden matrices is m/n of the trial's, so that together they move the output as m others (Modula, arXiv
    2405.14813); 0 leaves it as it is.
    """

    ADDED_LATER: ClassVar[frozenset[str]] = Recipe.ADDED_LATER | {
        *PARTS, "steps", "coefficients", "dtype", "floor", "period", "period_blocks", "mass_hidden",
    }  # fmt: skip
    optimizer: ClassVar[type[Scion]] = Scion

    constrained: bool = True
    radius_input: float = Field(default=TEXT.radii["input"], gt=0)
    radius_hidden: float = Field(default=TEXT.radii["hidden"], gt=0)
    radius_output: float = Field(default=TEXT.radii["output"], gt=0)
    norm_input: str = TEXT.norms["input"]
    norm_hidden: str = TEXT.norms["hidden"]
    norm_output: str = TEXT.norms["output"]
    average: Average = "gradient"
    first_average: Literal["zero", "gradient"] = "zero"
    step_rule: StepRule = "lmo"
    power: float = Field(default=1.0, ge=0)
    optimism: float = Field(default=0.1, ge=0, le=1)
    scope: Scope = "network"
    smoothness: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    coupled: bool = False
    steps: int = Field(default=0, ge=0, le=100)
    coefficients: str = ""
    dtype: str = ""
    floor: float = Field(default=0.0, ge=0, lt=1)
    period: int = Field(default=1, ge=1)
    period_blocks: int = Field(default=1, ge=1)
    mass_hidden: float = Field(default=0.0, ge=0)

    @field_validator("norm_input", "norm_hidden", "norm_output")
    @classmethod
    def _matrix_norm(cls, name: str) -> str:
        if norm_named(name).ndim != 2:
            matrices = [known for known, norm in NORMS.items() if norm.ndim == 2]
            raise UserError(
                f"it must measure matrices, and convolutions get its counterpart: one of {', '.join(matrices)}, "
                "schatten-P, schatten-mean-P"
            )
        return name

    def check(self, lr: float) -> None:
        super().check(lr)
        if self.constrained and lr > 1:
            raise UserError(f"lr: {lr} is not allowed: a constrained step is a convex combination, so lr is at most 1")
        NewtonSchulz(**self._iteration())
        self.optimizer([{"params": [torch.empty(1)], "norm": "bias"}], constrained=self.constrained, **self.parts())

    @property
    def reads_momentum(self) -> bool:
        return self.average != "none"

    @property
    def unread(self) -> frozenset[str]:
        read = {
            "power": self.step_rule == "power",
            "scope": self.step_rule != "lmo",
            "smoothness": self.step_rule in ("clipped", "smooth-clip"),
            "optimism": self.average == "lion",
            "first_average": self.reads_momentum,
            "coupled": bool(self.weight_decay),
            "period_blocks": self.period > 1,
        }
        return super().unread | {name for name, is_read in read.items() if not is_read}

    @property
    def momentum_may_vary(self) -> bool:
        """Whether α may change from step to step."""
        return True

    @property
    def pull(self) -> float | None:
        """c in (1 − γ c) ‖W‖ + γ ρ, which bounds the norm after a step; None where nothing does."""
        other_lengths = self.step_rule in ("steepest", "power") or self.period > 1 or self.mass_hidden
        if other_lengths or self.anchored:
            return None
        return 1.0 if self.constrained else 0.0 if self.coupled else self.weight_decay

    def parts(self) -> dict[str, Any]:
        """The arguments of `Scion` that are the same for all parameters."""
        return {name: getattr(self, name) for name in PARTS}

    def geometry(self, role: str) -> tuple[str, float]:
        """Name of the matrix norm and radius of a role's ball; vectors (biases, gains) have radius 1."""
        if role in VECTORS:
            return VECTORS[role], 1.0
        return getattr(self, f"norm_{role}"), getattr(self, f"radius_{role}")

    def group(self, claim: Claim) -> dict[str, Any]:
        """The parameter's group: its norm and radius, a rule's before its role's, and how it is stored."""
        norm, radius = self.geometry(claim.role)
        name = norm_for(claim.norm or norm, len(claim.shape))
        return {
            "params": [claim.parameter],
            "norm": name,
            "radius": radius if claim.radius is None else claim.radius,
            "layout": claim.layout,
            "blocks": claim.blocks,
            "batch": claim.batch,
            "norm_options": self._norm_options(claim, name),
            **self._periods(claim),
        }

    def _periods(self, claim: Claim) -> dict[str, int]:
        periodic = self.period > 1 and claim.role == "hidden"
        return {"period": self.period, "period_blocks": self.period_blocks} if periodic else {}

    def _norm_options(self, claim: Claim, norm: str) -> dict[str, Any]:
        options = self._iteration() if takes(norm, steps=1) else {}
        embedding = claim.role == "input" and claim.layout == "in_out"
        return options | ({"floor": self.floor} if embedding and self.floor and takes(norm, floor=self.floor) else {})

    def _iteration(self) -> dict[str, Any]:
        given = {"steps": self.steps, "coefficients": self.coefficients, "dtype": self.dtype}
        return {option: value for option, value in given.items() if value}

    def layer(self, claim: Claim) -> Layer:
        """The parameter's ball."""
        return layer_of(self.group(claim))

    def optimizers(self, claims: Sequence[Claim], lr: float, momentum: float, width: int) -> list[Optimizer]:
        groups = [self.group(claim) for claim in claims]
        if self.mass_hidden:
            hidden = [group for group, claim in zip(groups, claims, strict=True) if claim.role == "hidden"]
            for group in hidden:
                group["lr"] = lr * self.mass_hidden / len(hidden)
        return [self.optimizer(groups, lr=lr, momentum=momentum, constrained=self.constrained, **self.parts())]


def takes(norm: str, **options: Any) -> bool:
    """Whether the norm called `norm` has these options."""
    try:
        norm_named(norm, **options)
    except UserError:
        return False
    return True


class ScionRecipe(LmoRecipe):
    """Scion. Radii are in units of each role's norm; 1, 3 and 64 suit a byte-level GPT of width 32 to 128.

    The head starts at the centre of its ball (`output_init` 0), where all bytes are equally likely: a start on
    the sphere of radius 64 has an initial loss of 20 to 30 nats, and the run ends worse for it.
    """

    output_init: float = Field(
        default=0.0, ge=0, le=1, description="radius of the head's start, in units of its ball's"
    )

    @torch.no_grad()
    def initialize(self, claims: Sequence[Claim], generator: torch.Generator) -> None:
        for claim in claims:
            if claim.role == "gain":
                continue
            layer = self.layer(claim)
            radius = layer.radius
            if claim.role == "output" and not claim.shared:  # at 0, a shared matrix would have no gradient
                radius *= self.output_init
            claim.fill(radius * layer.init(claim.parameter.shape, generator))


class UnconstrainedScionRecipe(ScionRecipe):
    """Unconstrained Scion: the same steps without the pull towards zero; `weight_decay` and `coupled` may add one."""

    constrained: bool = False


class ScionLightRecipe(ScionRecipe):
    """Scion whose average lives in the gradients: no state. Its momentum is constant."""

    optimizer: ClassVar[type[Scion]] = ScionLight

    @property
    def momentum_may_vary(self) -> bool:
        return False


class ClippedScionRecipe(ScionRecipe):
    """Scion with the short step of Frank and Wolfe (arXiv 2506.01913): min{γ, ⟨d, x − s⟩/(L‖x − s‖²)}."""

    step_rule: StepRule = "clipped"


class ClippedUnconstrainedScionRecipe(ClippedScionRecipe):
    """Unconstrained Scion, clipped: min{γ, ‖d‖_*/L}."""

    constrained: bool = False


class AlmondRecipe(UnconstrainedScionRecipe):
    """Averaged LMO directional descent: the LMO before the average. A counter-example: it stalls at the noise."""

    average: Average = "lmo"


def network_norm(claims: Sequence[Claim], geometry: LmoRecipe) -> NetworkNorm:
    """The norm whose unit ball is the recipe's product of balls, one layer a claim, in the order of the claims."""
    return NetworkNorm(tuple(geometry.layer(claim) for claim in claims))

"""Scion: stochastic conditional gradient steps over one norm ball per layer (arXiv 2502.07529).

d ← (1 − α) d + α g                  average of gradients (α `momentum`, the weight of the new one)
s ← ρ · lmo(d)                       minimizer of ⟨d, s⟩ over the ball of radius ρ, in the layer's norm
W ← W + γ s                          unconstrained
W ← (1 − γ) W + γ s                  constrained: stays in the ball, equals decoupled weight decay γ
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from scionlab.errors import UserError, unknown
from scionlab.geometry import NORMS, Norm


class Scion(Optimizer):
    """Norm-constrained LMO steps, one geometry per parameter group.

    Every argument after `params` is a default that a parameter group may override under the same name.

    lr: step size γ ≥ 0; at most 1 when constrained (a convex combination).
    momentum: α in (0, 1], the weight of the new gradient; 0.1 is what others call momentum 0.9. A scheduler that cycles
        momentum writes the other convention: use OneCycleLR with cycle_momentum=False.
    norm: a name in `scionlab.geometry.NORMS`.
    radius: ρ > 0, in units of the group's norm.
    constrained: step towards the LMO point (Scion) or along it (unconstrained Scion).
    layout: "out_in" for weights stored (d_out, d_in), "in_out" for embeddings stored (vocabulary, width).
    first_average: "zero" starts d from 0, "gradient" from the first gradient (as the analysis of 2603.21191 does).

    Raises UserError for values out of range, and for sparse or complex gradients.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 2**-6,
        momentum: float = 0.1,
        norm: str = "spectral",
        radius: float = 1.0,
        constrained: bool = True,
        layout: str = "out_in",
        first_average: str = "zero",
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "norm": norm,
            "radius": radius,
            "constrained": constrained,
            "layout": layout,
            "first_average": first_average,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        try:
            _check_group(self.param_groups[-1])
        except Exception:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        todo = [(p, p.grad, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for group in self.param_groups:  # before anything moves: schedulers and state_dicts write groups unchecked
            _check_step(group)
        if any(grad.is_sparse for _, grad, _ in todo):
            raise UserError("Scion: a gradient is sparse; use dense gradients (nn.Embedding(sparse=False))")
        for parameter, grad, group in todo:
            self._update(parameter, grad, group)
        return loss

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "average" not in state:
            from_gradient = group["first_average"] == "gradient"
            state["average"] = grad.clone() if from_gradient else torch.zeros_like(grad)
        average = state["average"].lerp_(grad, group["momentum"])
        if group["constrained"]:
            parameter.mul_(1 - group["lr"])
        parameter.add_(self.direction(average, group), alpha=group["lr"] * group["radius"])

    @staticmethod
    def direction(average: Tensor, group: dict[str, Any]) -> Tensor:
        """lmo(d) over the group's unit ball, in the layout the parameter is stored in."""
        norm = NORMS[group["norm"]]
        return norm.lmo(average.mT).mT if group["layout"] == "in_out" else norm.lmo(average)

    @torch.no_grad()
    def norms(self) -> list[tuple[Tensor, float, float]]:
        """For every parameter: itself, its norm in its own geometry, and the radius of its ball."""
        return [
            (parameter, float(in_layout(NORMS[group["norm"]], parameter, group["layout"])), group["radius"])
            for group in self.param_groups
            for parameter in group["params"]
        ]


def in_layout(norm: Norm, weight: Tensor, layout: str) -> Tensor:
    """‖W‖ for a weight stored in `layout`, a 0-d tensor."""
    return norm.norm(weight.mT if layout == "in_out" else weight)


def _check_step(group: dict[str, Any]) -> None:
    for field in ("lr", "momentum", "radius"):
        if not isinstance(group[field], (int, float)):
            raise UserError(f"Scion: {field}: {group[field]!r} is not allowed: it must be a number")
    if not 0 <= group["lr"] < math.inf or (group["constrained"] and group["lr"] > 1):
        allowed = "[0, 1] when constrained" if group["constrained"] else "[0, ∞)"
        raise UserError(f"Scion: lr: {group['lr']!r} is not allowed: it must lie in {allowed}")
    if not 0 < group["momentum"] <= 1:
        raise UserError(f"Scion: momentum: {group['momentum']!r} is not allowed: it must lie in (0, 1]")


def _check_group(group: dict[str, Any]) -> None:
    _check_step(group)
    if not 0 < group["radius"] < math.inf:
        raise UserError(f"Scion: radius: {group['radius']!r} is not allowed: it must be positive and finite")
    if group["norm"] not in NORMS:
        raise unknown("Scion: norm", str(group["norm"]), NORMS)
    _check_choice("layout", group["layout"], ("out_in", "in_out"))
    _check_choice("first_average", group["first_average"], ("zero", "gradient"))
    _check_parameters(group["params"], group["norm"], NORMS[group["norm"]].ndim)


def _check_choice(field: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise unknown(f"Scion: {field}", str(value), allowed)


def _check_parameters(parameters: Iterable[Tensor], name: str, ndim: int) -> None:
    for parameter in parameters:
        if parameter.is_complex():
            raise UserError("Scion: a parameter is complex; only real parameters have these norms")
        if parameter.ndim != ndim:
            raise UserError(
                f"Scion: norm {name!r} measures tensors of {ndim} dimensions, not shape {tuple(parameter.shape)}"
            )

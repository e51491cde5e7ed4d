"""The parts a method is composed of: an average of gradients, and a rule for the size of the step.

    x⁺ = argmin_x ⟨d, x⟩ + h(x)          d: the average;  h: geometry, step rule and decay

    average    none       d = g
               gradient   d ← (1 − α) d + α g
               nesterov   the same, and then (1 − α) d + α g once more, for the step alone
               lion       (1 − β) d + β g for the step alone, of the d before, β `optimism`; then d ← (1 − α) d + α g
               lmo        d ← (1 − α) d + α lmo(g), and the step goes along d itself (ALMOND)
    step rule  lmo        γ                                     h: the ball of radius γ around x
               steepest   γ ‖d‖_*                               h: ‖· − x‖²/(2γ)
               clipped    min{γ, ‖d‖_*/L}                       h: both, with 1/L for γ in the second (2506.01913)
                          constrained, the short step of Frank and Wolfe: min{γ, ⟨d, x − s⟩/(L ‖x − s‖²)}, s = ρ lmo(d)
               smooth-clip   γ ‖d‖_*/(‖d‖_* + γL), the soft twin of clipped: ‖d‖_*/(L⁰ + L¹ ‖d‖_*), γ = 1/L¹, L = L⁰
               power      γ ‖d‖_*^κ, κ `power`             h: ‖· − x‖^p/p up to its scale, κ = 1/(p − 1): lmo at κ = 0
                          (p = ∞), steepest at κ = 1 (p = 2)

The LMO is of whole matrices, or with a `period` in most steps of parts of them (MuonBP, 2510.16981). Norms are those of
the network, ‖x‖ = max_ℓ ‖x_ℓ‖_ℓ/ρ_ℓ and ‖d‖_* = Σ_ℓ ρ_ℓ ‖d_ℓ‖_{*,ℓ}, or with `scope` "layer" of each layer on its own.
Sources: arXiv 2502.07529, 2506.01913; Lion, 2302.06675; Gluon, 2505.13416; powers, 2606.15268.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from scionlab.geometry import Layer

State = dict[str, Any]
Group = dict[str, Any]
Average = Literal["gradient", "nesterov", "lion", "none", "lmo"]
StepRule = Literal["lmo", "steepest", "clipped", "smooth-clip", "power"]
Scope = Literal["network", "layer"]
STEP_RULES: tuple[str, ...] = get_args(StepRule)
SCOPES: tuple[str, ...] = get_args(Scope)


def before(state: State, new: Tensor, group: Group) -> Tensor:
    """The running average without `new`; it starts with the parameter's first gradient."""
    if "average" not in state:
        from_first = group["first_average"] == "gradient"
        state["average"] = new.clone() if from_first else torch.zeros_like(new)
    average: Tensor = state["average"]
    return average


def _running(state: State, new: Tensor, group: Group) -> Tensor:
    return before(state, new, group).lerp_(new, group["momentum"])


def _gradient(state: State, grad: Tensor, group: Group, layer: Layer) -> Tensor:
    return _running(state, grad, group)


def _nesterov(state: State, grad: Tensor, group: Group, layer: Layer) -> Tensor:
    return _running(state, grad, group).lerp(grad, group["momentum"])


def _lion(state: State, grad: Tensor, group: Group, layer: Layer) -> Tensor:
    ahead = before(state, grad, group).lerp(grad, group["optimism"])
    _running(state, grad, group)
    return ahead


def _lmo(state: State, grad: Tensor, group: Group, layer: Layer) -> Tensor:
    return _running(state, lmo_of(group, layer)(grad), group)


def _none(state: State, grad: Tensor, group: Group, layer: Layer) -> Tensor:
    return grad


AVERAGES: dict[Average, Callable[[State, Tensor, Group, Layer], Tensor]] = {
    "none": _none,
    "gradient": _gradient,
    "nesterov": _nesterov,
    "lion": _lion,
    "lmo": _lmo,
}


@dataclass(frozen=True)
class Move:
    """A parameter about to move: its average d, and the direction lmo(d) on its unit ball (of ALMOND, d itself)."""

    parameter: Tensor
    average: Tensor
    direction: Tensor
    layer: Layer
    group: Group

    def dual(self) -> Tensor:
        """ρ ‖d‖_*, 0-d."""
        return self.layer.radius * self.layer.dual(self.average)

    def way(self) -> Tensor:
        """x − s, from the point of the ball that the step goes to."""
        return self.parameter.sub(self.direction, alpha=self.layer.radius)


def _dual(moves: Sequence[Move]) -> Tensor:
    """‖d‖_*, 0-d."""
    return torch.stack([move.dual() for move in moves]).sum()


def _shortest(moves: Sequence[Move]) -> Tensor:
    """⟨d, x − s⟩/‖x − s‖², 0-d: where the quadratic upper bound with L = 1 along the way to s is lowest."""
    gap = torch.stack([(move.average * move.way()).sum() for move in moves]).sum()
    length = torch.stack([move.layer.measure(move.way()) / move.layer.radius for move in moves]).amax()
    return gap / torch.where(length > 0, length, 1).square()


def lmo_of(group: Group, layer: Layer) -> Callable[[Tensor], Tensor]:
    """The LMO of the group's next step: of whole matrices, or between its periods of their parts."""
    if group.get("count", 0) % group["period"] == 0:
        return layer.lmo
    return partial(layer.lmo_of_parts, count=group["period_blocks"])


def rule_of(group: Group) -> str:
    """The group's step rule, by the name that it has where a power is one of the others."""
    rule: str = group["step_rule"]
    return {0: "lmo", 1: "steepest"}.get(group["power"], rule) if rule == "power" else rule


def step_sizes(moves: Sequence[Move]) -> list[Tensor]:
    """The size of the step of each of `moves`, which share their step rule and make up its scope; 0-d."""
    group = moves[0].group
    rule = rule_of(group)
    if rule in ("steepest", "power"):
        length = _dual(moves) if rule == "steepest" else _dual(moves) ** group["power"]
        return [move.group["lr"] * length for move in moves]
    if rule == "smooth-clip":
        dual = _dual(moves)
        return [move.group["lr"] * _share(dual, move.group["lr"] * group["smoothness"]) for move in moves]
    best = (_shortest(moves) if group["constrained"] else _dual(moves)) / group["smoothness"]
    best = best.clamp(min=0.0)  # outside its ball a gap may be negative
    return [best.clamp(max=move.group["lr"]) for move in moves]


def _share(dual: Tensor, other: float | Tensor) -> Tensor:
    """dual/(dual + other), and 0 where there is no gradient at a rate of 0."""
    whole = dual + other
    return dual / torch.where(whole > 0, whole, 1)

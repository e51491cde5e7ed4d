"""What other methods make of Muon's step: another scale of its entries or rows, another rate, or a sphere of weights.

O = NS(d), d with Nesterov's average where it is asked for; every matrix that a tensor holds is one of its own

NorMuon    v_i ← β v_i + (1 − β) mean_j O_ij²,  O_ij/(√v_i + ε) at the length ‖O‖_F                arXiv 2510.05491
AdaMuon    O = NS(sign d),  v ← β v + (1 − β) O⊙O,  O/(√v + ε) at the length √(d_out d_in)         arXiv 2507.11005
Hyperball  W ← ‖W‖_F · Z/‖Z‖_F,  Z = W − γ ‖W‖_F O/‖O‖_F                                           arXiv 2606.16899
AdaGO      v² ← v² + min{‖g‖, c}²,  W ← W − max{ε, γ min{‖g‖, c}/v} O                              arXiv 2509.02981
"""

import math
from typing import Any

import torch
from torch import Tensor

from scionlab.errors import UserError
from scionlab.optim.steps.layered_muon import Group, LayeredMuon, State, directions, storage_of


class NorMuon(LayeredMuon):
    """Rows of equal length, by a running mean of their squares.

    Arguments as `LayeredMuon`'s, and

    - beta2: β in [0, 1), default 0.95; nothing is corrected for its start, as the length is set afterwards.
    - eps: ε, default 1e-10.
    """

    def __init__(self, params: Any, lr: float, beta2: float = 0.95, eps: float = 1e-10, **muon: Any) -> None:
        super().__init__(params, lr, beta2=beta2, eps=eps, **muon)

    def _direction(self, ahead: Tensor, state: State, group: Group) -> Tensor:
        matrix = directions(ahead, group)
        along = -1 if group["layout"] == "out_in" else -2  # d_in
        squares = matrix.square().mean(along, keepdim=True)
        second = state.setdefault("row_squares", torch.zeros_like(squares)).lerp_(squares, 1 - group["beta2"])
        scaled = matrix / (second.sqrt() + group["eps"])
        return scaled * (_lengths(matrix, group) / _lengths(scaled, group))


class AdaMuon(LayeredMuon):
    """Entries of equal size, by a running mean of their squares, of the sign's orthogonal factor.

    Arguments as `LayeredMuon`'s, and

    - beta2: β in [0, 1), default 0.95.
    - eps: ε, default 1e-8.
    - scale: root mean square of a step's entries at a rate of 1; default 0.2, AdamW's. adjust_lr_fn is not read.
    """

    def __init__(
        self, params: Any, lr: float, beta2: float = 0.95, eps: float = 1e-8, scale: float = 0.2, **muon: Any
    ) -> None:
        super().__init__(params, lr, beta2=beta2, eps=eps, scale=scale, **muon)

    def _direction(self, ahead: Tensor, state: State, group: Group) -> Tensor:
        matrix = directions(ahead.sign(), group | {"adjust_lr_fn": "none"})
        second = state.setdefault("squares", torch.zeros_like(matrix)).lerp_(matrix.square(), 1 - group["beta2"])
        scaled = matrix / (second.sqrt() + group["eps"])
        return scaled * (group["scale"] / _sizes(scaled, group))


class MuonHyperball(LayeredMuon):
    """Every matrix keeps the Frobenius norm that it has, and turns by the rate. It has no weight decay.

    Arguments as `LayeredMuon`'s. Raises UserError for a matrix of zeros, which would stay one.
    """

    def __init__(self, params: Any, lr: float, **muon: Any) -> None:
        super().__init__(params, lr, **muon | {"weight_decay": 0.0})
        for group in self.param_groups:
            for parameter in group["params"]:
                if not parameter.is_meta and not bool(_lengths(parameter.detach(), group).all()):
                    shape = tuple(parameter.shape)
                    raise UserError(f"Muon: a matrix in shape {shape} is zero, which is not allowed: it would stay so")

    def _move(self, parameter: Tensor, direction: Tensor, rate: float | Tensor, group: Group) -> None:
        norm = _lengths(parameter, group)
        moved = parameter - direction * (
            rate * norm / _lengths(direction, group).clamp(min=torch.finfo(norm.dtype).tiny)
        )
        parameter.copy_(moved * (norm / _lengths(moved, group)))


class AdaGO(LayeredMuon):
    """Muon at AdaGrad's rate of a parameter's gradient norms.

    Arguments as `LayeredMuon`'s, and

    - ceiling: c, above which norms are clipped; default 10.
    - smallest: ε ≥ 0, below which no step falls whatever the schedule; default 5e-4.
    - first: v² before the first step; default 1e-6.
    """

    def __init__(
        self, params: Any, lr: float, ceiling: float = 10.0, smallest: float = 5e-4, first: float = 1e-6, **muon: Any
    ) -> None:
        super().__init__(params, lr, ceiling=ceiling, smallest=smallest, first=first, **muon)

    def _rate(self, grad: Tensor, state: State, group: Group) -> Tensor:
        norm = grad.norm().clamp(max=group["ceiling"])
        squares = state.setdefault("squared_norms", torch.full_like(norm, group["first"])).add_(norm.square())
        return (group["lr"] * norm / squares.sqrt()).clamp(min=group["smallest"])


def _sizes(stored: Tensor, group: Group) -> Tensor:
    """The root mean square of every matrix that a tensor holds, at each of its entries."""
    return storage_of(group).each(lambda part: _length(part) / math.sqrt(part.shape[-2] * part.shape[-1]), stored)


def _length(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix, keepdim=True).expand_as(matrix)


def _lengths(stored: Tensor, group: Group) -> Tensor:
    """The Frobenius norm of every matrix that a tensor holds, at each of its entries."""
    return storage_of(group).each(_length, stored)

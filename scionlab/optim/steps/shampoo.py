"""Shampoo (Gupta et al., arXiv 1802.09568), the plain full-matrix one, with running averages as in Adam.

    L ← β₂ L + (1 − β₂) G Gᵀ      R ← β₂ R + (1 − β₂) Gᵀ G      d ← (1 − α) d + α G
    W ← (1 − γλ) W − γ L^(−1/4) d R^(−1/4)

With β₂ = 0 and α = 1 the step is U Vᵀ, that of the spectral LMO. A vector has the diagonal of its one matrix,
v ← β₂ v + (1 − β₂) g², and steps by d/√v; a tensor of more dimensions is read as the matrix d_out × everything else.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scionlab.errors import UserError
from scionlab.optim.steps.momentum import refuse_cycle


class Shampoo(Optimizer):
    """One Kronecker factor for each side of a matrix; keeps d_out² + d_in² numbers for it besides the average.

    - lr: γ ≥ 0.
    - momentum: α in (0, 1], the weight of the new gradient; schedulers that cycle it as others do are refused.
    - beta2: in [0, 1).
    - eps: what is added to a factor's eigenvalues, in units of the largest; what is lost in its rounding counts as
        zero, and gives no step.
    - weight_decay: λ ≥ 0, decoupled.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 2**-6,
        momentum: float = 0.1,
        beta2: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        for name, value, low, high in (
            ("lr", lr, 0, math.inf),
            ("beta2", beta2, 0, 1),
            ("eps", eps, 0, math.inf),
            ("weight_decay", weight_decay, 0, math.inf),
        ):
            if not low <= value < high:
                raise UserError(f"Shampoo: {name}: {value!r} is not allowed: it must lie in [{low}, {high:g})")
        if not 0 < momentum <= 1:
            raise UserError(f"Shampoo: momentum: {momentum!r} is not allowed: it must lie in (0, 1]")
        defaults = {"lr": lr, "momentum": momentum, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            refuse_cycle("Shampoo", group)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    step = self._direction(self.state[parameter], parameter.grad, group)
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(step, alpha=group["lr"])
        return loss

    def _direction(self, state: dict[str, Any], grad: Tensor, group: dict[str, Any]) -> Tensor:
        state["step"] = state.get("step", 0) + 1
        average = state.setdefault("average", torch.zeros_like(grad)).lerp_(grad, group["momentum"])
        if grad.ndim < 2:
            squares = _running(state, "squares", grad.square(), group)
            return average * _inverse_root(squares, squares.amax(), group["eps"], 2, torch.finfo(squares.dtype).eps)
        matrix = grad.flatten(1)
        left = _matrix_root(_running(state, "left", matrix @ matrix.mT, group), group["eps"])
        right = _matrix_root(_running(state, "right", matrix.mT @ matrix, group), group["eps"])
        return (left @ average.flatten(1) @ right).view_as(grad)


def _running(state: dict[str, Any], name: str, new: Tensor, group: dict[str, Any]) -> Tensor:
    """The running average with its bias towards the zero start taken out."""
    average = state.setdefault(name, torch.zeros_like(new)).lerp_(new, 1 - group["beta2"])
    return average / (1 - group["beta2"] ** state["step"])


def _matrix_root(factor: Tensor, eps: float) -> Tensor:
    """F^(−1/4) of a symmetric matrix without negative eigenvalues; NaN for one that is not finite."""
    if not factor.isfinite().all():  # LAPACK would raise; a run that diverges should say so by its loss
        return torch.full_like(factor, torch.nan)
    values, vectors = torch.linalg.eigh(factor.double())  # in single precision LAPACK may not converge
    rounding = torch.finfo(factor.dtype).eps * len(values)
    roots = _inverse_root(values.clamp(min=0), values[-1], eps, 4, rounding)
    return ((vectors * roots) @ vectors.mT).to(factor.dtype)


def _inverse_root(values: Tensor, largest: Tensor, eps: float, root: int, rounding: float) -> Tensor:
    """(values + eps·largest)^(−1/root), and 0 where that is not above rounding·largest."""
    raised = values + eps * largest
    known = raised > rounding * largest
    return torch.where(known, raised, 1).pow(-1 / root) * known

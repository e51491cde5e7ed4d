"""Muon on every matrix that a stored tensor holds: the transpose, blocks side by side, experts along leading axes.

    d ← (1 − α) d + α g;  with Nesterov, (1 − α) d + α g once more, for the step alone
    W_b ← (1 − γλ) W_b − γ c(d_out, d_in) NS(d_b)      c: one of SCALES

PyTorch's Muon, which takes one matrix (d_out, d_in) a parameter, is the reference, down to its bfloat16. What other
methods make of the same step is in `muon_variants`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scionlab.errors import UserError, unknown
from scionlab.geometry import Layer
from scionlab.geometry.orthogonalize import COEFFICIENTS, STEPS, apply_quintics
from scionlab.geometry.spectral import Spectral

EPS = 1e-7  # of PyTorch's Muon, as the iteration's coefficients and steps
# What a step is multiplied by, given d_out and d_in. "match_rms_adamw" makes entries as large as AdamW's, and with
# "spectral" a rate carries over to other widths: no scale does both.
SCALES: dict[str, Callable[[int, int], float]] = {
    "original": lambda d_out, d_in: math.sqrt(max(1, d_out / d_in)),
    "match_rms_adamw": lambda d_out, d_in: 0.2 * math.sqrt(max(d_out, d_in)),
    "spectral": lambda d_out, d_in: math.sqrt(d_out / d_in),
    "none": lambda d_out, d_in: 1.0,
}
Group = dict[str, Any]
State = dict[str, Any]


class LayeredMuon(Optimizer):
    """Muon for parameters whose groups say how they hold their matrices.

    - lr: γ ≥ 0.
    - momentum: 1 − α, the weight of the old average, as in PyTorch's Muon.
    - nesterov, weight_decay (λ, decoupled): as there.
    - adjust_lr_fn: a name in SCALES, of which the first two are PyTorch's; default "original".
    - layout, blocks, batch: as in `scionlab.geometry.Layer`; in every group, or for all.

    Raises UserError for parameters that hold no matrices in this form.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        adjust_lr_fn: str = "original",
        **more: float,
    ) -> None:
        storage = {"layout": "out_in", "blocks": 1, "batch": 0}
        muon = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        if adjust_lr_fn not in SCALES:
            raise unknown("Muon: adjust_lr_fn", adjust_lr_fn, SCALES)
        super().__init__(params, {**muon, "adjust_lr_fn": adjust_lr_fn, **storage, **more})
        for group in self.param_groups:
            try:
                for parameter in group["params"]:
                    storage_of(group).check("muon", parameter.shape)
            except UserError as error:
                raise UserError(f"Muon: {error}") from None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            momentum = group["momentum"]
            for parameter in group["params"]:
                if (grad := parameter.grad) is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("momentum_buffer", torch.zeros_like(grad)).lerp_(grad, 1 - momentum)
                ahead = grad.lerp(average, momentum) if group["nesterov"] else average
                self._move(parameter, self._direction(ahead, state, group), self._rate(grad, state, group), group)
        return loss

    def _direction(self, ahead: Tensor, state: State, group: Group) -> Tensor:
        """Where a step goes against, by the average that it looks at; stored as the parameter is."""
        return directions(ahead, group)

    def _rate(self, grad: Tensor, state: State, group: Group) -> float | Tensor:
        """The size of the step; 0-d where it is a tensor."""
        rate: float = group["lr"]
        return rate

    def _move(self, parameter: Tensor, direction: Tensor, rate: float | Tensor, group: Group) -> None:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        if isinstance(rate, Tensor):
            parameter.sub_(direction * rate)
        else:
            parameter.add_(direction, alpha=-rate)


def storage_of(group: Mapping[str, Any]) -> Layer:
    """How the group's parameters hold their matrices."""
    return Layer(Spectral(), layout=group["layout"], blocks=group["blocks"], batch=group["batch"])


def directions(stored: Tensor, group: Mapping[str, Any]) -> Tensor:
    """c(d_out, d_in) NS(d_b) of every matrix, stored as the averages are."""

    def one(matrix: Tensor) -> Tensor:
        d_out, d_in = matrix.shape[-2:]
        factor = rate_factor(d_out, d_in, group["adjust_lr_fn"])
        return orthogonal(matrix, COEFFICIENTS, STEPS, EPS).to(stored.dtype) * factor

    return storage_of(group).each(one, stored)


def rate_factor(d_out: int, d_in: int, adjust: str | None) -> float:
    """What the rate of a matrix is multiplied by: SCALES' value, with PyTorch's None for "original"."""
    return SCALES[adjust or "original"](d_out, d_in)


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The Newton-Schulz iteration of PyTorch's Muon, in bfloat16, on matrices (…, m, n)."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.bfloat16().reshape(-1, *matrix.shape[-2:])
    x = x.mT if tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    x = apply_quintics(x, [coefficients] * steps)
    return (x.mT if tall else x).reshape(matrix.shape)

"""Muon on every matrix that a stored tensor holds: the transpose, blocks side by side, experts along leading axes.

    d ← (1 − α) d + α g;  with Nesterov, (1 − α) d + α g once more, for the step alone
    W_b ← (1 − γλ) W_b − γ c(d_out, d_in) NS(d_b)      c: √max(1, d_out/d_in), or 0.2·√max(d_out, d_in)

PyTorch's Muon, which takes one matrix (d_out, d_in) a parameter, is the reference, down to its bfloat16.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scionlab.errors import UserError
from scionlab.geometry import Layer
from scionlab.geometry.orthogonalize import COEFFICIENTS, STEPS, apply_quintics
from scionlab.geometry.spectral import Spectral

EPS = 1e-7  # of PyTorch's Muon, as the iteration's coefficients and steps


class LayeredMuon(Optimizer):
    """Muon for parameters whose groups say how they hold their matrices.

    - lr: γ ≥ 0.
    - momentum: 1 − α, the weight of the old average, as in PyTorch's Muon.
    - nesterov, weight_decay (λ, decoupled), adjust_lr_fn ("original" or "match_rms_adamw"): as there.
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
    ) -> None:
        storage = {"layout": "out_in", "blocks": 1, "batch": 0}
        muon = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, {**muon, "adjust_lr_fn": adjust_lr_fn, **storage})
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
                step = directions(grad.lerp(average, momentum) if group["nesterov"] else average, group)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step, alpha=-group["lr"])
        return loss


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
    """What PyTorch's Muon multiplies the rate of a matrix by."""
    return 0.2 * math.sqrt(max(d_out, d_in)) if adjust == "match_rms_adamw" else math.sqrt(max(1, d_out / d_in))


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The Newton-Schulz iteration of PyTorch's Muon, in bfloat16, on matrices (…, m, n)."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.bfloat16().reshape(-1, *matrix.shape[-2:])
    x = x.mT if tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    x = apply_quintics(x, [coefficients] * steps)
    return (x.mT if tall else x).reshape(matrix.shape)

"""Bias vectors, measured by their root mean square or by their largest entry."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.geometry.base import Norm
from scionlab.geometry.orthogonalize import unit


@dataclass(frozen=True)
class BiasRMS(Norm):
    """‖b‖ = ‖b‖₂/√d; lmo(g) = −√d g/‖g‖₂; ‖g‖_* = √d ‖g‖₂. Starts at 0."""

    ndim = 1

    def norm(self, weight: Tensor) -> Tensor:
        return torch.linalg.vector_norm(weight, dim=-1) / math.sqrt(weight.shape[-1])

    def lmo(self, grad: Tensor) -> Tensor:
        return -math.sqrt(grad.shape[-1]) * unit(grad, dim=-1)

    def dual(self, grad: Tensor) -> Tensor:
        return torch.linalg.vector_norm(grad, dim=-1) * math.sqrt(grad.shape[-1])

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        return torch.zeros(*shape)


@dataclass(frozen=True)
class BiasMax(Norm):
    """‖b‖ = max|b_i|; lmo(g) = −sign(g); ‖g‖_* = Σ|g_i|. Starts at 0."""

    ndim = 1

    def norm(self, weight: Tensor) -> Tensor:
        return weight.abs().amax(-1)

    def lmo(self, grad: Tensor) -> Tensor:
        return -grad.sign()

    def dual(self, grad: Tensor) -> Tensor:
        return grad.abs().sum(-1)

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        return torch.zeros(*shape)

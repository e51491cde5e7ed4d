"""Euclidean: all entries together, as stochastic gradient descent measures them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.geometry.base import Norm
from scionlab.geometry.orthogonalize import unit


@dataclass(frozen=True)
class Euclidean(Norm):
    """‖W‖ = ‖W‖_F; lmo(G) = −G/‖G‖_F; ‖G‖_* = ‖G‖_F. Matrices start at a normalized Gaussian, vectors at 0."""

    ndim: int = 2

    def _dims(self) -> tuple[int, ...]:
        return tuple(range(-self.ndim, 0))

    def norm(self, weight: Tensor) -> Tensor:
        return torch.linalg.vector_norm(weight, dim=self._dims())

    def lmo(self, grad: Tensor) -> Tensor:
        return -unit(grad, dim=self._dims())

    def dual(self, grad: Tensor) -> Tensor:
        return self.norm(grad)

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        if self.ndim == 1:  # a bias, as in the other geometries of vectors
            return torch.zeros(*shape)
        return unit(torch.randn(*shape, generator=generator), dim=self._dims())

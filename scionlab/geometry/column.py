"""Column (1→RMS): every column is a vector of its own, for layers whose input is one-hot (embeddings)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.geometry.base import Norm
from scionlab.geometry.orthogonalize import unit


@dataclass(frozen=True)
class Column(Norm):
    """‖W‖ = max_j ‖col_j‖₂/√d_out; lmo: col_j ↦ −√d_out col_j/‖col_j‖₂; ‖G‖_* = √d_out Σ_j ‖col_j‖₂.

    `dense` is the variant for inputs that are not one-hot: the norm is multiplied by d_in, the others divided.
    """

    dense: bool = False

    def _radius(self, matrix: Tensor) -> float:
        """Euclidean length of a column on the unit sphere."""
        d_out, d_in = matrix.shape[-2:]
        return math.sqrt(d_out) / (d_in if self.dense else 1)

    def norm(self, weight: Tensor) -> Tensor:
        return torch.linalg.vector_norm(weight, dim=-2).amax(-1) / self._radius(weight)

    def lmo(self, grad: Tensor) -> Tensor:
        return -self._radius(grad) * unit(grad, dim=-2)

    def dual(self, grad: Tensor) -> Tensor:
        return torch.linalg.vector_norm(grad, dim=-2).sum(-1) * self._radius(grad)

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        return -self.lmo(torch.randn(*shape, generator=generator))

"""Column (1→RMS): every column is a vector of its own, for layers whose input is one-hot (embeddings)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.geometry.base import Norm
from scionlab.geometry.orthogonalize import shares, unit


@dataclass(frozen=True)
class Column(Norm):
    """‖W‖ = max_j ‖col_j‖₂/√d_out; lmo: col_j ↦ −√d_out col_j/‖col_j‖₂; ‖G‖_* = √d_out Σ_j ‖col_j‖₂.

    `dense` is the variant for inputs that are not one-hot: the norm is multiplied by d_in, the others divided.
    With a `floor` above 0, a column whose largest entry is below floor · max|G_ij| gets a step in proportion, not of
    full length (`orthogonalize.shares`).
    """

    dense: bool = False
    floor: float = 0.0

    def _radius(self, matrix: Tensor) -> float:
        """Euclidean length of a column on the unit sphere."""
        d_out, d_in = matrix.shape[-2:]
        return math.sqrt(d_out) / (d_in if self.dense else 1)

    def norm(self, weight: Tensor) -> Tensor:
        return torch.linalg.vector_norm(weight, dim=-2).amax(-1) / self._radius(weight)

    def lmo(self, grad: Tensor) -> Tensor:
        columns = unit(grad, dim=-2)
        if self.floor:
            columns = columns * shares(grad.abs().amax(-2, keepdim=True), self.floor)
        return -self._radius(grad) * columns

    def dual(self, grad: Tensor) -> Tensor:
        return torch.linalg.vector_norm(grad, dim=-2).sum(-1) * self._radius(grad)

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        return -self.lmo(torch.randn(*shape, generator=generator))

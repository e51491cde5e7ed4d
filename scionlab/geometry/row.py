"""Row (RMS→∞): every row is one output's weights, for output layers whose largest logit is to be bounded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.geometry.base import Norm
from scionlab.geometry.orthogonalize import shares, unit


@dataclass(frozen=True)
class Row(Norm):
    """‖W‖ = max_i √d_in ‖row_i‖₂; lmo: row_i ↦ −row_i/(√d_in ‖row_i‖₂); ‖G‖_* = Σ_i ‖row_i‖₂/√d_in.

    With a `floor` above 0, a row whose largest entry is below floor · max|G_ij| gets a step in proportion, as in
    `Column`.
    """

    floor: float = 0.0

    def norm(self, weight: Tensor) -> Tensor:
        return torch.linalg.vector_norm(weight, dim=-1).amax(-1) * math.sqrt(weight.shape[-1])

    def lmo(self, grad: Tensor) -> Tensor:
        rows = unit(grad, dim=-1)
        if self.floor:
            rows = rows * shares(grad.abs().amax(-1, keepdim=True), self.floor)
        return -rows / math.sqrt(grad.shape[-1])

    def dual(self, grad: Tensor) -> Tensor:
        return torch.linalg.vector_norm(grad, dim=-1).sum(-1) / math.sqrt(grad.shape[-1])

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        return -self.lmo(torch.randn(*shape, generator=generator))

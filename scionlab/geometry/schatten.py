"""Schatten-p: the p-norm of the singular values, from the nuclear (1) over the Euclidean (2) to the spectral norm (∞).

With 1/p + 1/q = 1 and G = U diag(σ) Vᵀ,

    ‖W‖ = (Σσ_i^p)^{1/p}        lmo(G) = −U diag((σ_i/‖σ‖_q)^{q−1}) Vᵀ        ‖G‖_* = (Σσ_i^q)^{1/q}

By exact SVD. Between 2 and ∞ it is the family of arXiv 2606.15268.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.errors import UserError
from scionlab.geometry.base import Norm
from scionlab.geometry.orthogonalize import singular_values, with_singular_values
from scionlab.geometry.spectral import semi_orthogonal, shape_factor


@dataclass(frozen=True)
class Schatten(Norm):
    """‖W‖ = (Σσ_i^p)^{1/p}, or with `mean` √(d_in/d_out) (mean_i σ_i^p)^{1/p} over the min(d_out, d_in) values.

    With the mean a radius keeps its meaning from p to p and from width to width: a matrix whose singular values are
    all √(d_out/d_in) has norm 1 for every p, and p = ∞ is the spectral (RMS→RMS) norm.
    At p = 1 the LMO is one singular pair, the first where the largest value is shared. Starts semi-orthogonal.
    Raises UserError for p outside [1, ∞].
    """

    p: float
    mean: bool = False

    def __post_init__(self) -> None:
        if not self.p >= 1:
            raise UserError(f"p: {self.p!r} is not allowed: a Schatten norm's p lies in [1, inf]")

    @property
    def _q(self) -> float:
        if self.p == 1:
            return math.inf
        return 1.0 if self.p == math.inf else self.p / (self.p - 1)

    def _scale(self, matrix: Tensor) -> float:
        """What multiplies Σσ^p's root: 1, or the mean's factor."""
        if not self.mean:
            return 1.0
        d_out, d_in = matrix.shape[-2:]
        return min(d_out, d_in) ** (-1 / self.p) / shape_factor(d_out, d_in, at_least_one=False)

    def _weights(self, values: Tensor) -> Tensor:
        """(σ_i/‖σ‖_q)^{q−1} = r_i^{q−1}/(Σ r^q)^{1/p} with r = σ/σ_max, whose powers do not overflow.

        The second form takes the root first: near p = 1 the power q − 1 would blow up the rounding of ‖σ‖_q.
        """
        if self.p == 1:
            first = torch.zeros_like(values)
            first[..., 0] = 1
            return first
        ratios = _ratios(values)
        return ratios ** (1 / (self.p - 1)) / (ratios**self._q).sum(-1, keepdim=True) ** (1 / self.p)

    def norm(self, weight: Tensor) -> Tensor:
        return power_norm(singular_values(weight), self.p) * self._scale(weight)

    def lmo(self, grad: Tensor) -> Tensor:
        return with_singular_values(grad, self._weights) / -self._scale(grad)

    def dual(self, grad: Tensor) -> Tensor:
        return power_norm(singular_values(grad), self._q) / self._scale(grad)

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        weight = semi_orthogonal(shape, generator)
        return weight / (min(shape) ** (1 / self.p) * self._scale(weight))


def power_norm(values: Tensor, p: float) -> Tensor:
    """(Σ v_i^p)^{1/p} over the last dimension of v ≥ 0; the largest is divided out, so that powers do not overflow."""
    largest = values.amax(-1)
    return largest if p == math.inf else largest * (_ratios(values) ** p).sum(-1) ** (1 / p)


def _ratios(values: Tensor) -> Tensor:
    largest = values.amax(-1, keepdim=True)
    return values / torch.where(largest > 0, largest, 1)

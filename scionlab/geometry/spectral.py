"""Spectral (RMS→RMS): the operator norm between root-mean-square norms, for hidden matrices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.geometry.base import Norm
from scionlab.geometry.orthogonalize import DEFAULT, NewtonSchulz, polar, singular_values


def shape_factor(d_out: int, d_in: int, at_least_one: bool) -> float:
    """√(d_out/d_in), the singular values of a map that keeps the root mean square; on request not below 1."""
    return max(1.0, math.sqrt(d_out / d_in)) if at_least_one else math.sqrt(d_out / d_in)


@dataclass(frozen=True)
class Spectral(Norm):
    """‖W‖ = σ_max(W)/r; lmo(G) = −r U Vᵀ; ‖G‖_* = r Σσ_i, with r = √(d_out/d_in).

    `at_least_one` is the `max` variant, r = max(1, √(d_out/d_in)): for the first layer of images, which narrows a flat
    image to far fewer features than pixels (arXiv 2502.07529, table 3).
    `exact` takes the polar factor by SVD; otherwise it is `iteration`'s, whose singular values lie in
    `orthogonalize.BAND`, so that norm and optimality hold up to that band.
    """

    exact: bool = False
    at_least_one: bool = False
    iteration: NewtonSchulz = DEFAULT

    def _scale(self, matrix: Tensor) -> float:
        d_out, d_in = matrix.shape[-2:]
        return shape_factor(d_out, d_in, self.at_least_one)

    def norm(self, weight: Tensor) -> Tensor:
        return singular_values(weight).amax(-1) / self._scale(weight)

    def lmo(self, grad: Tensor) -> Tensor:
        return -self._scale(grad) * (polar(grad) if self.exact else self.iteration(grad))

    def dual(self, grad: Tensor) -> Tensor:
        return singular_values(grad).sum(-1) * self._scale(grad)

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        weight = semi_orthogonal(shape, generator)
        return weight * self._scale(weight)


def semi_orthogonal(shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """A random matrix (m, n) whose min(m, n) singular values are 1."""
    weight = torch.empty(*shape)
    torch.nn.init.orthogonal_(weight, generator=generator)
    return weight

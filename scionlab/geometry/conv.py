"""Convolution: kernels c_out × c_in × k × … × k, read as one matrix a tap or as one matrix of all taps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.errors import UserError
from scionlab.geometry.base import Norm
from scionlab.geometry.orthogonalize import DEFAULT, NewtonSchulz, polar, singular_values
from scionlab.geometry.spectral import semi_orthogonal, shape_factor


def flat(kernel: Tensor, ndim: int) -> Tensor:
    """(..., c_out, c_in, k, …) as matrices (..., c_out, c_in·k·…): what a patch of the input is multiplied by."""
    return kernel.flatten(1 - ndim)


@dataclass(frozen=True)
class Conv(Norm):
    """‖W‖ = t σ_max(W̄)/r; lmo(G) = −(r/t) U Vᵀ of Ḡ; ‖G‖_* = (r/t) Σσ_i(Ḡ), with r = √(c_out/c_in).

    W̄ is the c_out × (c_in·t) matrix, t the number of taps (k² for a k × k kernel), and the last `ndim` − 2 dimensions
    are the kernel's: 1, 2 and 3 for signals, images and volumes. With `at_least_one` r is max(1, √(c_out/c_in)), for
    the first layer of images. `exact` and `iteration` are `Spectral`'s. Source: arXiv 2502.07529, table 3, and its
    published code. W̄ multiplies patches, which hold every pixel t times; so on the unit ball (with r = √(c_out/c_in))
    each tap has an RMS→RMS norm of at most 1/t and the convolution one of at most 1/√t, reached where taps are equal.
    """

    ndim: int = 4
    exact: bool = False
    at_least_one: bool = False
    iteration: NewtonSchulz = DEFAULT

    def _scale(self, kernel: Tensor) -> float:
        c_out, c_in, *taps = kernel.shape[-self.ndim :]
        return shape_factor(c_out, c_in, self.at_least_one) / math.prod(taps)

    def norm(self, weight: Tensor) -> Tensor:
        return singular_values(flat(weight, self.ndim)).amax(-1) / self._scale(weight)

    def lmo(self, grad: Tensor) -> Tensor:
        matrix = flat(grad, self.ndim)
        factor = polar(matrix) if self.exact else self.iteration(matrix)
        return (-self._scale(grad) * factor).reshape(grad.shape)

    def dual(self, grad: Tensor) -> Tensor:
        return singular_values(flat(grad, self.ndim)).sum(-1) * self._scale(grad)

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        c_out, c_in, *taps = shape
        each = [semi_orthogonal((c_out, c_in), generator) for _ in range(math.prod(taps))]
        weight = torch.stack(each, -1).view(*shape)
        # Published code stops at every tap's own scale. But t orthogonal taps side by side have singular values of up
        # to √t (all of them exactly √t where c_out ≤ c_in), so that start lies up to √t = k times outside the ball that
        # the LMO steps over, and the bound ‖W‖ ≤ ρ of constrained steps would not hold from the start.
        return weight / self.norm(weight)


@dataclass(frozen=True)
class Flat(Norm):
    """A norm of matrices on the c_out × (c_in·k²) matrix of a kernel. Raises UserError for a norm of anything else."""

    matrix: Norm
    ndim: int = 4

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2:
            raise UserError(
                f"flat: a norm of tensors of {self.matrix.ndim} dimensions is not allowed: it must be one of matrices"
            )

    def norm(self, weight: Tensor) -> Tensor:
        return self.matrix.norm(flat(weight, self.ndim))

    def lmo(self, grad: Tensor) -> Tensor:
        return self.matrix.lmo(flat(grad, self.ndim)).reshape(grad.shape)

    def dual(self, grad: Tensor) -> Tensor:
        return self.matrix.dual(flat(grad, self.ndim))

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        return self.matrix.init((shape[0], math.prod(shape[1:])), generator).reshape(*shape)

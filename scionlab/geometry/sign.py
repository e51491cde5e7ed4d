"""Sign (1→∞): every entry on its own, for output layers and for matrices shared by input and output."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.geometry.base import Norm
from scionlab.geometry.orthogonalize import shares


@dataclass(frozen=True)
class Sign(Norm):
    """‖W‖ = d_in max|W_ij|; lmo(G) = −sign(G)/d_in; ‖G‖_* = Σ|G_ij|/d_in.

    With `one_hot` input the factor d_in is dropped everywhere. With a `floor` above 0, an entry below floor · max|G_ij|
    gets a step in proportion, as in `Column`.
    """

    one_hot: bool = False
    floor: float = 0.0

    def _entry(self, matrix: Tensor) -> float:
        """Magnitude of an entry on the unit sphere."""
        return 1.0 if self.one_hot else 1.0 / matrix.shape[-1]

    def norm(self, weight: Tensor) -> Tensor:
        return weight.abs().amax((-2, -1)) / self._entry(weight)

    def lmo(self, grad: Tensor) -> Tensor:
        signs = grad.sign() * shares(grad.abs(), self.floor) if self.floor else grad.sign()
        return -self._entry(grad) * signs

    def dual(self, grad: Tensor) -> Tensor:
        return grad.abs().sum((-2, -1)) * self._entry(grad)

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        signs = torch.randint(0, 2, tuple(shape), generator=generator) * 2.0 - 1.0
        return signs * self._entry(signs)

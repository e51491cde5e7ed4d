"""The norm of a whole network: one norm and one radius a layer, of which the largest counts.

    ‖x‖ = max_ℓ ‖x_ℓ‖_ℓ/ρ_ℓ        ‖g‖_* = Σ_ℓ ρ_ℓ ‖g_ℓ‖_{*,ℓ}        lmo(g)_ℓ = ρ_ℓ lmo_ℓ(g_ℓ)

Its unit ball {‖x_ℓ‖_ℓ ≤ ρ_ℓ} is the one that Scion steps over, so a step γ of unconstrained Scion has norm γ (up to the
band of Newton-Schulz). With all radii 1 it is the norm of arXiv 2502.07529.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scionlab.errors import UserError
from scionlab.geometry.layer import Layer


@dataclass(frozen=True)
class NetworkNorm:
    """A norm on lists of tensors, one for each of `layers`, in their order.

    The tensors may share leading dimensions: they are then a batch of networks, and every member is measured on its
    own. Raises UserError if there are not as many tensors as layers.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise UserError("layers: a network's norm needs at least one layer")

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """‖x‖ in units of the radii, a 0-d tensor, or of the shape of the leading dimensions."""
        norms = [layer.measure(x) / layer.radius for layer, x in self._pairs(tensors)]
        return torch.stack(norms).amax(0)

    def dual(self, tensors: Sequence[Tensor]) -> Tensor:
        """‖g‖_* = max_{‖x‖ ≤ 1} ⟨g, x⟩, of the same shape as `norm` gives."""
        duals = [layer.radius * layer.dual(g) for layer, g in self._pairs(tensors)]
        return torch.stack(duals).sum(0)

    def lmo(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The minimizer of ⟨g, x⟩ over the unit ball, every layer in the layout it came in; zero for a zero layer."""
        return [layer.radius * layer.lmo(g) for layer, g in self._pairs(tensors)]

    def _pairs(self, tensors: Sequence[Tensor]) -> list[tuple[Layer, Tensor]]:
        if len(tensors) != len(self.layers):
            raise UserError(f"tensors: {len(tensors)} are not allowed: the norm has {len(self.layers)} layers")
        return list(zip(self.layers, tensors, strict=True))

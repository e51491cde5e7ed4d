"""One parameter's ball: a norm, a radius, and how the tensor that is stored holds the matrix that the norm measures.

A stored tensor may hold the transpose (`layout`) and several matrices of equal size along d_out (`blocks`: 3 for fused
queries, keys and values; the groups of a grouped convolution). Each block is then a layer of its own:

    ‖W‖ = max_b ‖W_b‖        ‖G‖_* = Σ_b ‖G_b‖_*        lmo(G)_b = lmo(G_b)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scionlab.errors import UserError, unknown
from scionlab.geometry.base import Norm

LAYOUTS = ("out_in", "in_out")


@dataclass(frozen=True)
class Layer:
    """A norm, its radius ρ in units of that norm, and the layout and number of blocks of a stored tensor.

    "out_in" is (d_out, d_in), "in_out" the transpose (embeddings); of kernels, (c_out, c_in, k, …) and (c_in, c_out,
    k, …) (transposed convolutions). Vectors have no layout, and theirs is not read. The methods take and give stored
    tensors; dimensions before theirs are a batch. They are of the unit ball: the radius is the caller's to multiply.
    Raises UserError for a radius that is not positive and finite, an unknown layout, and less than one block.
    """

    norm: Norm
    radius: float = 1.0
    layout: Literal["out_in", "in_out"] = "out_in"
    blocks: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise UserError(f"radius: {self.radius!r} is not allowed: it must be positive and finite")
        if self.layout not in LAYOUTS:
            raise unknown("layout", str(self.layout), LAYOUTS)
        if not isinstance(self.blocks, int) or self.blocks < 1:
            raise UserError(f"blocks: {self.blocks!r} is not allowed: it must be a whole number from 1 on")

    def measure(self, stored: Tensor) -> Tensor:
        """‖W‖, not divided by the radius: a 0-d tensor, or one entry for each member of a batch."""
        norms = self.norm.norm(self._read(stored))
        return norms if self.blocks == 1 else norms.amax(-1)

    def dual(self, stored: Tensor) -> Tensor:
        """‖G‖_* of the unit ball, of the same shape as `measure` gives."""
        duals = self.norm.dual(self._read(stored))
        return duals if self.blocks == 1 else duals.sum(-1)

    def lmo(self, stored: Tensor) -> Tensor:
        """The minimizer of ⟨G, S⟩ over the unit ball, stored as G is; zero for zero."""
        found = self.norm.lmo(self._read(stored))
        return self._turned(found if self.blocks == 1 else found.flatten(-self.norm.ndim - 1, -self.norm.ndim))

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """A random float32 CPU tensor of the stored `shape` on (or, for biases, inside) the unit ball."""
        d_out, *rest = self._turned_shape(shape)
        blocks = [self.norm.init((d_out // self.blocks, *rest), generator) for _ in range(self.blocks)]
        return self._turned(blocks[0] if self.blocks == 1 else torch.cat(blocks))

    def check(self, name: str, shape: Sequence[int]) -> None:
        """Raises UserError unless the norm, called `name`, measures stored tensors of this shape, in these blocks."""
        shape = tuple(shape)
        if len(shape) != self.norm.ndim:
            raise UserError(f"norm {name!r} measures tensors of {self.norm.ndim} dimensions, not shape {shape}")
        if 0 in shape:
            raise UserError(f"norm {name!r} has nothing to measure in shape {shape}")
        if self._turned_shape(shape)[0] % self.blocks:
            raise UserError(
                f"blocks: {self.blocks} is not allowed: it does not divide the output axis of shape {shape}"
            )

    def _read(self, stored: Tensor) -> Tensor:
        """What the norm measures, a view: blocks become a last batch dimension."""
        turned = self._turned(stored)
        return turned if self.blocks == 1 else turned.unflatten(-self.norm.ndim, (self.blocks, -1))

    def _turned(self, tensor: Tensor) -> Tensor:
        """A stored tensor as (d_out, d_in, …), or back: the same operation, a view."""
        ndim = self.norm.ndim
        return tensor.transpose(-ndim, 1 - ndim) if self.layout == "in_out" and ndim > 1 else tensor

    def _turned_shape(self, shape: Sequence[int]) -> Sequence[int]:
        return (shape[1], shape[0], *shape[2:]) if self.layout == "in_out" and self.norm.ndim > 1 else shape

"""One parameter's ball: a norm, a radius, and how the tensor that is stored holds the matrix that the norm measures.

A stored tensor may hold the transpose (`layout`), several matrices side by side along d_out (`blocks`: fused queries,
keys and values; the groups of a grouped convolution), and a stack of them along leading axes (`batch`: the experts of a
mixture). Each matrix is then a layer of its own:

    ‖W‖ = max_b ‖W_b‖        ‖G‖_* = Σ_b ‖G_b‖_*        lmo(G)_b = lmo(G_b)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from scionlab.errors import UserError, unknown
from scionlab.geometry.base import Norm
from scionlab.geometry.names import norm_named

LAYOUTS = ("out_in", "in_out")


@dataclass(frozen=True)
class Layer:
    """A norm, its radius ρ in units of that norm, and how a stored tensor holds what the norm measures.

    - layout: "out_in" is (d_out, d_in), "in_out" the transpose (embeddings); of kernels, (c_out, c_in, k, …) and (c_in,
        c_out, k, …) (transposed convolutions). Vectors have no layout, and theirs is not read.
    - blocks: matrices side by side along d_out: the number of equal ones, or the rows of each, (64, 16, 16).
    - batch: leading axes of the stored tensor that count matrices; 1 for experts stored (expert, d_out, d_in).

    The methods take and give stored tensors; dimensions before theirs are members of a stack of networks, each measured
    on its own. They are of the unit ball: the radius is the caller's to multiply. Raises UserError for a radius that is
    not positive and finite, an unknown layout, less than one block, a block without rows, and less than no batch axis.
    """

    norm: Norm
    radius: float = 1.0
    layout: Literal["out_in", "in_out"] = "out_in"
    blocks: int | tuple[int, ...] = 1
    batch: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise UserError(f"radius: {self.radius!r} is not allowed: it must be positive and finite")
        if self.layout not in LAYOUTS:
            raise unknown("layout", str(self.layout), LAYOUTS)
        sizes = self.blocks if isinstance(self.blocks, tuple) else (self.blocks,)
        if not sizes or not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise UserError(
                f"blocks: {self.blocks!r} is not allowed: it must be a whole number from 1 on, or a tuple of them, the "
                "rows of every block"
            )
        if not isinstance(self.batch, int) or self.batch < 0:
            raise UserError(f"batch: {self.batch!r} is not allowed: it must be a whole number from 0 on")

    def measure(self, stored: Tensor) -> Tensor:
        """‖W‖, not divided by the radius: a 0-d tensor, or one entry for each member of a stack."""
        return self._joined(self.norm.norm, stored, torch.amax)

    def dual(self, stored: Tensor) -> Tensor:
        """‖G‖_* of the unit ball, of the same shape as `measure` gives."""
        return self._joined(self.norm.dual, stored, torch.sum)

    def lmo(self, stored: Tensor) -> Tensor:
        """The minimizer of ⟨G, S⟩ over the unit ball, stored as G is; zero for zero."""
        return self.each(self.norm.lmo, stored)

    def lmo_of_parts(self, stored: Tensor, count: int) -> Tensor:
        """The LMO of every one of `count` equal parts of each matrix, cut along its larger side, stored as G is.

        A part is measured as a matrix of its own shape. What is not a matrix has no parts.
        """

        def cut(matrix: Tensor) -> Tensor:
            if matrix.shape[-2] >= matrix.shape[-1]:
                return self.norm.lmo(matrix.unflatten(-2, (count, -1))).flatten(-3, -2)
            parts = matrix.unflatten(-1, (count, -1)).movedim(-2, -3)
            return self.norm.lmo(parts).movedim(-3, -2).flatten(-2)

        return self.each(cut if self.norm.ndim == 2 else self.norm.lmo, stored)

    def each(self, function: Callable[[Tensor], Tensor], stored: Tensor) -> Tensor:
        """`function` of the matrices (…, d_out, d_in) that the tensor holds, stored as they were."""
        found = [function(part) for part in self._read(stored)]
        if isinstance(self.blocks, tuple):
            return self._turned(torch.cat(found, -self.norm.ndim))
        return self._turned(found[0].flatten(-self.norm.ndim - 1, -self.norm.ndim) if self.blocks > 1 else found[0])

    def init(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """A random float32 CPU tensor of the stored `shape` on (or, for biases, inside) the unit ball."""
        leading, own = tuple(shape[: self.batch]), shape[self.batch :]
        members = [self._turned(self._member(own, generator)) for _ in range(math.prod(leading))]
        return torch.stack(members).unflatten(0, leading) if leading else members[0]

    def check(self, name: str, shape: Sequence[int]) -> None:
        """Raises UserError unless the norm, called `name`, measures stored tensors of this shape, in these blocks."""
        shape = tuple(shape)
        if len(shape) != self.batch + self.norm.ndim:
            leading = f" after {self.batch} of the batch" if self.batch else ""
            raise UserError(
                f"norm {name!r} measures tensors of {self.norm.ndim} dimensions{leading}, not shape {shape}"
            )
        if 0 in shape:
            raise UserError(f"norm {name!r} has nothing to measure in shape {shape}")
        rows = self._turned_shape(shape[self.batch :])[0]
        if isinstance(self.blocks, tuple):
            if sum(self.blocks) != rows:
                raise UserError(
                    f"blocks: {'+'.join(map(str, self.blocks))} is not allowed: their sum is not the output axis, "
                    f"{rows}, of shape {shape}"
                )
        elif rows % self.blocks:
            raise UserError(
                f"blocks: {self.blocks} is not allowed: it does not divide the output axis of shape {shape}"
            )

    def check_parts(self, count: int, shape: Sequence[int]) -> None:
        """Raises UserError unless the matrices of a stored tensor of this shape can be cut into `count` equal parts."""
        if self.norm.ndim != 2:
            return
        rows, columns = self._turned_shape(tuple(shape)[self.batch :])
        sizes = self.blocks if isinstance(self.blocks, tuple) else (rows // self.blocks,)
        for size in sizes:
            if max(size, columns) % count:
                raise UserError(
                    f"period_blocks: {count} is not allowed: it does not divide the larger side of a matrix of {size} "
                    f"by {columns}"
                )

    def _joined(self, measured: Callable[[Tensor], Tensor], stored: Tensor, join: Callable[..., Tensor]) -> Tensor:
        """What `measured` says of every block and member of the batch, as one."""
        parts = [measured(part) for part in self._read(stored)]
        numbers = parts[0] if len(parts) == 1 else torch.stack(parts, -1)
        several = len(parts) > 1 or (isinstance(self.blocks, int) and self.blocks > 1)
        axes = tuple(range(-self.batch - several, 0))
        return join(numbers, dim=axes) if axes else numbers

    def _member(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        """A random (d_out, d_in, …) whose blocks lie on the unit ball, for what is stored in `shape`."""
        d_out, *rest = self._turned_shape(shape)
        sizes = self.blocks if isinstance(self.blocks, tuple) else [d_out // self.blocks] * self.blocks
        blocks = [self.norm.init((size, *rest), generator) for size in sizes]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)

    def _read(self, stored: Tensor) -> Sequence[Tensor]:
        """What the norm measures, views: equal blocks are one tensor, in which they are a last batch dimension."""
        turned = self._turned(stored)
        if isinstance(self.blocks, tuple):
            return turned.split(self.blocks, dim=-self.norm.ndim)
        return [turned if self.blocks == 1 else turned.unflatten(-self.norm.ndim, (self.blocks, -1))]

    def _turned(self, tensor: Tensor) -> Tensor:
        """A stored tensor as (d_out, d_in, …), or back: the same operation, a view."""
        ndim = self.norm.ndim
        return tensor.transpose(-ndim, 1 - ndim) if self.layout == "in_out" and ndim > 1 else tensor

    def _turned_shape(self, shape: Sequence[int]) -> Sequence[int]:
        return (shape[1], shape[0], *shape[2:]) if self.layout == "in_out" and self.norm.ndim > 1 else shape


def layer_of(group: Mapping[str, Any]) -> Layer:
    """The ball of a parameter group, with or without options of its norm."""
    norm = norm_named(group["norm"], **group.get("norm_options", {}))
    return Layer(norm, group["radius"], group["layout"], group["blocks"], group.get("batch", 0))

"""Pairs of inputs and targets as one tensor: of every example a row of bytes, its inputs' and then its targets'.

So batches of any types and shapes can be split, stacked, pinned and moved as other data's (`base`).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scionlab.errors import UserError
from scionlab.own.finding import described

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Form:
    """What an example is: types and shapes of its inputs and its targets, without the batch's axis."""

    dtypes: tuple[torch.dtype, torch.dtype]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    @classmethod
    def of(cls, pair: Pair) -> "Form":
        """The form of a batch's examples."""
        inputs, targets = pair
        return cls((inputs.dtype, targets.dtype), (tuple(inputs.shape[1:]), tuple(targets.shape[1:])))

    @property
    def n_bytes(self) -> list[int]:
        """Bytes of an example's inputs and of its targets."""
        return [math.prod(shape) * dtype.itemsize for shape, dtype in zip(self.shapes, self.dtypes, strict=True)]

    def __str__(self) -> str:
        return " and ".join(f"{shape} {dtype}" for shape, dtype in zip(self.shapes, self.dtypes, strict=True))


def _bytes(values: Tensor) -> Tensor:
    return values.detach().contiguous().reshape(len(values), -1).view(torch.uint8)


def _values(rows: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    aligned = rows.clone(memory_format=torch.contiguous_format)  # `contiguous` leaves the stride of a single row
    return aligned.view(dtype).reshape(len(rows), *shape)


@dataclass(frozen=True)
class Packing:
    """Packs the batches of one function of the caller's, which is called `name`, and checks that they are alike."""

    name: str
    forms: dict[int, Form] = field(default_factory=dict)  # by seq_len

    def pack(self, item: Any, seq_len: int) -> Tensor:
        """(B, bytes) uint8 of a pair (inputs, targets). Raises UserError where it is none, or unlike those before."""
        self.expect(seq_len, Form.of(self._pair(item, seq_len)))
        return torch.cat([_bytes(part) for part in item], dim=1)

    def expect(self, seq_len: int, form: Form) -> None:
        """Examples of this form come, of this length. Raises UserError where they are unlike those before."""
        others = [self.forms.setdefault(seq_len, form), *self.forms.values()]
        unlike = [other for other in others[:1] if other != form]
        unlike += [other for other in others if other.dtypes != form.dtypes]
        if unlike:
            raise UserError(
                f"data: {self.name!r} gave a batch with examples of {form} after one of {unlike[0]}; batches must be "
                "alike"
            )

    def unpack(self, rows: Tensor) -> Pair:
        """Inputs and targets as they were given."""
        form = next(form for form in self.forms.values() if sum(form.n_bytes) == rows.shape[1])
        parts = rows.split(form.n_bytes, dim=1)
        inputs, targets = (_values(*part) for part in zip(parts, form.dtypes, form.shapes, strict=True))
        return inputs, targets

    def _pair(self, item: Any, seq_len: int) -> Pair:
        what = f"data: {self.name!r} gave a batch that is {described(item)}"
        if not isinstance(item, (tuple, list)) or len(item) != 2 or not all(isinstance(part, Tensor) for part in item):
            raise UserError(f"{what}; it must be a pair (inputs, targets) of tensors")
        inputs, targets = item
        for part in (inputs, targets):
            if part.device.type != "cpu":
                raise UserError(f"{what} on {part.device}; batches must be on the CPU, from where they are copied")
        shapes = f"inputs of shape {tuple(inputs.shape)}"
        if not inputs.ndim or not targets.ndim or len(inputs) != len(targets) or not len(inputs):
            raise UserError(
                f"data: {self.name!r} gave {shapes} with targets of shape {tuple(targets.shape)}; their first axis "
                "must count the same examples"
            )
        if inputs.ndim == 2 and seq_len > 1 and not inputs.is_floating_point() and inputs.shape[1] != seq_len:
            raise UserError(
                f"data: {self.name!r} gave {shapes} for seq_len {seq_len}; integer inputs must be (batch_size, seq_len)"
            )
        return inputs, targets

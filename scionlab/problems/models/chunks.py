"""The mean cross-entropy of a linear head, in chunks of tokens: the logits of a large vocabulary are never there whole.

    loss = mean over tokens of  logsumexp(z) − z[target],      z = scale · W h

Of every chunk the logits are made, summed up and let go, once forward and, as they are not kept, once more backward.
So memory is that of CHUNK logits and of a gradient of W; the price is one more product with W. The sums are those of
the plain loss in another order.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scionlab.problems.data.base import IGNORED

# Fewer outputs than this are never chunked: logits of bytes or classes are small beside what the layers keep.
LARGE_VOCABULARY = 2**12
# Logits of a pass, tokens × vocabulary, up to which the plain loss is taken; and of a chunk (64 MiB in float32).
WHOLE = 2**25
CHUNK = 2**24


def serve(tokens: int, vocabulary: int) -> bool:
    """Whether chunks are taken for so many tokens in a pass."""
    return vocabulary >= LARGE_VOCABULARY and tokens * vocabulary > WHOLE


def mean_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
    """Mean of −log softmax(scale · W h) at the targets that are not IGNORED, in nats, 0-d float32.

    `hidden` (…, D), `weight` (V, D), integer `targets` (…), `scale` 0-d. Products are in autocast's precision where it
    is on. Gradients are of `hidden` and `weight`, once: they cannot be differentiated again.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        flat = hidden.reshape(-1, hidden.shape[-1])
        apply: Any = _MeanCrossEntropy.apply
        loss: Tensor = apply(flat, weight, targets.reshape(-1), scale, dtype)
        return loss


class _OneByOne(torch.autograd.Function):
    """Under `torch.vmap`, as in a stack, networks go one after the other: together they would need N chunks at once."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        apply: Any = cls.apply
        given = list(zip(arguments, in_dims, strict=True))
        found = [
            apply(*(one if dim is None else one.select(dim, n) for one, dim in given)) for n in range(info.batch_size)
        ]
        if isinstance(found[0], Tensor):
            return torch.stack(found), 0
        return tuple(map(torch.stack, zip(*found, strict=True))), (0,) * len(found[0])


class _MeanCrossEntropy(_OneByOne):
    @staticmethod
    def forward(hidden: Tensor, weight: Tensor, targets: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        cast = weight.to(dtype)
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in _chunks(len(hidden), len(weight)):
            logits = scale * (hidden[part].to(dtype) @ cast.T)
            total = total + F.cross_entropy(logits.float(), targets[part], ignore_index=IGNORED, reduction="sum")
        return total / (targets != IGNORED).sum()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.dtype = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        apply: Any = _Gradients.apply
        return *apply(outer, *ctx.saved_tensors, ctx.dtype), None, None, None


class _Gradients(_OneByOne):
    """Those of `_MeanCrossEntropy` by hidden and weight, times `outer`."""

    @staticmethod
    def forward(
        outer: Tensor, hidden: Tensor, weight: Tensor, targets: Tensor, scale: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        cast = weight.to(dtype)
        each = outer / (targets != IGNORED).sum()
        of_hidden, of_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for part in _chunks(len(hidden), len(weight)):
            found, aim = hidden[part].to(dtype), targets[part]
            slopes = torch.softmax((scale * (found @ cast.T)).float(), dim=-1)
            counts = (aim != IGNORED).unsqueeze(1)
            slopes.scatter_add_(1, aim.clamp(min=0).unsqueeze(1), -counts.to(slopes.dtype))
            slopes = scale * slopes.mul_(counts * each).to(dtype)
            of_hidden[part] = (slopes @ cast).to(hidden.dtype)
            if dtype == weight.dtype:
                of_weight.addmm_(slopes.T, found)  # without another tensor of the weight's size
            else:
                of_weight += slopes.T @ found
        return of_hidden, of_weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept: gradients of gradients are not asked for."""

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        raise NotImplementedError("a cross-entropy in chunks cannot be differentiated twice")


def _chunks(tokens: int, vocabulary: int) -> Iterator[slice]:
    """Slices of at most CHUNK logits, of one token at least."""
    size = max(1, CHUNK // vocabulary)
    return (slice(start, start + size) for start in range(0, tokens, size))

"""Scion's step for many parameters at once: the numbers of the plain path of `scion` in fewer calls.

Parameters whose groups have equal options move together. Averages, decay and the step are fused operations over all of
them (`torch._foreach_*`), and those of one shape are stacked, so that one batched LMO serves the stack. Who moves with
whom is found anew in every step: what schedulers, state_dicts and users write to groups counts at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from scionlab.geometry import Layer
from scionlab.optim.steps.parts import Group, State, before, lmo_of, rule_of

Todo = tuple[Tensor, Tensor, Group]  # a parameter, its gradient, its group
Tensors = list[Tensor] | tuple[Tensor, ...]
# What must agree for parameters to move together, with `norm_options`, which is a dict and read on its own.
OPTIONS = (
    "lr", "momentum", "norm", "radius", "constrained", "layout", "first_average", "blocks", "batch", "average",
    "weight_decay", "coupled", "optimism", "period", "period_blocks",
)  # fmt: skip
# Entries of a stack on a CPU. A larger one leaves the cache, and its batched products are then no faster than one by
# one. In half precision they still are for a while: there every call of a product is dear.
CPU_ROOM, CPU_ROOM_HALF = 2**16, 2**18
# On other devices, in bytes: a stack's LMO holds a few copies of it, so without a bound a large model's step would take
# several times its weights. Matrices that fill their device alone gain nothing from a stack. And in matrices: a grid of
# CUDA has not many more in its third dimension.
OTHER_BYTES, OTHER_HEIGHT = 2**26, 2**15
HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Batch:
    """Parameters of one dtype on one device, their gradients, and a group whose options are those of all of them."""

    group: Group
    parameters: list[Tensor]
    grads: list[Tensor]


def batches(todo: Iterable[Todo]) -> tuple[list[Batch], list[Todo]]:
    """Those that move together, and those that are left to the plain path.

    Left are groups with `foreach` False and with step rules that measure a network or a layer before it moves, and
    parameters that are subclasses of Tensor (distributed ones, for example), whose operations may be their own.
    """
    found: dict[tuple[Any, ...], Batch] = {}
    rest: list[Todo] = []
    last: Group | None = None
    options: tuple[Any, ...] = ()
    for parameter, grad, group in todo:
        if group["foreach"] is False or rule_of(group) != "lmo" or not _ordinary(parameter, grad):
            rest.append((parameter, grad, group))
            continue
        if group is not last:
            last = group
            options = (*[group[name] for name in OPTIONS], group.get("count"), *group["norm_options"].items())
        key = (options, parameter.dtype, parameter.device)
        if (batch := found.get(key)) is None:
            batch = found[key] = Batch(group, [], [])
        batch.parameters.append(parameter)
        batch.grads.append(grad)
    return list(found.values()), rest


def _ordinary(parameter: Tensor, grad: Tensor) -> bool:
    return type(parameter) in (Parameter, Tensor) and type(grad) is Tensor


def advance(batch: Batch, layer: Layer, average: str, states: Sequence[State]) -> None:
    """Average, decay and move a batch, whose ball is `layer`.

    `average` is one of `scionlab.optim.steps.parts.AVERAGES`; all but "none" read and write `states`, one a parameter.
    """
    group, parameters, grads = batch.group, batch.parameters, batch.grads
    if group["coupled"] and group["weight_decay"]:
        grads = list(torch._foreach_add(grads, parameters, alpha=group["weight_decay"]))  # for the LMO to see
    _decay(parameters, group)
    size = group["lr"] * group["radius"]
    if average == "lmo":
        for indices, directions in _lmos(layer, grads, group):
            _running([states[i] for i in indices], directions, group)
        _add(parameters, [state["average"] for state in states], size)
    else:
        for indices, directions in _lmos(layer, _averaged(states, grads, average, group), group):
            _add([parameters[i] for i in indices], directions, size)


def _averaged(states: Sequence[State], grads: list[Tensor], average: str, group: Group) -> list[Tensor]:
    if average == "none":
        return grads
    if average == "lion":
        ahead = list(torch._foreach_lerp(_before(states, grads, group), grads, group["optimism"]))
        _running(states, grads, group)
        return ahead
    running = _running(states, grads, group)
    return list(torch._foreach_lerp(running, grads, group["momentum"])) if average == "nesterov" else running


def _before(states: Sequence[State], new: Tensors, group: Group) -> list[Tensor]:
    return [before(state, tensor, group) for state, tensor in zip(states, new, strict=True)]


def _running(states: Sequence[State], new: Tensors, group: Group) -> list[Tensor]:
    """The averages with `new` in them."""
    running = _before(states, new, group)
    torch._foreach_lerp_(running, new, group["momentum"])
    return running


def _lmos(layer: Layer, tensors: Tensors, group: Group) -> Iterator[tuple[list[int], Tensors]]:
    """The unit ball's LMO of all tensors, a stack at a time, with their indices."""
    lmo = lmo_of(group, layer)
    same: dict[tuple[Any, ...], list[int]] = {}
    for i, tensor in enumerate(tensors):
        same.setdefault((tensor.shape, tensor.dtype), []).append(i)
    for indices in same.values():
        height = _height(tensors[indices[0]], group)
        for start in range(0, len(indices), height):
            stack = indices[start : start + height]
            if len(stack) == 1:
                yield stack, [lmo(tensors[stack[0]])]
            else:
                yield stack, lmo(torch.stack([tensors[i] for i in stack])).unbind()


def _height(tensor: Tensor, group: Group) -> int:
    """How many tensors like this one make a stack."""
    if tensor.device.type != "cpu":
        return max(1, min(OTHER_HEIGHT, OTHER_BYTES // (tensor.numel() * tensor.element_size())))
    half = group["norm_options"].get("dtype") == "bfloat16" or tensor.dtype in HALVES
    return max(1, (CPU_ROOM_HALF if half else CPU_ROOM) // tensor.numel())


def _decay(parameters: list[Tensor], group: Group) -> None:
    """W ← (1 − γ) W if constrained, else (1 − γλ) W, unless the gradient has it."""
    if group["constrained"]:
        _multiply(parameters, 1 - group["lr"])
    elif group["weight_decay"] and not group["coupled"]:
        _multiply(parameters, 1 - group["lr"] * group["weight_decay"])


def _multiply(tensors: Tensors, factor: float | Tensor) -> None:
    # the same 0-d tensor for each: a scalar one would have to be on their device
    torch._foreach_mul_(tensors, [factor] * len(tensors) if isinstance(factor, Tensor) else factor)


def _add(parameters: Tensors, directions: Tensors, size: float | Tensor) -> None:
    if isinstance(size, Tensor):
        torch._foreach_add_(parameters, torch._foreach_mul(directions, [size] * len(directions)))
    else:
        torch._foreach_add_(parameters, directions, alpha=size)

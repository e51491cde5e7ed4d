"""One optimizer step of N networks at once: the same method and shapes, each network with its own rates and options.

Weights, gradients and state get a leading axis of networks, and parameters of one shape share one tensor,

    W (P, N, …)      P parameters of equal shape and equal parts of the method, N networks

so that a step takes as many operations as for one network, and one batched Newton-Schulz serves all its matrices. The
formulas are those of `Scion` with LMO steps, of `LayeredMuon` and of PyTorch's AdamW and Muon, which remain the
reference; the numbers agree to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from scionlab.errors import UserError
from scionlab.geometry import layer_of
from scionlab.optim.steps.anchor import START, fade
from scionlab.optim.steps.layered_muon import LayeredMuon, directions, orthogonal, rate_factor
from scionlab.optim.steps.parts import lmo_of
from scionlab.optim.steps.scion import Scion

Group = dict[str, Any]
# What a group may say in numbers that differ from network to network; everything else must be equal.
NUMBERS: dict[type[Optimizer], tuple[str, ...]] = {
    Scion: ("lr", "momentum", "radius", "weight_decay", "optimism"),
    AdamW: ("lr", "betas", "eps", "weight_decay"),
    Muon: ("lr", "momentum", "weight_decay"),
    LayeredMuon: ("lr", "momentum", "weight_decay"),
}
# What LMO steps do not read, and what does not change them.
NOT_PARTS = ("params", "initial_lr", "smoothness", "scope", "foreach")


def stackable(optimizer: Optimizer) -> bool:
    """Whether a stack can take the optimizer's steps."""
    plain_steps = all(group.get("step_rule", "lmo") == "lmo" for group in optimizer.param_groups)
    return type(optimizer) in NUMBERS and plain_steps


@dataclass
class Bucket:
    """Parameters that are updated together: their weights (P, N, …), the parts they share, their numbers and state.

    `numbers` are float64 tensors (P, N, 1, …), in which products with rates are as exact as with Python's numbers.
    """

    kind: type[Optimizer]
    parts: Group
    names: list[str]
    weights: Tensor
    numbers: dict[str, Tensor]
    state: dict[str, Tensor] = field(default_factory=dict)

    def cast(self, number: Tensor) -> Tensor:
        """A number in the weights' precision."""
        return number.to(self.weights.dtype)

    def running(self, name: str, new: Tensor, weight: Tensor) -> Tensor:
        """The state's average x ← x + weight (new − x), from zero."""
        if name not in self.state:
            self.state[name] = torch.zeros_like(new)
        return self.state[name].lerp_(new, self.cast(weight))


class StackedMethod:
    """The optimizers of N networks as one. Their parameters are copied in; `weights` holds them by name, (N, …).

    `methods` are each network's optimizers, as a recipe makes them, and `networks` its parameters by name. Raises
    UserError where an optimizer cannot be stacked, or the networks' groups differ in more than NUMBERS.
    """

    def __init__(
        self,
        networks: Sequence[Mapping[str, Tensor]],
        methods: Sequence[Sequence[Optimizer]],
        device: torch.device | str = "cpu",
    ) -> None:
        self.buckets = _buckets(networks, methods, torch.device(device))
        self.weights = {
            name: weights
            for bucket in self.buckets
            for name, weights in zip(bucket.names, bucket.weights.unbind(), strict=True)
        }
        self.steps = 0

    @torch.no_grad()
    def step(
        self, gradients: Mapping[str, Tensor], factors: Tensor, momentum: float | None = None, gone: float = 0.0
    ) -> None:
        """One step by the gradients (N, …) of every name; `factors` (N,), float64, scale the learning rates.

        `momentum`, where given, takes the place of every network's own; `gone` is the share of the run that is behind.
        """
        self.steps += 1
        for bucket in self.buckets:
            grads = torch.stack([gradients[name] for name in bucket.names])
            rates = bucket.numbers["lr"] * factors.view(-1, *[1] * (grads.ndim - 2))
            if momentum is not None:
                bucket.numbers["momentum"] = torch.full_like(bucket.numbers["lr"], momentum)
            if "anchor_fade" in bucket.parts:
                _pull(bucket, fade(gone, *bucket.parts["anchor_fade"]) / (self.steps + 1))
            UPDATES[bucket.kind](bucket, grads, rates, self.steps)


def _buckets(
    networks: Sequence[Mapping[str, Tensor]], methods: Sequence[Sequence[Optimizer]], device: torch.device
) -> list[Bucket]:
    names = {id(parameter): name for network in networks for name, parameter in network.items()}
    members: dict[Any, list[tuple[str, list[Group]]]] = {}
    for optimizers in zip(*methods, strict=True):
        if not all(map(stackable, optimizers)):
            name = type(optimizers[0]).__name__
            raise UserError(f"stack: these trials cannot be trained together: {name} does not know how")
        for groups in zip(*(optimizer.param_groups for optimizer in optimizers), strict=True):
            parts = [_parts(type(optimizers[0]), group) for group in groups]
            if any(part != parts[0] for part in parts):
                raise UserError(f"stack: the trials' groups differ in their parts: {parts}")
            for parameter in groups[0]["params"]:
                key = (type(optimizers[0]), repr(parts[0]), tuple(parameter.shape))
                members.setdefault(key, []).append((names[id(parameter)], list(groups)))
    return [_bucket(kind, found, networks, device) for (kind, *_), found in members.items()]


def _bucket(
    kind: type[Optimizer],
    members: list[tuple[str, list[Group]]],
    networks: Sequence[Mapping[str, Tensor]],
    device: torch.device,
) -> Bucket:
    names = [name for name, _ in members]
    weights = torch.stack([torch.stack([network[name].detach() for network in networks]) for name in names])
    ones = [1] * (weights.ndim - 2)
    numbers: dict[str, Tensor] = {}
    for number in NUMBERS[kind]:
        values = torch.tensor([[group[number] for group in groups] for _, groups in members], dtype=torch.float64)
        if number == "betas":  # (P, N, 2)
            numbers |= {"beta1": values[..., 0].view(*values.shape[:2], *ones)}
            numbers |= {"beta2": values[..., 1].view(*values.shape[:2], *ones)}
        else:
            numbers[number] = values.view(*values.shape, *ones)
    numbers = {name: value.to(device) for name, value in numbers.items()}
    return Bucket(kind, members[0][1][0], names, weights.to(device), numbers)


def _parts(kind: type[Optimizer], group: Group) -> Group:
    """What is the same for all parameters of a bucket and all networks."""
    return {name: value for name, value in group.items() if name not in (*NUMBERS[kind], *NOT_PARTS)}


def _pull(bucket: Bucket, share: float) -> None:
    """As `Anchor`, in step k of which `share` is φ/(k + 2)."""
    if START not in bucket.state:
        bucket.state[START] = bucket.weights.clone()
    bucket.weights.lerp_(bucket.state[START], share)


def _scion(bucket: Bucket, grads: Tensor, rates: Tensor, step: int) -> None:
    """`Scion` with LMO steps."""
    parts, weights, numbers = bucket.parts, bucket.weights, bucket.numbers
    average = parts["average"]
    lmo = lmo_of(parts | {"count": step - 1}, layer_of(parts))
    if parts["coupled"]:
        grads = grads + bucket.cast(numbers["weight_decay"]) * weights
    if average == "lmo":
        grads = lmo(grads)
    if "average" not in bucket.state and parts["first_average"] == "gradient":
        bucket.state["average"] = grads.clone()
    direction = _scion_average(bucket, grads)
    if average != "lmo":
        direction = lmo(direction)
    if parts["constrained"]:
        weights.mul_(bucket.cast(1 - rates))
    elif not parts["coupled"]:
        weights.mul_(bucket.cast(1 - rates * numbers["weight_decay"]))
    weights.addcmul_(direction, bucket.cast(rates * numbers["radius"]))


def _scion_average(bucket: Bucket, grads: Tensor) -> Tensor:
    average, numbers = bucket.parts["average"], bucket.numbers
    if average == "none":
        return grads
    if average == "lion":
        before = bucket.state.get("average", torch.zeros_like(grads))
        ahead = before.lerp(grads, bucket.cast(numbers["optimism"]))
        bucket.running("average", grads, numbers["momentum"])
        return ahead
    running = bucket.running("average", grads, numbers["momentum"])
    return running.lerp(grads, bucket.cast(numbers["momentum"])) if average == "nesterov" else running


def _adamw(bucket: Bucket, grads: Tensor, rates: Tensor, step: int) -> None:
    """PyTorch's AdamW (Loshchilov & Hutter, arXiv 1711.05101)."""
    weights, numbers, cast = bucket.weights, bucket.numbers, bucket.cast
    beta1, beta2 = numbers["beta1"], numbers["beta2"]
    weights.mul_(cast(1 - rates * numbers["weight_decay"]))
    first = bucket.running("exp_avg", grads, 1 - beta1)
    second = bucket.running("exp_avg_sq", grads.square(), 1 - beta2)
    root = second.sqrt().div_(cast((1 - beta2**step).sqrt())).add_(cast(numbers["eps"]))
    weights.addcmul_(first / root, cast(-rates / (1 - beta1**step)))


def _muon(bucket: Bucket, grads: Tensor, rates: Tensor, step: int) -> None:
    """PyTorch's Muon."""
    parts, weights = bucket.parts, bucket.weights
    direction = _muon_average(bucket, grads)
    d_out, d_in = weights.shape[-2:]
    adjusted = rate_factor(d_out, d_in, parts["adjust_lr_fn"])
    weights.mul_(bucket.cast(1 - rates * bucket.numbers["weight_decay"]))
    steps = orthogonal(direction, parts["ns_coefficients"], parts["ns_steps"], parts["eps"])
    weights.addcmul_(steps.to(weights.dtype), bucket.cast(-adjusted * rates))


def _layered_muon(bucket: Bucket, grads: Tensor, rates: Tensor, step: int) -> None:
    """`LayeredMuon`."""
    steps = directions(_muon_average(bucket, grads), bucket.parts)
    bucket.weights.mul_(bucket.cast(1 - rates * bucket.numbers["weight_decay"]))
    bucket.weights.addcmul_(steps, bucket.cast(-rates))


def _muon_average(bucket: Bucket, grads: Tensor) -> Tensor:
    momentum = bucket.numbers["momentum"]
    average = bucket.running("momentum_buffer", grads, 1 - momentum)
    return grads.lerp(average, bucket.cast(momentum)) if bucket.parts["nesterov"] else average


UPDATES: dict[type[Optimizer], Callable[[Bucket, Tensor, Tensor, int], None]] = {
    Scion: _scion,
    AdamW: _adamw,
    Muon: _muon,
    LayeredMuon: _layered_muon,
}

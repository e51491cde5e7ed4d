"""A pull of the weights to where they started, in place of weight decay: SODA's wrapper around any optimizer.

    x_{k+1} = x_k + u_k + φ (x_0 − x_k)/(k + 2)          k = 0, 1, …, the steps of a parameter before this one

u_k is the step of the optimizer, schedule included, which must not depend on the weights; the pull is not multiplied
by the learning rate, and nothing is tuned. φ is 1, or fades to 0 towards the end of a run. Around unconstrained Scion
it is Scion on a ball of radius ρ (k + 2) γ_k around x_0 with steps of 1/(k + 2). Source: arXiv 2605.11172; the fade,
KellerJordan/modded-nanogpt, track 3, record of 18 May 2026.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scionlab.errors import UserError

# Of a parameter's state: x_0, and how many steps it has taken since.
START, STEPS = "anchor_start", "anchor_steps"


class Anchor:
    """Pulls the parameters of `optimizer` to their start from now on; a copy of the weights is kept in its state.

    - optimizer: any of PyTorch's kind without weight decay, whose gradients exist before its step.

    A group's `anchor`, φ, is 1 and may be changed between steps. Call it before a state_dict is loaded, and once.
    Raises UserError for an optimizer with weight decay or a constrained step, in it or in a later step, and where a
    step is given a closure, whose gradients would be those of other weights.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.first: dict[Tensor, Tensor] = {}  # starts, until the optimizer has made its own state
        for group in optimizer.param_groups:
            _refuse_decay(optimizer, group)
            group.setdefault("anchor", 1.0)
        optimizer.register_step_pre_hook(self._pull)
        optimizer.register_step_post_hook(self._keep)

    @torch.no_grad()
    def _pull(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(value is not None for value in (*args[1:], kwargs.get("closure"))):
            raise UserError("Anchor: closure: a step with a closure is not allowed: call backward before step()")
        for group in optimizer.param_groups:
            _refuse_decay(optimizer, group)
        for group, parameter in self._moving():
            state = optimizer.state.get(parameter, {})  # asking it by [] would make one, which some take for theirs
            if START in state:
                parameter.lerp_(state[START], group["anchor"] / (state[STEPS] + 2))
            else:
                self.first[parameter] = parameter.clone()

    def _keep(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for _, parameter in self._moving():
            state = optimizer.state[parameter]
            if START not in state:
                state[START], state[STEPS] = self.first.pop(parameter), 0
            state[STEPS] += 1

    def _moving(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """The parameters that have a gradient, with their groups."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    yield group, parameter


def fade(gone: float, start: float, end: float) -> float:
    """φ where a share `gone` of a run is behind: 1 until the share `start`, by half a cosine to 0 at `end`."""
    if gone <= start:
        return 1.0
    return (1 + math.cos(math.pi * (gone - start) / (end - start))) / 2 if gone < end else 0.0


def _refuse_decay(optimizer: Optimizer, group: dict[str, Any]) -> None:
    name = type(optimizer).__name__
    if group.get("constrained"):
        raise UserError(f"Anchor: {name}: constrained: True is not allowed: the pull to the start takes its place")
    if group.get("weight_decay"):
        raise UserError(
            f"Anchor: {name}: weight_decay: {group['weight_decay']!r} is not allowed: the pull to the start takes its "
            "place; only 0 is"
        )

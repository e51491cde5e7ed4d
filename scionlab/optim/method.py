"""How weights move in one step: a method asks an oracle for gradients, as often as its recipe declares, and moves.

    reading = oracle.at(batch)                       loss and gradients of a batch where the weights are
    reading = oracle.at(batch, weights)              the same elsewhere; the model's own weights stay where they are
    method.update(oracle, reading.gradients)         PyTorch's optimizers step by these

`OneGradient` makes a method of any PyTorch optimizers: one gradient, one step. Others override `step` alone
(docs/extending.md has SAM, which takes two).
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from scionlab.optim.steps.anchor import Anchor, fade
from scionlab.optim.steps.scion import ScionLight

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Examples (B, …) of a step, and what each counts in the loss, `weights` (B,): Σ wᵢ ℓᵢ/B; None is all 1."""

    examples: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.examples)

    def split(self, size: int) -> "list[Batch]":
        """In parts of so many examples; the last may have fewer."""
        parts = self.examples.split(size)
        weights = [None] * len(parts) if self.weights is None else self.weights.split(size)
        return [Batch(part, of_part) for part, of_part in zip(parts, weights, strict=True)]


@dataclass(frozen=True)
class Reading:
    """What an oracle says of a batch: the mean `loss`, 0-d, and its `gradients` by parameter name.

    A parameter that the loss does not depend on has no gradient, which is not a gradient of zeros: methods leave it as
    it is. Of a game, the loss is the first player's, and a parameter's gradient is of its own player's loss. Of a stack
    of N networks the loss is (N,) and the gradients are (N, …).
    """

    loss: Tensor
    gradients: dict[str, Tensor]


class Oracle(Protocol):
    """The only place that differentiates. `weights` are the model's own by name; `calls` counts the readings."""

    weights: Weights
    calls: int

    def at(self, batch: Batch, weights: Weights | None = None, *, statistics: bool = True) -> Reading:
        """The mean loss of a batch and its gradients at `weights`, by default the model's own.

        Weights that are not named are the model's own. All readings of one step see the same random draws, as of
        dropout. Without `statistics`, what modules gather of their batches, as BatchNorm does, stays as it is.
        """
        ...


class Method(ABC):
    """PyTorch optimizers, and how they come to their gradients. A run makes one for every stage.

    `optimizers` together have every parameter once. `state` is what a method keeps from step to step beyond the
    optimizers' own: tensors and plain values, saved in checkpoints and handed from stage to stage. `clip`, where it is
    set, is called between the gradients and the step by them.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        self.state: dict[str, Any] = {}
        self.clip: Callable[[], None] | None = None
        for group in self.groups:
            group["initial_lr"] = group["lr"]

    @abstractmethod
    def step(self, oracle: Oracle, batch: Batch) -> Tensor:
        """Move the weights by one step on a batch; the loss before it, 0-d."""

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def anchor(self, fade_start: float = 1.0, fade_end: float = 1.0) -> None:
        """Pull the weights to their start from now on, less from the share `fade_start` of the run to `fade_end`."""
        for optimizer in self.optimizers:
            Anchor(optimizer)
        for group in self.groups:
            group["anchor_fade"] = fade_start, fade_end

    def set_rates(self, factor: float, momentum: float | None = None, gone: float = 0.0) -> None:
        """For the next step: every learning rate is `factor` times its peak, and momentum is this where it is given.

        `gone` is the share of the run that is behind, by which a pull to the start fades.
        """
        for group in self.groups:
            group["lr"] = group["initial_lr"] * factor
            if "anchor_fade" in group:
                group["anchor"] = fade(gone, *group["anchor_fade"])
            if momentum is not None:
                group["momentum"] = momentum

    def update(self, oracle: Oracle, gradients: Mapping[str, Tensor]) -> None:
        """One step of every optimizer by these gradients, by name."""
        for name, gradient in gradients.items():
            parameter = oracle.weights[name]
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        if self.clip is not None:
            self.clip()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # not ScionLight's, which are its average

    def take_over(self, before: "Method") -> None:
        """Go on with the averages and moments of an earlier stage's method."""
        for new, old in zip(self.optimizers, before.optimizers, strict=True):
            new.state.update(old.state)
        self.state = before.state

    def state_dict(self) -> dict[str, Any]:
        """A copy of what decides how it goes on: tensors and plain values."""
        state = {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "averages": [light.gradient_buffers() for light in self._light],
            "state": self.state,
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for light, averages in zip(self._light, state["averages"], strict=True):
            light.load_gradient_buffers(averages)
        self.state = state["state"]

    @property
    def _light(self) -> list[ScionLight]:
        """The optimizers whose averages live in the gradients."""
        return [optimizer for optimizer in self.optimizers if isinstance(optimizer, ScionLight)]


class OneGradient(Method):
    """One gradient, and the optimizers' step by it: what PyTorch's optimizers are made for."""

    def step(self, oracle: Oracle, batch: Batch) -> Tensor:
        """Move the weights by one step on a batch; the loss before it, 0-d."""
        reading = oracle.at(batch)
        self.update(oracle, reading.gradients)
        return reading.loss

"""What every layer does during training: the size of its weight in its own norm, and how its output moves.

On a fixed batch of the validation set, before the first step and after some of the others,

    norm               ‖W‖ in the layer's geometry                     bound    what it cannot exceed:
    rms_to_rms         √(d_in/d_out) σ_max(W)                                   b ← |1 − γ c| b + γ ρ,  b⁰ = ‖W⁰‖
    rms_to_max         √d_in max_i ‖row_i‖₂
    output_rms         ‖h‖_RMS of what the weight's module puts out
    output_change_rms  ‖h − h⁰‖_RMS
    grad_dual          ‖∇_W f‖_*, f the loss of that batch

with c = 1 for constrained steps, λ for decoupled weight decay, else 0: the triangle inequality, step by step. Outside
the ball b does not fall where a constrained step may be shorter than γ. With Newton-Schulz it holds up to the upper end
of its band. Steps scaled by a dual norm have no bound. Reading leaves the training as it is.
Sources: arXiv 2502.07529 (norm control), 2310.17813 (the coordinate check), 2510.03871 (rms_to_max).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scionlab.geometry import NORMS, Layer

WATCH_EXAMPLES = 16
LOGITS = "logits"

Forward = Callable[[], tuple[Tensor, Tensor]]


def watch_steps(count: int, steps: int) -> frozenset[int]:
    """0 and the steps i·K/count for i = 1 … count, rounded down but at least 1; none at all for a count of 0."""
    return frozenset({0, *(max(1, i * steps // count) for i in range(1, count + 1))}) if count else frozenset()


@dataclass(frozen=True)
class Watched:
    """A parameter under watch. `module` is the path of the module whose output is its row's, or None for none.

    `decay` is c in the bound's recursion; None for a method without balls, or without a bound. `clipped` says that a
    step may pull less than γ does.
    """

    name: str
    role: str
    parameter: Tensor
    layer: Layer
    norm_name: str
    has_ball: bool
    decay: float | None
    module: str | None
    clipped: bool = False


class Watch:
    """The rows of the layers table: `measure` gives those of one step; `stepped` is told of every step's rate.

    `forward` gives the model's output and the loss on the fixed batch. Holds a copy of the outputs at the start.
    """

    def __init__(self, model: nn.Module, watched: Sequence[Watched], forward: Forward) -> None:
        self.model, self.watched, self.forward = model, watched, forward
        self.start: dict[str, Tensor] = {}
        self.bounds: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """What the start was, for a checkpoint."""
        return {"start": self.start, "bounds": self.bounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        device = self.watched[0].parameter.device  # a checkpoint may have been read onto another one
        self.start = {path: output.to(device) for path, output in state["start"].items()}
        self.bounds = state["bounds"]

    def stepped(self, rate: float) -> None:
        """A step γ was taken: what the norms may have become."""
        for i, (one, bound) in enumerate(zip(self.watched, self.bounds, strict=True)):
            if one.decay is not None:
                longest = abs(1 - rate * one.decay) * bound + rate * one.layer.radius
                self.bounds[i] = max(bound, longest) if one.clipped else longest

    def measure(self, place: dict[str, Any]) -> list[dict[str, Any]]:
        """One row a parameter and one of the model's output; `place` are the columns that say when."""
        outputs, gradients = self._run()
        if not self.start:
            self.start = {path: output.clone() for path, output in outputs.items()}
        with torch.no_grad():
            norms = [float(one.layer.measure(one.parameter)) for one in self.watched]
            if not self.bounds:
                self.bounds = list(norms)
            rows = [
                {**self._weight(one, norm, bound), **self._output(outputs, one.module), "grad_dual": dual}
                for one, norm, bound, dual in zip(self.watched, norms, self.bounds, gradients, strict=True)
            ]
            rows.append({"layer": LOGITS, "role": "model", **self._output(outputs, LOGITS)})
        return [{**place, **row} for row in rows]

    def _run(self) -> tuple[dict[str, Tensor], list[float]]:
        """Outputs of the modules by name, and the dual norm of every parameter's gradient."""
        outputs: dict[str, Tensor] = {}
        modules = dict(self.model.named_modules(remove_duplicate=False))
        handles = [
            modules[path].register_forward_hook(_keeper(outputs, path))
            for path in {one.module for one in self.watched if one.module is not None}
        ]
        try:
            logits, loss = self.forward()
        finally:
            for handle in handles:
                handle.remove()
        outputs[LOGITS] = logits.detach().float()
        gradients = torch.autograd.grad(loss, [one.parameter for one in self.watched], allow_unused=True)
        duals = [
            math.nan if gradient is None else float(one.layer.dual(gradient))
            for one, gradient in zip(self.watched, gradients, strict=True)
        ]
        return outputs, duals

    def _weight(self, one: Watched, norm: float, bound: float) -> dict[str, Any]:
        matrix = one.parameter.ndim - one.layer.batch == 2
        return {
            "layer": one.name,
            "role": one.role,
            "norm_name": one.norm_name,
            "norm": norm,
            "radius": one.layer.radius if one.has_ball else None,
            "bound": None if one.decay is None else bound,
            "rms_to_rms": _measured(one, "spectral") if matrix else None,
            "rms_to_max": _measured(one, "row") if matrix else None,
        }

    def _output(self, outputs: dict[str, Tensor], module: str | None) -> dict[str, Any]:
        now = None if module is None else outputs.get(module)
        if now is None or module is None:
            return {}
        return {"output_rms": _rms(now), "output_change_rms": _rms(now - self.start[module])}


def _measured(one: Watched, norm: str) -> float:
    return float(
        Layer(NORMS[norm], layout=one.layer.layout, blocks=one.layer.blocks, batch=one.layer.batch).measure(
            one.parameter
        )
    )


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _keeper(outputs: dict[str, Tensor], path: str) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):  # a module of the caller's may put out anything
            outputs[path] = first.detach().float()

    return keep

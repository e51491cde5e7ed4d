"""Scion: stochastic conditional gradient steps over one norm ball per layer (arXiv 2502.07529), and its relatives.

    d ← (1 − α) d + α g                  average of gradients (α `momentum`, the weight of the new one)
    s ← ρ · lmo(d)                       minimizer of ⟨d, s⟩ over the ball of radius ρ, in the layer's norm
    W ← W + γ s                          unconstrained
    W ← (1 − γ) W + γ s                  constrained: stays in the ball, equals decoupled weight decay γ

Other averages and other rules for the size of the step are parts to choose (`parts`); with them the same
class is normalized SGD, Signum, spectral descent, clipped Scion, ALMOND and more (docs/optimizers.md has the table).
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from scionlab.errors import UserError, unknown
from scionlab.geometry import Layer, layer_of
from scionlab.optim.steps import foreach
from scionlab.optim.steps.checks import check_group, check_step
from scionlab.optim.steps.momentum import refuse_change, remember
from scionlab.optim.steps.parts import AVERAGES, Move, lmo_of, rule_of, step_sizes

# What a group may say; the defaults are Scion's. Groups of checkpoints older than a field get its default.
DEFAULTS: dict[str, Any] = {
    "lr": 2**-6,
    "momentum": 0.1,
    "norm": "spectral",
    "radius": 1.0,
    "constrained": True,
    "layout": "out_in",
    "first_average": "zero",
    "blocks": 1,
    "batch": 0,
    "norm_options": {},
    "average": "gradient",
    "step_rule": "lmo",
    "scope": "network",
    "smoothness": 1.0,
    "weight_decay": 0.0,
    "coupled": False,
    "power": 1.0,
    "optimism": 0.1,
    "period": 1,
    "period_blocks": 1,
    "foreach": None,
}


# PyTorch keeps its compiler out of these two, for which it loads it: a second or two before anything is trained.
_ADD_PARAM_GROUP = inspect.unwrap(Optimizer.add_param_group)
_ZERO_GRAD = inspect.unwrap(Optimizer.zero_grad)


class Scion(Optimizer):
    """Norm-constrained LMO steps, one geometry per parameter group.

    Every argument after `params` is a default that a parameter group may override under the same name.

    - lr: step size γ ≥ 0; at most 1 when constrained (a convex combination). A 0-d tensor may change without another
        compilation of the step; its value is not checked, as that would wait for its device.
    - momentum: α in (0, 1], the weight of the new gradient; 0.1 is what others call momentum 0.9. Schedulers that cycle
        momentum write the other convention and are refused: use OneCycleLR with cycle_momentum=False.
    - norm: a name that `scionlab.geometry.norm_named` knows.
    - radius: ρ > 0, in units of the group's norm.
    - constrained: step towards the LMO point (Scion) or along it (unconstrained Scion).
    - layout: "out_in" for weights stored (d_out, d_in), "in_out" for embeddings stored (vocabulary, width).
    - first_average: "zero" starts d from 0, "gradient" from the first gradient (as the analysis of 2603.21191 does).
    - blocks: matrices the weight holds side by side along d_out: 3 equal ones for fused queries, keys and values, or
        the rows of each, (64, 16, 16).
    - batch: leading axes that count matrices of their own; 1 for experts stored (expert, d_out, d_in).
    - norm_options: steps, coefficients and dtype of Newton-Schulz, for norms that use it; floor, for norms of columns,
        rows and entries, the share of the largest below which one gets a step in proportion (default 0: none does).
    - average: "gradient", "nesterov", "lion", "none", or "lmo" for ALMOND's average of LMOs.
    - optimism: β in [0, 1] of the average "lion", the weight of the new gradient in its step; default 0.1.
    - step_rule: "lmo", "steepest" (scaled by the dual norm), "clipped" (the smaller of both), "smooth-clip" (half their
        harmonic mean) or "power" (scaled by a power of the dual norm).
    - power: κ ≥ 0 of "power"; default 1, which is "steepest", as 0 is "lmo".
    - scope: whether rules other than "lmo" measure the "network", all groups of one rule together, or each "layer".
    - smoothness: L of "clipped" and "smooth-clip", in the norm of its scope.
    - period, period_blocks: the LMO is of whole matrices every so many steps of the group, from the first one on, and
        between them of so many equal parts, cut along the larger side (MuonBP, arXiv 2510.16981); default 1: always.
        Steps of parts may be longer in the norm of the whole, and leave its ball.
    - weight_decay: λ ≥ 0 of unconstrained methods: W ← (1 − γλ) W before the step. With 1 it is Scion.
    - coupled: add λW to the gradient instead (Tikhonov), which the LMO then sees.
    - foreach: None, the default, moves parameters together where `foreach` can, which gives the same
        numbers sooner; False moves one after the other, by the formulas as they are written here.

    Raises UserError for values out of range, for sparse or complex gradients, and for sharded parameters.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2**-6,
        momentum: float = 0.1,
        norm: str = "spectral",
        radius: float = 1.0,
        constrained: bool = True,
        layout: str = "out_in",
        first_average: str = "zero",
        **parts: Any,
    ) -> None:
        for name in parts:
            if name not in DEFAULTS:
                raise unknown("Scion: argument", name, DEFAULTS)
        given = {"lr": lr, "momentum": momentum, "norm": norm, "radius": radius, "constrained": constrained}
        super().__init__(params, DEFAULTS | given | {"layout": layout, "first_average": first_average} | parts)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in DEFAULTS.items():
                group.setdefault(name, default)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _ADD_PARAM_GROUP(self, param_group)
        group = self.param_groups[-1]
        try:
            check_group(group)
        except Exception:
            self.param_groups.pop()
            raise
        group["norm_options"] = dict(group["norm_options"])  # its own, as everything else in a group

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As PyTorch does it."""
        _ZERO_GRAD(self, set_to_none)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient; returns the closure's loss."""
        return self._step(closure)

    def _step(self, closure: Callable[[], float] | None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        todo = [(p, p.grad, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for group in self.param_groups:  # before anything moves: schedulers and state_dicts write groups unchecked
            check_step(group)
        if any(grad.is_sparse for _, grad, _ in todo):
            raise UserError("Scion: a gradient is sparse; use dense gradients (nn.Embedding(sparse=False))")
        batches, rest = foreach.batches(todo)
        for batch in batches:
            self._advance(batch)
        self._one_by_one(rest)
        for group in self.param_groups:
            if group["period"] > 1:
                group["count"] = group.get("count", 0) + 1
        return loss

    def _advance(self, batch: foreach.Batch) -> None:
        states = [self.state[parameter] for parameter in batch.parameters]
        foreach.advance(batch, layer_of(batch.group), batch.group["average"], states)

    def _one_by_one(self, todo: Iterable[foreach.Todo]) -> None:
        """The plain path: the formulas, parameter by parameter."""
        scopes: dict[tuple[Any, ...], list[Move]] = {}
        for number, (parameter, grad, group) in enumerate(todo):
            move = self._move(parameter, grad, group)
            if rule_of(group) == "lmo":
                _apply(move, group["lr"])
            else:
                alone = number if group["scope"] == "layer" else None
                shared = (rule_of(group), group["power"], group["smoothness"], group["constrained"])
                scopes.setdefault((alone, *shared), []).append(move)
        sized = [pair for moves in scopes.values() for pair in zip(moves, step_sizes(moves), strict=True)]
        for move, size in sized:  # after all of them are known
            _apply(move, size)

    def _move(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> Move:
        layer = layer_of(group)
        if group["coupled"] and group["weight_decay"]:
            grad = grad.add(parameter, alpha=group["weight_decay"])
        average = self._average(parameter, grad, group, layer)
        direction = average if group["average"] == "lmo" else lmo_of(group, layer)(average)
        return Move(parameter, average, direction, layer, group)

    def _average(self, parameter: Tensor, grad: Tensor, group: dict[str, Any], layer: Layer) -> Tensor:
        return AVERAGES[group["average"]](self.state[parameter], grad, group, layer)

    @torch.no_grad()
    def norms(self) -> list[tuple[Tensor, float, float]]:
        """For every parameter: itself, its norm in its own geometry, and the radius of its ball."""
        return [
            (parameter, float(layer_of(group).measure(parameter)), group["radius"])
            for group in self.param_groups
            for parameter in group["params"]
        ]


class ScionLight(Scion):
    """Scion without state: `p.grad` is the running average, so there is one set of weights and one of gradients.

    After the step the gradient is multiplied by 1 − α and kept, and the next backward pass adds to it: d/α, which the
    LMO does not tell from d. `zero_grad` therefore does nothing. What else writes to gradients (clipping by value or
    norm, GradScaler, `model.zero_grad`) changes the average. `state_dict` does not hold it: save `gradient_buffers()`.
    d/α is another number for another α, so momentum stays what it was in the first step.

    Raises UserError for an average other than "gradient", for coupled decay, a GradScaler, and a momentum that changes.
    """

    _step_supports_amp_scaling = True  # GradScaler then leaves the gradients to the step, which refuses it

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["average"] != "gradient" or group["first_average"] != "zero" or group["coupled"]:
            self.param_groups.pop()
            raise UserError(
                "ScionLight: average, first_average, coupled: only 'gradient', 'zero' and False are allowed: the "
                "gradient itself is the average"
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: the gradients are the average."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient, which then fades by 1 − α; returns the closure's loss."""
        if hasattr(self, "found_inf"):  # which a GradScaler sets for the time of a step
            for name in ("found_inf", "grad_scale"):
                delattr(self, name)
            raise UserError("ScionLight: GradScaler rescales gradients, which are the average here; use bfloat16")
        for group in self.param_groups:
            refuse_change("ScionLight", group)
        loss = self._step(closure)  # not the other step, whose hooks are those of this one
        fading: dict[float, list[Tensor]] = {}
        for group in self.param_groups:
            remember(group)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    fading.setdefault(group["momentum"], []).append(parameter.grad)
        for momentum, grads in fading.items():
            torch._foreach_mul_(grads, 1 - momentum)
        return loss

    def _advance(self, batch: foreach.Batch) -> None:
        foreach.advance(batch, layer_of(batch.group), "none", ())  # the gradient is the average

    def _average(self, parameter: Tensor, grad: Tensor, group: dict[str, Any], layer: Layer) -> Tensor:
        # only a rule that looks at the scale of d has to see it
        return grad if rule_of(group) == "lmo" else grad * group["momentum"]

    def gradient_buffers(self) -> list[Tensor | None]:
        """A copy of every parameter's average as it is kept in its gradient, for a checkpoint."""
        grads = [parameter.grad for group in self.param_groups for parameter in group["params"]]
        return [None if grad is None else grad.clone() for grad in grads]

    def load_gradient_buffers(self, buffers: Iterable[Tensor | None]) -> None:
        """Put a checkpoint's averages back. Raises UserError if there are not as many as parameters."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        buffers = list(buffers)
        if len(buffers) != len(parameters):
            raise UserError(f"ScionLight: {len(buffers)} gradient buffers for {len(parameters)} parameters")
        for parameter, buffer in zip(parameters, buffers, strict=True):
            parameter.grad = None if buffer is None else buffer.to(parameter.device, copy=True)


def _apply(move: Move, size: float | Tensor) -> None:
    """x ← x + size (s − x) if constrained, else x + size s after decay by 1 − γλ."""
    parameter, group = move.parameter, move.group
    if group["constrained"]:
        parameter.mul_(1 - size)
    elif group["weight_decay"] and not group["coupled"]:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
    if isinstance(size, Tensor):
        parameter.add_(move.direction * (size * group["radius"]))
    else:
        parameter.add_(move.direction, alpha=size * group["radius"])

"""The oracles of `scionlab.optim.method`: the only places of training that differentiate.

`ModelOracle` is one model's, in eager mode or by a compiled graph, of a whole batch or of micro-batches one after the
other; `StackedOracle` is that of N networks with a leading axis. The methods cannot tell them apart.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from scionlab.optim.method import Batch, Reading, Weights
from scionlab.problems.data import PerExample
from scionlab.training.graphs import Compiler, loss_and_gradients, shape_key
from scionlab.training.parts import Parts
from scionlab.training.passes import Passes


class ModelOracle:
    """Loss and gradients of one run's model.

    `step` is the number of the step under way, of which what the model draws follows. Where a sampler `listens`, what
    the single examples of the last reading came to is kept as `heard`, of whole batches. With `micro_batch` a batch of
    more examples is read in parts of so many: their losses and gradients are averaged, which is the same up to
    rounding, and memory is that of a part (`scionlab.training.parts`). Out of CUDA's memory a batch is read again, in
    parts of half the size: weights are where they were, and the draws are the same.
    """

    def __init__(self, passes: Passes, compiled: bool = False, micro_batch: int = 0, listens: bool = False) -> None:
        may_compile = passes.source.traceable and not passes.source.players
        self.passes, self.compiler = passes, Compiler(compiled and may_compile and not listens)
        self.parts, self.calls, self.step = Parts(passes, micro_batch), 0, 0
        self.listens = listens
        if listens:
            self.parts.kept_whole = "batches stay whole: the sampler hears of their examples"
        self.heard: PerExample | None = None
        self.weights: Weights = dict(passes.model.named_parameters())
        self.detached = {name: weight.detach() for name, weight in self.weights.items()}
        self.buffers = dict(passes.model.named_buffers())
        self.may_be_unused = passes.trial.has_own_model

    def at(self, batch: Batch, weights: Weights | None = None, *, statistics: bool = True) -> Reading:
        """The mean loss of a batch and its gradients at `weights`, by default the model's own."""
        self.calls += 1
        self.heard = None

        def read(parts: list[tuple[float, Batch]]) -> Reading:
            buffers = self.buffers if statistics else {name: buffer.clone() for name, buffer in self.buffers.items()}
            drawing = self.passes.drawing(self.step)

            def read_one(part: Batch) -> Reading:
                drawn = drawing(len(part))
                return self._read(part, weights, {**buffers, **drawn} if drawn else buffers)

            with self.passes.draws(self.step):
                if len(parts) == 1:
                    return read_one(parts[0][1])
                return averaged((share, read_one(part)) for share, part in parts)

        return self.parts.reading(batch, read)

    def _read(self, batch: Batch, weights: Weights | None, buffers: Weights) -> Reading:
        points = {**self.detached, **{name: weight.detach() for name, weight in (weights or {}).items()}}
        if batch.weights is None:
            make, key = partial(loss_and_gradients, self.passes), shape_key(self.passes, batch.examples)
            if (found := self.compiler.call(key, make, points, buffers, batch.examples)) is not None:
                gradients, loss = found
                unused = self._unused(batch.examples, points, gradients)
                return Reading(loss, {name: gradients[name] for name in points if name not in unused})
        if weights is None and buffers is self.buffers:
            return self._differentiate(batch, self.weights, None)
        points = {name: point.detach().requires_grad_() for name, point in points.items()}
        return self._differentiate(batch, points, {**points, **buffers})

    def _differentiate(self, batch: Batch, points: Weights, tensors: Weights | None) -> Reading:
        """In eager mode: at `points`, which are among the `tensors` that take the place of the model's own."""
        passes, source = self.passes, self.passes.source
        if batch.weights is None and not self.listens and not source.players:
            return differentiated(passes.loss(batch.examples, tensors), points)
        outputs, targets, loss = passes.forward(batch.examples, tensors)
        if source.players:
            return field(source.losses(outputs, targets), points, source.players)
        examples = passes.problem.per_example(outputs, targets)
        if self.listens:
            self.heard = PerExample(examples.losses.detach(), examples.errors)
        return differentiated(loss if batch.weights is None else (batch.weights * examples.losses).mean(), points)

    def _unused(self, batch: Tensor, points: Weights, gradients: Weights) -> set[str]:
        """Parameters that this batch's loss does not depend on, as of an expert that no token is sent to.

        A graph gives zeros for them, by which they would decay. Where there are zeros, a pass in eager mode tells.
        Built-in models use all they have.
        """
        zeros = [name for name, gradient in gradients.items() if not gradient.any()] if self.may_be_unused else []
        if not zeros:
            return set()
        leaves = {name: point.detach().requires_grad_() for name, point in points.items()}
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}  # statistics are gathered once
        found = differentiated(self.passes.loss(batch, {**leaves, **buffers}), {name: leaves[name] for name in zeros})
        return set(zeros) - found.gradients.keys()


class StackedOracle:
    """Losses (N,) and gradients (N, …) of N networks of one shape, each on a batch of its own, (N, B, …)."""

    def __init__(self, passes: Passes, weights: Weights, compiled: bool = False) -> None:
        self.passes, self.compiler = passes, Compiler(compiled)
        self.weights, self.buffers, self.calls = weights, dict(passes.model.named_buffers()), 0
        self.graph = torch.vmap(loss_and_gradients(passes), in_dims=(0, None, 0))

    def at(self, batch: Batch, weights: Weights | None = None, *, statistics: bool = True) -> Reading:
        """Every network's mean loss and gradients; there are no statistics, as built-in models gather none."""
        self.calls += 1
        arguments = {**self.weights, **(weights or {})}, self.buffers, batch.examples
        found = self.compiler.call(shape_key(self.passes, batch.examples, "stack"), lambda: self.graph, *arguments)
        gradients, losses = self.graph(*arguments) if found is None else found
        return Reading(losses, gradients)


def differentiated(loss: Tensor, points: Weights) -> Reading:
    """The reading of a loss that was computed at these points; those it does not depend on have no gradient."""
    found = torch.autograd.grad(loss, list(points.values()), allow_unused=True)
    gradients = {name: gradient for name, gradient in zip(points, found, strict=True) if gradient is not None}
    return Reading(loss.detach(), gradients)


def field(losses: Mapping[str, Tensor], points: Weights, players: Mapping[str, tuple[str, ...]]) -> Reading:
    """The reading of a game: of every player's loss the gradients by its own parameters, at these points.

    `players` say how the names of each one's parameters begin.
    """
    gradients: dict[str, Tensor] = {}
    for player, begins in players.items():
        own = {name: point for name, point in points.items() if name.startswith(begins)}
        found = torch.autograd.grad(losses[player], list(own.values()), retain_graph=True, allow_unused=True)
        gradients |= {name: gradient for name, gradient in zip(own, found, strict=True) if gradient is not None}
    return Reading(losses[next(iter(players))].detach(), gradients)


def averaged(readings: Iterable[tuple[float, Reading]]) -> Reading:
    """The reading of a batch from its parts' shares of the examples and readings, of which one is held at a time."""
    loss: Tensor | None = None
    gradients: dict[str, Tensor] = {}
    for share, reading in readings:
        loss = reading.loss * share if loss is None else loss.add_(reading.loss, alpha=share)
        _add(gradients, reading.gradients, share)
        del reading  # before the next part is read
    if loss is None:
        raise AssertionError("averaged: there is no part")
    return Reading(loss, gradients)


def _add(total: dict[str, Tensor], gradients: dict[str, Tensor], share: float) -> None:
    for name, gradient in gradients.items():
        total[name] = gradient * share if name not in total else total[name].add_(gradient, alpha=share)

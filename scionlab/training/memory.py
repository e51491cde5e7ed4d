"""How much memory training a trial takes, estimated before it begins, and the parts of a batch that fit.

    peak = W + state + batch + Σ + max(kept + 3·largest + fixed, G)       while gradients are found, or
    peak = W + state + batch + G + W                                      while the weights move, if that is more

with W the weights (twice where they are averaged), G their gradients, Σ = G where a batch is read in parts, whose
gradients are summed up. `kept` is what autograd saves of the examples of a part (`scionlab.training.activations`); of
the largest tensor of a layer about three more are under way in its backward pass; and a step of a method is taken to
need as much as the weights besides its state. In memory are also the interpreter and PyTorch, BASE bytes.

It is of eager mode: a compiled graph keeps less. Probes and watches run on passes of their own, of a fixed size.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from scionlab.optim import asked, method_of, recipe
from scionlab.optim.steps.shampoo import Shampoo
from scionlab.problems.data import Source
from scionlab.problems.own_model import claims_of
from scionlab.spec import PlannedStage, Trial
from scionlab.spec.trial import OF_TEXT
from scionlab.training.activations import FULL, INDEX, Saved, saved_of
from scionlab.training.feed import example_bytes, steps_ahead
from scionlab.training.parts import equal_size
from scionlab.training.prepare import build, shell

# Bytes of a process that has imported PyTorch, on a CPU.
BASE = 300_000_000
# Tensors of a layer's largest size that its backward pass makes.
UNDER_WAY = 3
# State that is more than any method's but Shampoo's: where even so a trial fits, nobody needs to know it.
MUCH_STATE = 8
# State of a method that nobody can tell: two tensors of every parameter, as Adam's.
UNKNOWN_STATE = 2


@dataclass(frozen=True)
class Estimate:
    """Bytes that training takes in one stage; see the module for the terms. `input` are those of a batch's example."""

    weights: int
    gradients: int
    state: int
    head: int
    input: int
    saved: Saved
    calls: int = 1

    def peak(self, batch_size: int, micro_batch: int = 0) -> int:
        """The most at any time, with batches read in parts of `micro_batch` examples; 0 for whole."""
        in_parts = 0 < micro_batch < batch_size
        examples = micro_batch if in_parts else batch_size
        held = self.weights + self.state + batch_size * self.input
        # A method of several gradients holds the earlier ones, and weights of its own to ask at.
        held += (self.calls - 1) * 2 * self.gradients
        kept = examples * (self.saved.saved + UNDER_WAY * self.saved.largest) + self.saved.fixed + self.head
        reading = (self.gradients if in_parts else 0) + max(kept, self.gradients + self.head)
        return held + max(reading, 2 * self.gradients)


def estimate(trial: Trial, stage: PlannedStage, source: Source, examples: int = 0, much: bool = False) -> Estimate:
    """Of a resolved trial in one of its stages, read `examples` at a time; 0 for its whole batches.

    With `much` the state is not found out but taken to be MUCH_STATE times the weights. Raises UserError where a model
    of the caller's cannot be built or tried.
    """
    model = _shell(trial, source)
    weights = sum(_size(tensor) for tensor in [*model.parameters(), *model.buffers()])
    ahead = steps_ahead(trial.device, stage.batch_size * example_bytes(source, stage.seq_len))
    return Estimate(
        weights=weights * (2 if trial.ema else 1),
        gradients=sum(_size(parameter) for parameter in model.parameters() if parameter.requires_grad),
        state=MUCH_STATE * weights if much else _state(trial, model),
        head=_head(trial, source),
        input=(ahead + 1) * INDEX * (stage.seq_len + 1) if source.shape.kind == "text" else ahead * _image(source),
        saved=saved_of(trial, stage, source, examples or stage.batch_size),
        calls=recipe(trial).gradients_per_step,
    )


def fitting(trial: Trial, source: Source, limit: float) -> int:
    """Examples of the parts that fit into `limit` bytes: 0 where whole batches do, else 1 at least.

    The largest size that does in every stage; equal parts are preferred (`parts.equal_size`).
    """
    sizes = [size for stage in trial.plan if (size := _fitting(trial, stage, source, limit))]
    return min(sizes, default=0)


def _fitting(trial: Trial, stage: PlannedStage, source: Source, limit: float) -> int:
    if estimate(trial, stage, source, much=True).peak(stage.batch_size) <= limit and trial.optimizer != "shampoo":
        return 0
    whole = estimate(trial, stage, source)
    if whole.peak(stage.batch_size) <= limit:
        return 0
    size = stage.batch_size
    while size > 1:
        size = math.ceil(size / 2)
        part = replace(whole, saved=saved_of(trial, stage, source, size))  # chunks may not serve for a smaller part
        if part.peak(stage.batch_size, size) <= limit:
            most = size
            while most < stage.batch_size - 1 and part.peak(stage.batch_size, most + 1) <= limit:
                most += 1
            return equal_size(stage.batch_size, most)
    return 1


def _shell(trial: Trial, source: Source) -> nn.Module:
    """The trial's model without its weights; of the caller's that cannot be built so, the model."""
    try:
        return shell(trial, source.shape)
    except Exception:  # of many kinds: a model that loads weights, say
        return build(trial, source.shape)[0]


def _state(trial: Trial, model: nn.Module) -> int:
    """Bytes of the optimizers' state, from a step by gradients of zeros on the model without weights."""
    claims = claims_of(model, trial)
    with asked(trial.optimizer):
        optimizers = method_of(trial, claims).optimizers
    if any(isinstance(optimizer, Shampoo) for optimizer in optimizers):
        return sum(_shampoo(claim.parameter) for claim in claims)
    try:
        for claim in claims:
            claim.parameter.grad = torch.zeros_like(claim.parameter)
        for optimizer in optimizers:
            optimizer.step()
    except Exception:  # it looks at values, which there are none of
        return UNKNOWN_STATE * sum(_size(claim.parameter) for claim in claims)
    return sum(_size(found) for optimizer in optimizers for found in _tensors(optimizer.state))


def _tensors(state: object) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in values for tensor in _tensors(value)]


def _head(trial: Trial, source: Source) -> int:
    """The gradient of a head, there while all activations are; a shared one is added to the embedding's."""
    return FULL * trial.width * source.shape.n_outputs if trial.model in OF_TEXT else 0


def _image(source: Source) -> int:
    return FULL * math.prod(source.shape.input_shape) + INDEX


def _shampoo(parameter: Tensor) -> int:
    """An average, and a matrix for each side; of a vector, squares. (Its step looks at values.)"""
    if parameter.ndim < 2:
        return 2 * _size(parameter)
    rows, columns = parameter.flatten(1).shape
    return _size(parameter) + FULL * (rows**2 + columns**2)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()

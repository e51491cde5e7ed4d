"""Bytes that autograd keeps for the backward pass: by formula for most built-in models, by measurement for others.

The formulas count what PyTorch's kernels save, tensor by tensor; tests hold them to `torch.autograd.graph`'s
saved-tensor hooks, exactly, in both precisions. Below, D is the width, P an image's positions, V the outputs; each term
is a saved tensor's entries times the bytes of one.
"""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from scionlab.problems.data import Source
from scionlab.problems.models import chunks
from scionlab.problems.models.cnn import CNNConfig
from scionlab.problems.models.gpt import MLP_RATIO
from scionlab.spec import PlannedStage, Trial
from scionlab.training.passes import Passes
from scionlab.training.prepare import build

FULL, HALF, INDEX = 4, 2, 8  # bytes of a float32, a bfloat16 and a token
# Bytes of an example that the formulas leave out: what is kept of a loss, and rounding to the next word.
UNTOLD = 8


@dataclass(frozen=True)
class Saved:
    """Bytes of one example in a pass: those `saved` for the backward pass, and the `largest` tensor of a layer.

    `fixed` are those that do not grow with the batch, such as copies of weights in half precision.
    """

    saved: int
    largest: int
    fixed: int = 0


def saved_of(trial: Trial, stage: PlannedStage, source: Source, examples: int) -> Saved:
    """What one of `examples` examples keeps; UserError where an own model cannot be tried."""
    formula = BY_MODEL.get(trial.model)
    return _measured(trial, stage, source) if formula is None else formula(trial, stage, source, examples)


def _transformer(kept: int, trial: Trial, stage: PlannedStage, source: Source, examples: int) -> Saved:
    """Of a block's inner layer, `kept` tensors: what its product gives, and what comes of that."""
    width, length, outputs = trial.width, stage.seq_len, source.shape.n_outputs
    heads = width // trial.head_dim
    # A block: two residual streams, each normalized; q and k before and after they are turned, v, attention's output
    # as it comes and as it goes on; the inner layer. Autocast keeps a cast of its own for each of q, k and v.
    wide = kept * MLP_RATIO
    half = trial.dtype == "bfloat16"
    block = width * ((4 * FULL + (9 + wide) * HALF) if half else (11 + wide) * FULL) + (3 * heads + 2) * FULL
    ends = width * (FULL + (HALF if half else FULL)) + FULL + 2 * INDEX
    in_chunks = source.is_cross_entropy and chunks.serve(examples * length, outputs)
    logits = 0 if in_chunks else outputs * FULL
    # In chunks: logits, their softmax and their slopes, and the weights' and their gradient's casts.
    head = 3 * FULL * chunks.CHUNK + (2 * HALF * outputs * width if half else 0) if in_chunks else 0
    angles = trial.depth * length * trial.head_dim * FULL
    casts = HALF * (trial.depth * (4 + 2 * MLP_RATIO) * width**2 + (0 if in_chunks else outputs * width)) if half else 0
    largest = max(MLP_RATIO * width * FULL, logits)
    return Saved(length * (trial.depth * block + ends + logits), length * largest, head + angles + casts)


def _mlp(trial: Trial, stage: PlannedStage, source: Source, examples: int) -> Saved:
    entries = math.prod(source.shape.input_shape) + 2 * trial.width * (trial.depth + 1)
    outputs = source.shape.n_outputs
    saved = entries * _bytes(trial) + outputs * FULL + INDEX
    return Saved(saved, trial.width * FULL, _casts(trial, trial.depth * trial.width**2))


def _cnn(trial: Trial, stage: PlannedStage, source: Source, examples: int) -> Saved:
    channels, high, wide = source.shape.input_shape
    sizes = CNNConfig(trial.width, trial.depth, (channels, high, wide), source.shape.n_outputs).sizes
    positions = [math.prod(size) for size in sizes]
    entry = _bytes(trial)
    blocks = sum(
        trial.width * here * (FULL + 3 * entry) + FULL + (trial.width * before * entry if here != before else 0)
        for before, here in pairwise(positions)
    )
    last = trial.width * positions[-1] * entry + trial.width * (FULL + 2 * entry if entry == HALF else 2 * FULL) + FULL
    saved = channels * positions[0] * entry + blocks + last + source.shape.n_outputs * FULL + INDEX
    return Saved(saved, trial.width * positions[0] * FULL, _casts(trial, 18 * trial.depth * trial.width**2))


def _quadratic(trial: Trial, stage: PlannedStage, source: Source, examples: int) -> Saved:
    """One matrix whatever the batch, and a draw for every sample, one at a time."""
    return Saved(3 * INDEX, 0, 6 * FULL * trial.width**2)


BY_MODEL: dict[str, Callable[[Trial, PlannedStage, Source, int], Saved]] = {
    "gpt": partial(_transformer, 2),  # the up-projection, and GELU of it
    "nanogpt": partial(_transformer, 3),  # ReLU, √2 times it, and its square
    "mlp": _mlp,
    "cnn": _cnn,
    "quadratic": _quadratic,
}


def _bytes(trial: Trial) -> int:
    return HALF if trial.dtype == "bfloat16" else FULL


def _casts(trial: Trial, weights: int) -> int:
    return HALF * weights if trial.dtype == "bfloat16" else 0


_MEASURED: dict[Hashable, Saved] = {}


def _measured(trial: Trial, stage: PlannedStage, source: Source) -> Saved:
    """Of a model without a formula, from passes of two and three copies of a training example, on the trial's device.

    Once in a process for all trials of a shape.
    """
    shape = trial.model, trial.width, trial.depth, trial.head_dim, stage.batch_size, stage.seq_len
    key = *shape, trial.device, trial.dtype, trial.data
    if key not in _MEASURED:
        _MEASURED[key] = _measure(trial, stage, source)
    return _MEASURED[key]


def _measure(trial: Trial, stage: PlannedStage, source: Source) -> Saved:
    size = stage.batch_size if trial.has_own_model else 1  # an image may take long to read
    example = source.training(size, stage.seq_len, trial.seed).next_batch()[:1]
    passes = Passes(build(trial, source.shape)[0].to(trial.device), source, trial)
    with passes.draws(0):
        (two, largest), (three, _) = (count(passes, example.repeat(n, *[1] * (example.ndim - 1))) for n in (2, 3))
    each = three - two
    return Saved(each, largest // 2, max(0, two - 2 * each))


def count(passes: Passes, batch: Tensor) -> tuple[int, int]:
    """Bytes of what a pass over the batch saves beyond weights, buffers and batch; and of the largest such tensor."""
    own: list[Tensor] = [*passes.model.parameters(), *passes.model.buffers()]
    known = {_storage(tensor) for tensor in own}
    kept: dict[int, Tensor] = {}  # the tensors themselves, so that no address comes twice

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in known:
            kept.setdefault(_storage(tensor), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        passes.loss(passes.to_device(batch))
    sizes = [tensor.untyped_storage().nbytes() for tensor in kept.values()]
    return sum(sizes), max(sizes, default=0)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()

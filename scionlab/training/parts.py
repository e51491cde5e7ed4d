"""Batches larger than memory, read in parts one after the other: how they are cut, and what each part counts.

    loss = Σ share · loss of the part        share: its part of what the mean of the loss is over

This is the same up to rounding, and so no part of a trial's identity. Where it would not be the same (a model that
normalizes over the batch, or draws), a batch stays whole, and `note` says why.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scionlab.optim.method import Batch
from scionlab.problems.data import Source
from scionlab.problems.data.base import IGNORED
from scionlab.problems.models import OVER_BATCHES

if TYPE_CHECKING:
    from scionlab.training.passes import Passes

T = TypeVar("T")


def cut(source: Source, batch: Tensor, most: int) -> list[tuple[float, Tensor]]:
    """Parts of at most `most` examples, each with its share of the batch's mean; those without any are left out.

    A mean over targets that count (cross-entropy leaves out −100) gives a part the share of these that it has; every
    other loss is a mean over examples.
    """
    parts = batch.split(most)
    counts = [len(part) for part in parts]
    if source.is_cross_entropy:
        targets = source.unpack(batch)[1]
        if not targets.is_floating_point():
            counts = [int((one != IGNORED).sum()) for one in targets.split(most)]
    total = sum(counts)
    if not total:  # the loss of a part is as undefined as that of the batch
        return [(1.0, parts[0])]
    return [(count / total, part) for count, part in zip(counts, parts, strict=True) if count]


def equal_size(batch_size: int, most: int) -> int:
    """Examples of a part, at most `most`: a divisor of the batch where one is above half of that, else nearly equal."""
    divisors = [size for size in range(most, most // 2, -1) if batch_size % size == 0]
    return divisors[0] if divisors else math.ceil(batch_size / math.ceil(batch_size / most))


class Parts:
    """The size of the parts of one run, 0 for whole batches; it is halved where CUDA runs out of memory.

    `used` is the size of the parts that a batch was last read in, 0 as long as each was read whole.
    """

    def __init__(self, passes: "Passes", size: int = 0) -> None:
        self.passes, self.size, self.first, self.used = passes, size, size, 0
        self.kept_whole: str | None = None
        self._gathers = passes.trial.has_own_model or passes.trial.model in OVER_BATCHES  # others change no buffer
        self._asked = not self._gathers  # whether it is known that batches may be cut

    def columns(self) -> dict[str, Any]:
        """What the runs table says of it."""
        return {"micro_batch": self.used, "micro_batch_note": self.note}

    @property
    def note(self) -> str | None:
        """Why the size is not what was asked for, if it is not."""
        if self.kept_whole is not None:
            return self.kept_whole
        if self.size == self.first:
            return None
        before = f"{self.first}" if self.first else "whole batches"
        return f"CUDA ran out of memory: halved from {before} to {self.size}"

    def of(self, batch: Batch) -> list[tuple[float, Batch]]:
        """The batch as it is to be read: shares and parts."""
        if not 0 < self.size < len(batch) or not self._may_cut(batch):
            return [(1.0, batch)]
        self.used = self.size
        if batch.weights is not None:  # then the loss is a mean over examples
            return [(len(part) / len(batch), part) for part in batch.split(self.size)]
        return [(share, Batch(part)) for share, part in cut(self.passes.source, batch.examples, self.size)]

    def reading(self, batch: Batch, read: Callable[[list[tuple[float, Batch]]], T]) -> T:
        """What `read` makes of the batch's parts. Out of CUDA's memory it is asked again, with parts of half the size.

        What modules gathered of a reading that failed is undone. With parts of one example the error is raised.
        """
        while True:
            parts = self.of(batch)
            model = self.passes.model
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()} if self._gathers else None
            try:
                return read(parts)
            except torch.OutOfMemoryError as error:
                if not self._halve(batch):
                    error.add_note(f"the batch of {len(batch)} was read in parts of {self.size or len(batch)}")
                    raise
            # beyond the handler: the error holds on to the tensors of the frames that failed
            if buffers is not None:
                put_back(model, buffers)
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()

    def state_dict(self) -> dict[str, int]:
        """What was halved so far, for a checkpoint."""
        return {"first": self.first, "size": self.size, "used": self.used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with parts no larger than what was come to there; the call may ask for smaller ones."""
        self.used = state["used"]
        if state["size"] != state["first"] and not 0 < self.size < state["size"]:
            self.first, self.size = state["first"], state["size"]

    def _halve(self, batch: Batch) -> bool:
        size = self.size if 0 < self.size < len(batch) else len(batch)
        if size == 1 or not self._may_cut(batch):
            return False
        self.size = math.ceil(size / 2)
        return True

    def _may_cut(self, batch: Batch) -> bool:
        """Whether parts give what the batch gives; a model of the caller's is asked once, by a pass of one example."""
        if not self._asked:
            self._asked = True
            self.kept_whole = why_whole(self.passes, batch.examples[:1])
        return self.kept_whole is None


def why_whole(passes: "Passes", example: Tensor) -> str | None:
    """Why parts would not give what a batch gives, if they would not."""
    if any(isinstance(module, _BatchNorm) and module.training for module in passes.model.modules()):
        return "batches stay whole: the model normalizes over them"
    buffers = {name: buffer.clone() for name, buffer in passes.model.named_buffers()}
    with torch.no_grad(), passes.draws(0):
        before = _random_states(passes)
        passes.loss(example)
        after = _random_states(passes)
    if put_back(passes.model, buffers):
        return "batches stay whole: the model gathers statistics of them"
    if not all(map(torch.equal, before, after)):
        return "batches stay whole: the model draws, as dropout does, and would draw otherwise for parts"
    return None


@torch.no_grad()
def put_back(model: nn.Module, buffers: Mapping[str, Tensor]) -> bool:
    """Buffers are what they were; whether any was not."""
    changed = [name for name, buffer in model.named_buffers() if not torch.equal(buffer, buffers[name])]
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return bool(changed)


def _random_states(passes: "Passes") -> list[Tensor]:
    on_gpu = [torch.cuda.get_rng_state()] if passes.device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]

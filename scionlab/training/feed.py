"""Training batches where the model is, prepared ahead of the steps that use them."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scionlab.optim.method import Batch
from scionlab.problems.data import Batches, Source
from scionlab.training.passes import Passes

# Steps whose batches are drawn and copied together. On a GPU one copy of sixteen batches costs little more than one of
# one, and the GPU is busy meanwhile; on a CPU there is nothing to copy.
AHEAD = {"cuda": 16, "cpu": 1}
# Fewer where they would take more bytes than this.
AHEAD_BYTES = 2**31

Places = list[dict[str, Any]]


def example_bytes(source: Source, seq_len: int) -> int:
    """Bytes of an example in a batch: about so many of a window of tokens, of an image and its label."""
    return 4 * math.prod(source.shape.input_shape) + 8 * (seq_len + 1)


def steps_ahead(device: str, batch: int) -> int:
    """Steps whose batches, of so many bytes, are prepared together."""
    return max(1, min(AHEAD[device], AHEAD_BYTES // batch))


class Feed:
    """Batches of a stage of `steps` steps, from one stream or from several in parallel.

    `next` gives examples (streams, B, …), and `epochs` is how often the data have been seen with it. No stream is drawn
    from beyond the stage, and one that listens not ahead. `places` are the streams' states after the batches that were
    taken, not those drawn ahead.
    """

    def __init__(self, streams: Sequence[Batches], passes: Passes, steps: int) -> None:
        self.streams, self.passes, self.left = streams, passes, steps
        self.epochs = streams[0].epochs
        self._ready: deque[tuple[Tensor, Tensor | None, float, Places]] = deque()
        self._taken: Places = []
        batch = len(streams) * streams[0].batch_size * example_bytes(passes.source, streams[0].seq_len)
        self.ahead = 1 if streams[0].listens else steps_ahead(passes.device.type, batch)

    def next(self) -> Tensor:
        """The examples of the next step, of every stream."""
        return self._next()[0]

    def next_batch(self) -> Batch:
        """The batch of the next step, of a single stream, with its weights."""
        examples, weights = self._next()
        return Batch(examples[0], weights)

    def _next(self) -> tuple[Tensor, Tensor | None]:
        if not self._ready:
            self._fill(max(1, min(self.left, self.ahead)))
        examples, weights, self.epochs, self._taken = self._ready.popleft()
        return examples, weights

    @property
    def places(self) -> Places:
        """Of every stream, what `load_state_dict` takes to go on with the batch after the last one taken."""
        return self._taken if self._ready else _places(self.streams)

    def _fill(self, count: int) -> None:
        self._taken = _places(self.streams)
        drawn, weights, epochs, places = [], [], [], []
        for _ in range(count):
            drawn.append(torch.stack([stream.next_batch() for stream in self.streams]))
            own = self.streams[0].weights
            weights.append(None if own is None else self.passes.to_device(own))
            epochs.append(self.streams[0].epochs)
            places.append(_places(self.streams) if count > 1 else [])
        self.left -= count
        self._ready.extend(zip(self.passes.to_device(torch.stack(drawn)), weights, epochs, places, strict=True))


def _places(streams: Sequence[Batches]) -> Places:
    return [stream.state_dict() for stream in streams]

"""Training batches where the model is, prepared ahead of the steps that use them."""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from scionlab.data import Batches
from scionlab.training.passes import Passes

# Steps whose batches are drawn and copied together. On a GPU one copy of sixteen batches costs little more than one of
# one, and the GPU is busy meanwhile; on a CPU there is nothing to copy.
AHEAD = {"cuda": 16, "cpu": 1}


class Feed:
    """Batches of a stage of `steps` steps, from one stream or from several in parallel.

    `next` gives (streams, B, …), and `epochs` is how often the data have been seen with it. No stream is drawn from
    beyond the stage, so that their places can be saved between stages.
    """

    def __init__(self, streams: Sequence[Batches], passes: Passes, steps: int) -> None:
        self.streams, self.passes, self.left = streams, passes, steps
        self.epochs = streams[0].epochs
        self._ready: deque[tuple[Tensor, float]] = deque()

    def next(self) -> Tensor:
        """The batches of the next step."""
        if not self._ready:
            self._fill(max(1, min(self.left, AHEAD[self.passes.device.type])))
        batch, self.epochs = self._ready.popleft()
        return batch

    def _fill(self, count: int) -> None:
        drawn, epochs = [], []
        for _ in range(count):
            drawn.append(torch.stack([stream.next_batch() for stream in self.streams]))
            epochs.append(self.streams[0].epochs)
        self.left -= count
        self._ready.extend(zip(self.passes.to_device(torch.stack(drawn)), epochs, strict=True))

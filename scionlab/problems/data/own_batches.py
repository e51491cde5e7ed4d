"""Training batches that a function of the caller's gives, epoch by epoch."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from scionlab.errors import UserError
from scionlab.own.randomness import Stream, Use
from scionlab.problems.data.base import Batches
from scionlab.problems.data.packed import Packing

# How many different examples there are is not known.
ENDLESS = 2**62
# Of ("train", batch_size, seq_len, seed): an iterable of pairs.
Open = Callable[[str, int, int, int], Any]


class OwnBatches(Batches):
    """Batches of what `open` gives. One that is too small is left out, unless it is the first of its epoch.

    The seed that the function gets follows from the trial's seed, the stage and the epoch. Another `batch_size` begins
    another epoch.
    """

    n_windows = ENDLESS

    def __init__(self, open: Open, packing: Packing, batch_size: int, seq_len: int, seed: int, stage: int = 0) -> None:
        self.open, self.packing, self.seq_len, self.seed, self.stage = open, packing, seq_len, seed, stage
        self._size, self.epoch, self._position = batch_size, -1, 0  # items taken of the epoch
        self._items: Iterator[Any] | None = None
        self._length: int | None = None  # items of an epoch, where known

    @property
    def batch_size(self) -> int:
        """B, examples of a batch."""
        return self._size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        if size != self._size:
            self._size, self._items, self._length = size, None, None

    def next_batch(self) -> Tensor:
        """The next batch, as bytes."""
        while True:
            rows = self.packing.pack(self._next_item(), self.seq_len)
            if len(rows) == self.batch_size:
                return rows
            if self._position == 1 or len(rows) > self.batch_size:
                raise UserError(
                    f"data: {self.packing.name!r} gave a batch of {len(rows)} examples for batch_size "
                    f"{self.batch_size}; its first axis must be that long"
                )

    def _next_item(self) -> Any:
        """The next item of the epoch, or the first of a new one."""
        if self._items is not None:
            with self._stream.entered():
                item = next(self._items, None)
            if item is not None:
                self._position += 1
                return item
            self._length = self._position
        self._open(self.epoch + 1)
        assert self._items is not None
        with self._stream.entered():
            item = next(self._items, None)
        if item is None:
            raise UserError(
                f"data: {self.packing.name!r} gave no training batch of batch_size {self.batch_size} and seq_len "
                f"{self.seq_len}; it must give at least one"
            )
        self._position = 1
        return item

    def _open(self, epoch: int) -> None:
        key = self.seed, self.stage, epoch
        self.epoch, self._position, self._stream = epoch, 0, Stream(Use.TRAINING_DATA, *key)
        seed = int(np.random.SeedSequence((Use.TRAINING_SEED, *key, self._size)).generate_state(1)[0])
        with self._stream.entered():
            items = self.open("train", self._size, self.seq_len, seed)
            self._items = iter(items)
        if hasattr(items, "__len__"):
            self._length = len(items)

    @property
    def epochs(self) -> float:
        """Epochs begun before this one, and how much of it was seen: nothing where its length is not known."""
        return max(0, self.epoch) + (min(1.0, self._position / self._length) if self._length else 0.0)

    def state_dict(self) -> dict[str, int]:
        """The place in the order; to go on from there, what was drawn of the epoch is drawn again."""
        opened = int(self._items is not None)
        place = {"stage": self.stage, "epoch": self.epoch, "position": self._position, "batch_size": self._size}
        return place | {"opened": opened}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a place in the order."""
        self.stage, self._size = state["stage"], state["batch_size"]
        self.epoch, self._items = state["epoch"], None
        if state["opened"]:
            self._open(self.epoch)
            for _ in range(state["position"]):
                self._next_item()

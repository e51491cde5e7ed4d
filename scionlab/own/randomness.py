"""Random states of the caller's code, kept apart from everybody else's, so that it draws the same in every process.

Python's, NumPy's and PyTorch's global generators are seeded when a stream is entered for the first time, go on from
where they were when it is entered again, and are put back to what they were outside when it is left.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import numpy as np
import torch

# Part of the identity of trials with code of the caller's: raise it when what such code draws changes.
STREAMS_VERSION = 1


class Use(IntEnum):
    """What a stream is for: the first word of its key, so that no two uses draw the same numbers.

    NumPy drops zeros at the end of a key: without a word of its own, seed 5 of one use is seed 5, step 0 of another.
    """

    MODEL = 2**31  # beyond all seeds of trials
    COUNTS = MODEL + 1
    VALIDATION_DATA = MODEL + 2
    TRAINING_DATA = MODEL + 3
    TRAINING_SEED = MODEL + 4
    TRAINING_STEP = MODEL + 5
    EVALUATION = MODEL + 6
    DROP_PATH = MODEL + 7


class Stream:
    """The draws that follow from a use and a key, on the CPU and on `device`; keys of one use are of one length."""

    def __init__(self, use: Use, *key: int, device: str = "cpu") -> None:
        self.seeds = [int(seed) for seed in np.random.SeedSequence((use, *key)).generate_state(3)]
        self.on_gpu = device == "cuda"
        self.states: tuple[Any, ...] | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What is drawn in this block comes from the stream."""
        outside = self._states()
        if self.states is None:
            self._seed()
        else:
            self._restore(self.states)
        try:
            yield
        finally:
            self.states = self._states()
            self._restore(outside)

    def _seed(self) -> None:
        of_python, of_numpy, of_torch = self.seeds
        random.seed(of_python)
        np.random.seed(of_numpy)  # the legacy generator is the one that code without a generator of its own uses
        torch.default_generator.manual_seed(of_torch)
        if self.on_gpu:
            torch.cuda.manual_seed(of_torch)

    def _states(self) -> tuple[Any, ...]:
        gpu = torch.cuda.get_rng_state() if self.on_gpu else None
        return random.getstate(), np.random.get_state(), torch.get_rng_state(), gpu

    def _restore(self, states: tuple[Any, ...]) -> None:
        of_python, of_numpy, of_torch, of_gpu = states
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if of_gpu is not None:
            torch.cuda.set_rng_state(of_gpu)

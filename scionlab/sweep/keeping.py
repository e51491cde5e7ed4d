"""Trials that survive hours: a run is saved every so often, and when it is asked to stop, and goes on from there.

A trial that takes less than the interval pays nothing: nothing is written before it is over. What is written is all
that decides how the run goes on (`Run.state_dict`), so on a CPU its numbers are those of a run that was never
interrupted, bit for bit, on whatever machine it goes on.
"""

import io
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from scionlab.errors import UserError
from scionlab.runs.store import Checkpoints
from scionlab.training import Outcome, Run

# Fewer seconds of work are not saved when a trial is asked to stop.
WORTH_S = 5.0
# Steps are taken together for about so long; between, there is time to be saved or stopped.
LOOK_UP_S = 1.0

# What PyTorch raises for files that are torn or of another kind, and a run for a state of another shape.
UNREADABLE = (RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError)


class StoppedError(Exception):
    """The trial was asked to stop, and what it has come to is saved."""


class Keeper:
    """Trains a run with checkpoints, one in `interval_s` seconds; asks `stopping` once a second whether to stop."""

    def __init__(
        self, checkpoints: Checkpoints, trial_id: str, interval_s: float, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self.checkpoints, self.trial_id, self.interval_s, self.stopping = checkpoints, trial_id, interval_s, stopping
        self.warned = False

    def train(self, make: Callable[[], Run]) -> Outcome:
        """Take the run that `make` makes to its end, from its checkpoint if there is one.

        StoppedError where `stopping` says so, and KeyboardInterrupt after Ctrl-C or SIGTERM: both after a last
        checkpoint, so that no step is lost.
        """
        run = self._resumed(make())
        run = make() if run is None else run
        saved_at, count = time.monotonic(), 1
        while not run.finished:
            began = time.monotonic()
            with held_signals() as held:
                run.run_steps(count)
                now = time.monotonic()
                if held or self.stopping():
                    if now - saved_at >= WORTH_S:
                        self._save(run)
                    raise KeyboardInterrupt if held else StoppedError
                if now - saved_at >= self.interval_s and not run.finished:
                    self._save(run)
                    saved_at = time.monotonic()
            count = max(1, min(2 * count, round(count * LOOK_UP_S / max(now - began, 1e-9))))
        return run.outcome()

    def _resumed(self, run: Run) -> Run | None:
        """The run where it was left; None where that cannot be: then the trial begins again, with a warning."""
        content = self.checkpoints.load(self.trial_id)
        if content is None:
            return run
        try:
            run.load_state_dict(torch.load(io.BytesIO(content), map_location=run.device, weights_only=True))
        except (UserError, *UNREADABLE) as error:
            why = (str(error) or type(error).__name__).splitlines()[0]
            self._warn(f"cannot be gone on from, and the trial begins again: {why}")
            return None
        return run

    def _save(self, run: Run) -> None:
        """A checkpoint that cannot be written is a warning, once: the trial goes on without it."""
        try:
            self.checkpoints.save(self.trial_id, as_bytes(run.state_dict()))
        except UserError as error:
            if not self.warned:
                self._warn(f"is not kept, and the trial goes on: {error}")
            self.warned = True

    def _warn(self, what: str) -> None:
        print(f"warning: checkpoint {self.checkpoints.where(self.trial_id)!r} {what}", file=sys.stderr, flush=True)


def as_bytes(state: dict[str, Any]) -> bytes:
    """A run's state as it is written."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@contextmanager
def held_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM wait for the end of the block, and are in its list; a second one does not wait.

    Only signals that would raise KeyboardInterrupt are held, and only in the main thread, where they arrive.
    """
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            raise KeyboardInterrupt
        held.append(number)

    names = [name for name in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(name) is signal.default_int_handler]
    try:
        for name in names:
            signal.signal(name, hold)
    except ValueError:  # not the main thread
        names = []
    try:
        yield held
    finally:
        for name in names:
            signal.signal(name, signal.default_int_handler)

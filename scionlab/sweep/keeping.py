"""Trials that survive hours: a run is saved every so often, and when it is asked to stop, and goes on from there.

A trial that takes less than the interval pays nothing: nothing is written before it is over. What is written is all
that decides how the run goes on (`Run.state_dict`), so on a CPU its numbers are those of a run that was never
interrupted, bit for bit, on whatever machine it goes on.
"""

import io
import math
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

import torch

from scionlab.errors import UserError
from scionlab.runs.store import Checkpoints
from scionlab.training import Outcome, Run

# Fewer seconds of work are not saved when a trial is asked to stop.
WORTH_S = 1.0
# Steps are taken together for about so long; between, there is time to be saved or stopped.
LOOK_UP_S = 1.0

# What PyTorch raises for files that are torn or of another kind, and a run for a state of another shape.
UNREADABLE = (RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError)


class StoppedError(Exception):
    """The trial was asked to stop, and what it has come to is saved."""


class Steps(Protocol):
    """What can be kept on its way: a `Run`, or the `Stem` of several."""

    @property
    def finished(self) -> bool:
        """Whether no step is left."""

    def run_steps(self, count: int) -> None:
        """Take at most `count` steps."""

    def state_dict(self) -> dict[str, Any]:
        """All that decides how it goes on."""


def say(warning: str) -> None:
    """On stderr, as a line."""
    print(warning, file=sys.stderr, flush=True)


class Keeper:
    """Trains a run with checkpoints, one in `interval_s` seconds; asks `stopping` once a second whether to stop.

    What cannot be kept, or cannot be gone on from, is a line for `warn`.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        trial_id: str,
        interval_s: float,
        stopping: Callable[[], bool] = lambda: False,
        warn: Callable[[str], None] = say,
    ) -> None:
        self.checkpoints, self.trial_id, self.interval_s = checkpoints, trial_id, interval_s
        self.stopping, self.warn = stopping, warn
        self.saved_at, self.warned = time.monotonic(), False
        self.kept = False  # whether there is a checkpoint of this keeper's

    def train(self, make: Callable[[], Run]) -> Outcome:
        """Take the run that `make` makes to its end, from its checkpoint if there is one.

        StoppedError where `stopping` says so, and KeyboardInterrupt after Ctrl-C or SIGTERM: both after a last
        checkpoint, so that no step is lost. A signal also waits for the last validation.
        """
        run = self._resumed(make())
        return self.finish(make() if run is None else run)

    def finish(self, run: Run) -> Outcome:
        """Take a run from where it is to its end, likewise."""
        for _ in self.parts(run):
            pass
        with held_signals() as held:
            outcome = run.outcome()
            self._look_up(run, held)
        return outcome

    def parts(self, run: Steps) -> Iterator[None]:
        """Take a run to its end in parts of about LOOK_UP_S seconds, after each of which it may be saved or stopped."""
        self.saved_at, count = time.monotonic(), 1
        while not run.finished:
            began = time.monotonic()
            with held_signals() as held:
                run.run_steps(count)
                seconds = time.monotonic() - began
                self._look_up(run, held)
            count = max(1, min(2 * count, round(count * LOOK_UP_S / max(seconds, 1e-9))))
            yield

    def keep(self, run: Steps) -> None:
        """Save what was done since the last time, if it is worth it: the run is to stop."""
        if time.monotonic() - self.saved_at >= WORTH_S:
            self._save(run)

    def _look_up(self, run: Steps, held: Sequence[int]) -> None:
        """Save the run if it is time to, or if it is asked to stop; then raise what ends it."""
        asked = bool(held) or (not run.finished and self.stopping())
        due_s = WORTH_S if asked else math.inf if run.finished else self.interval_s
        if time.monotonic() - self.saved_at >= due_s:
            self._save(run)
            self.saved_at = time.monotonic()
        if asked:
            raise KeyboardInterrupt if held else StoppedError

    def _resumed(self, run: Run) -> Run | None:
        """The run where it was left; None where that cannot be: then the trial begins again, with a warning."""
        content = self.checkpoints.load(self.trial_id)
        if content is None:
            return run
        try:
            run.load_state_dict(torch.load(io.BytesIO(content), map_location=run.device, weights_only=True))
        except (UserError, *UNREADABLE) as error:
            self.cannot_go_on(error)
            return None
        return run

    def cannot_go_on(self, error: Exception) -> None:
        """Warn that the trial begins again, and why."""
        why = (str(error) or type(error).__name__).splitlines()[0]
        self._warn(f"cannot be gone on from, and the trial begins again: {why}")

    def _save(self, run: Steps) -> None:
        """A checkpoint that cannot be written is a warning, once: the trial goes on without it."""
        try:
            self.checkpoints.save(self.trial_id, as_bytes(run.state_dict()))
            self.kept = True
        except UserError as error:
            if not self.warned:
                self._warn(f"is not kept, and the trial goes on: {error}")
            self.warned = True

    def _warn(self, what: str) -> None:
        self.warn(f"warning: checkpoint {self.checkpoints.where(self.trial_id)!r} {what}")


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

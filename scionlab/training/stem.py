"""Trials that differ in budget and schedule alone, trained as one run while their rates are the same, step for step.

    stem      ───────────┬───────────┬──────┐        one run, whose steps all these trials would take
    trials               └─ decay    └─ …   └─ …     each leaves it where its own rates begin to differ

A trial that leaves is a `Run` of its own, in the state that it would have alone: what it logs follows from its own
length, so each of them keeps a log of the stem's steps by its own rule, and ends by its own rule of divergence. On a
CPU its summary, but for times, and its curve are those of `train`, bit for bit.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from scionlab.errors import UserError
from scionlab.optim.schedule import FIELDS, schedule
from scionlab.problems.data import Source
from scionlab.roles.roles import Claim
from scionlab.spec import Trial
from scionlab.spec.identity import fields_hash
from scionlab.training.clipping import Clipping
from scionlab.training.graphs import load_compiler
from scionlab.training.log import Log, OnRow, Outcome, Row
from scionlab.training.prepare import identity
from scionlab.training.run import Run

# Fields in which the trials of a stem may differ: what else follows from them is compared step by step.
FREE = {"tokens", *FIELDS, "divergence_factor", "divergence_scale"}


def stem_key(trial: Trial) -> str | None:
    """A hash of what resolved trials agree in that take the same steps while their rates are the same; None for others.

    Trials with stages restart by shares of their own budget, probes and watches measure at such shares, and a pull to
    the start may fade by them: they are trained alone.
    """
    fades = "anchor_fade_start" in trial.options
    if trial.stages or trial.is_measured or fades:
        return None
    fields = trial.model_dump(exclude=FREE)
    return fields_hash(fields)


def shared_steps(one: Trial, other: Trial) -> int:
    """How many steps from the start two resolved trials of one `stem_key` have the same rates, bit for bit.

    The factors of their schedules are compared at every step, so that warm-ups that are the same share of different
    budgets are told apart from those of the same length.
    """
    return _shared(*sorted((_shape(one), _shape(other))))


def _shape(trial: Trial) -> tuple[Any, ...]:
    return trial.steps, trial.schedule, trial.decay_fraction, trial.warmup or 0.0, trial.decay, trial.min_lr_ratio


@lru_cache(maxsize=4096)
def _shared(one: tuple[Any, ...], other: tuple[Any, ...]) -> int:
    steps = min(one[0], other[0])
    if one == other:
        return int(steps)
    first, second = (schedule(name, k, decay_fraction, *more) for k, name, decay_fraction, *more in (one, other))
    return next((k for k in range(steps) if first(k) != second(k)), int(steps))


@dataclass(frozen=True)
class Parting:
    """Where trials of one `stem_key` part: after `points[n]` steps trial n leaves the stem.

    `trunk` is the number of the trial whose rates the stem has, and which stays to its end. `trained` is the number of
    steps that are taken for all, the stem's once, and `alone` what it would be without a stem.
    """

    trunk: int
    points: tuple[int, ...]
    trained: int
    alone: int


def part(trials: Sequence[Trial]) -> Parting:
    """Where the trials part; the stem is that of the trial that shares most with all others, of such the longest."""
    shared = [[0 if m is n else shared_steps(m, n) for n in trials] for m in trials]
    trunk = max(range(len(trials)), key=lambda n: (sum(shared[n]), trials[n].steps))
    points = shared[trunk]
    points[trunk] = max(points)
    alone = sum(trial.steps for trial in trials)
    return Parting(trunk, tuple(points), alone - sum(points) + max(points), alone)


class Stem:
    """The run that resolved trials of one `stem_key` begin with.

        stem = Stem(trials, corpus)
        while not stem.finished:
            stem.run_steps(100)                # at most; it stops where a trial is to leave
            for n in stem.leaving():
                run = stem.branch(n)           # a Run of trial n, to be taken to its end
                …
                stem.leave(n)

    Memory is that of two trials, and of four while one branches. Between steps it can be saved; a saved stem is also
    the checkpoint of one of its trials. Raises UserError for trials of several keys, and a text too short.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        corpus: Source,
        compiled: bool = False,
        on_rows: Sequence[OnRow | None] | None = None,
        micro_batch: int = 0,
    ) -> None:
        keys = {stem_key(trial) for trial in trials}
        if len(keys) != 1 or None in keys:
            raise UserError("stem: these trials cannot be trained together")
        self.trials, self.corpus, self.compiled, self.micro_batch = list(trials), corpus, compiled, micro_batch
        self.listeners = list(on_rows or [None] * len(trials))
        self.ids = [identity(trial, corpus) for trial in trials]
        self.parting = part(trials)
        load_compiler()  # as copies of an optimizer's state do
        self.trunk = Run(trials[self.parting.trunk], corpus, compiled, micro_batch=micro_batch)
        self.trunk.log = _Silent(self)
        self.followers = {
            n: _Follower(trial, self.trunk.claims, listener)
            for n, (trial, listener) in enumerate(zip(trials, self.listeners, strict=True))
        }
        self._counted = self._counted_compiling = 0.0

    @property
    def finished(self) -> bool:
        """True after the last trial has left."""
        return not self.followers

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.trunk.step

    @property
    def last(self) -> int:
        """The trial that will stay longest, whose checkpoint a saved stem is."""
        return max(self.followers, key=lambda n: (n == self.parting.trunk, self.parting.points[n]))

    def run_steps(self, count: int) -> None:
        """Take at most `count` steps; fewer where a trial is to leave."""
        began = self.step
        with self.trunk.clock.running(self.trunk.trial):
            while self.step < began + count and not self.leaving():
                self._advance()
        self._share(self.step - began)

    def leaving(self) -> list[int]:
        """Trials that are to leave here: their rates differ from now on, or they have diverged, or one is left."""
        if len(self.followers) == 1:
            return list(self.followers)
        points = self.parting.points
        return [n for n, follower in self.followers.items() if follower.diverged or points[n] <= self.step]

    def branch(self, n: int) -> Run:
        """A run of trial n that goes on from here, alone."""
        run = Run(self.trials[n], self.corpus, self.compiled, self.listeners[n], self.micro_batch)
        built, follower = run.clock.seconds, self.followers[n]
        run.load_state_dict(self.trunk.state_dict() | self._state_of(n))
        run.clock.seconds += built
        run.oracle.compiler.seconds += follower.compiling
        return run

    def leave(self, n: int) -> None:
        """Trial n is followed no more."""
        del self.followers[n]

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that decides how the stem goes on. It is also the state of a run of the trial `last`."""
        followed = {self.ids[n]: self._state_of(n) for n in self.followers}
        return self.trunk.state_dict() | self._state_of(self.last) | {"stem": followed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there. UserError for the state of another version, or of a stem without one of these trials."""
        followed = state.get("stem", {})
        if missing := [n for n in self.followers if self.ids[n] not in followed]:
            raise UserError(f"checkpoint: trial {self.ids[missing[0]]} is not in it")
        self.trunk.load_state_dict({**state, "trial_id": self.ids[self.parting.trunk]})
        self.trunk.pending = []
        if self.trunk.clipping is not None:
            self.trunk.clipping.pending = []
        self._counted = self.trunk.clock.seconds
        for n, follower in self.followers.items():
            follower.load_state_dict(followed[self.ids[n]], self.trunk.device)

    def _advance(self) -> None:
        """One step of the stem, and what every trial makes of it."""
        trunk = self.trunk
        trunk.advance()
        loss, norm = trunk.pending.pop(), None
        if trunk.clipping is not None:
            norm = trunk.clipping.pending.pop()
        place = trunk._place()
        for follower in self.followers.values():
            follower.stepped(place, loss, norm)

    def _share(self, steps: int) -> None:
        """Give each trial that is followed an equal share of the seconds since the last call, and of the tokens."""
        seconds, compiling = self.trunk.clock.seconds, self.trunk.oracle.compiler.seconds
        count, tokens = len(self.followers), steps * self.trunk.unit
        for follower in self.followers.values():
            follower.seconds += (seconds - self._counted) / count
            follower.compiling += (compiling - self._counted_compiling) / count
            follower.lent += tokens * (1 - 1 / count)
        self._counted, self._counted_compiling = seconds, compiling

    def _state_of(self, n: int) -> dict[str, Any]:
        """What the state of trial n has that the stem's run has not."""
        own = copy.deepcopy(self.followers[n].state_dict())
        return own | {"trial_id": self.ids[n], "stem_steps": self.step}


def train_stem(trials: Sequence[Trial], corpus: Source, compiled: bool = False) -> list[Outcome]:
    """Train resolved trials of one `stem_key`, their common steps once. The outcomes are in their order."""
    stem, outcomes = Stem(trials, corpus, compiled), dict[int, Outcome]()
    while not stem.finished:
        stem.run_steps(max(stem.parting.points))
        for n in stem.leaving():
            run = stem.branch(n)
            while not run.finished:
                run.run_stage()
            outcomes[n] = run.outcome()
            stem.leave(n)
    return [outcomes[n] for n in range(len(trials))]


class _Silent(Log):
    """The log of a stem's own run, which is nobody's: never due. Validations are passed on to who follows."""

    def __init__(self, stem: Stem) -> None:
        super().__init__(stem.trunk.trial)
        self.stem = stem

    def due(self, step: int) -> bool:
        return False

    def tell(self, row: Row) -> None:
        for follower in self.stem.followers.values():
            follower.log.tell(row)


class _Follower:
    """What one trial makes of the stem's steps: its log, and its share of what they took.

    `lent` are those tokens of the stem's steps that are counted for others.
    """

    def __init__(self, trial: Trial, claims: list[Claim], on_row: OnRow | None) -> None:
        self.log, self.pending = Log(trial, on_row), list[Tensor]()
        self.clipping = Clipping(trial, claims) if trial.clip_norm else None
        self.diverged, self.step = False, 0
        self.seconds = self.compiling = self.lent = 0.0

    def stepped(self, place: Row, loss: Tensor, norm: Tensor | None) -> None:
        """A step was taken with this loss and this norm of the gradients."""
        self.pending.append(loss)
        if self.clipping is not None and norm is not None:
            self.clipping.pending.append(norm)
        if self.log.due(place["step"]):
            losses, self.pending = torch.stack(self.pending).tolist(), []
            norms = {} if self.clipping is None else {"grad_norm": self.clipping.logged()}
            self.diverged = not self.log.append({**place, **norms}, losses)

    def state_dict(self) -> dict[str, Any]:
        """What a run of this trial has of its own, as in `Run.state_dict`."""
        return {
            "pending": self.pending,
            "clipping": None if self.clipping is None else self.clipping.state_dict(),
            "initial_loss": self.log.initial_loss,
            "curve": self.log.curve,
            "diverged": self.diverged,
            "seconds": self.seconds,
            "lent": self.lent,
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from there."""
        self.pending = [loss.to(device) for loss in state["pending"]]
        if self.clipping is not None:
            self.clipping.load_state_dict(state["clipping"])
        self.log.initial_loss, self.log.curve = state["initial_loss"], list(state["curve"])
        self.diverged, self.seconds, self.lent = state["diverged"], state["seconds"], state["lent"]

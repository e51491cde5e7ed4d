"""One trial of a search, trained share by share, so that a hopeless one can be ended early where the spec asks for it.

    share k of SHARES   the steps (k−1)·K/SHARES … k·K/SHARES, and the mean training loss over them

All trials of a search have the same steps and schedule, so this loss is comparable between them at equal steps, and
nowhere else; how well it foretells the final loss depends on the method. A trial that goes to its end, or diverges, is
a row of the run store like any other; one that was ended early is not, as nobody could tell it from a whole one.
"""

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from scionlab.runs.store import RunStore
from scionlab.sweep.job import describe
from scionlab.sweep.poison import PoisonedError, poison
from scionlab.training import Outcome, Run
from scionlab.training.prepare import data_of
from scionlab.tune.search import Search

SHARES = 5
COMPLETE, PRUNED, DIVERGED, FAILED, RUNNING = "complete", "pruned", "diverged", "failed", "running"


@dataclass(frozen=True)
class Progress:
    """How far a trial is. `loss` is the share's mean training loss, None at the end; the rest as in `tunings`."""

    state: str
    started_at: str
    steps_done: int = 0
    loss: float | None = None
    val_loss: float | None = None
    trial_id: str | None = None
    flops: float = 0.0
    wall_time_s: float = 0.0
    error: str | None = None


class Attempt:
    """A trial with these values. It is not trained if the store has it: then it says what it would have said."""

    def __init__(self, search: Search, values: Mapping[str, float], store: RunStore) -> None:
        self.search, self.values, self.store = search, values, store
        self.share = 0
        self.progress = Progress(RUNNING, datetime.now(UTC).isoformat())
        self.run: Run | None = None
        self.known: list[dict[Any, Any]] | None = None  # the curve of a trial that is in the store

    def advance(self) -> Progress:
        """Train the next share. A failure is a state, with the trial's row in the store, and raises nothing.

        Only one by which this process has lost its GPU does, after its row is written, as a PoisonedError.
        """
        self.share += 1
        try:
            if self.share == 1:
                self._begin()
            self.progress = self._from_store() if self.known is not None else self._train()
        except Exception as error:
            self.progress = self._failed(traceback.format_exc())
            if said := poison(error):
                raise PoisonedError(said) from None
        return self.progress

    def _begin(self) -> None:
        self.cell, known = self.search.cell(self.values, self.store)
        self.ends = [round(self.cell.trial.steps * share / SHARES) for share in range(SHARES + 1)]
        if known:
            self.known = [dict(row) for row in self.store.losses([self.cell.trial_id]).to_dict("records")]
        else:
            self.run = Run(self.cell.trial, data_of(self.cell.trial), self.search.compiled)

    def _train(self) -> Progress:
        run = self.run
        if run is None:
            raise AssertionError("advance: the trial has not begun")
        while not run.finished and run.step < self.ends[self.share]:
            run.run_steps(self.ends[self.share] - run.step)
        now = replace(self.progress, steps_done=run.step, flops=float(run.flops), wall_time_s=run.clock.seconds)
        if not run.finished:
            return replace(now, loss=self._mean(run.log.curve))
        outcome = run.outcome()
        self._write(outcome, None)
        done = outcome.summary
        return replace(
            now,
            state=COMPLETE if done["status"] == "ok" else DIVERGED,
            loss=None,
            val_loss=done["val_loss"],
            trial_id=self.cell.trial_id,
            wall_time_s=done["wall_time_s"],
        )

    def _from_store(self) -> Progress:
        row = self.store.runs([self.cell.trial_id]).to_dict("records")[0]
        end, done = self.ends[self.share], int(row["steps_done"])
        share = min(1.0, end / done)
        now = replace(
            self.progress, steps_done=min(end, done), flops=share * row["flops"], wall_time_s=share * row["wall_time_s"]
        )
        if end < done and self.share < SHARES:
            return replace(now, loss=self._mean(self.known or ()))
        ok = row["status"] == "ok"
        return replace(
            now,
            state=COMPLETE if ok else DIVERGED,
            loss=None,
            val_loss=float(row["val_loss"]) if ok else None,
            trial_id=self.cell.trial_id,
        )

    def _mean(self, curve: Iterable[Mapping[Any, Any]]) -> float | None:
        """Mean training loss over the rows that end within the share; None where none does."""
        begin, end = self.ends[self.share - 1], self.ends[self.share]
        losses = [float(row["train_loss"]) for row in curve if begin < row["step"] <= end]
        return sum(losses) / len(losses) if losses else None

    def _failed(self, error: str) -> Progress:
        """The state, and an error row where it is known which trial failed."""
        found = replace(self.progress, state=FAILED, loss=None, error=error)
        if not hasattr(self, "cell"):
            return found
        self._write(Outcome({"status": "error"}), error)
        return replace(found, trial_id=self.cell.trial_id)

    def _write(self, outcome: Outcome, error: str | None) -> None:
        started_at = datetime.fromisoformat(self.progress.started_at)
        row = {**describe(self.cell), **outcome.summary, "error": error, "started_at": started_at}
        self.store.write_run(row, outcome.curve, outcome.layers, outcome.scores)

"""What trackers hear of a sweep: live rows as they come, and what was missed when the trial ends.

Rows that come while a trial trains may have gaps (executors of several processes drop some). A row is passed on if its
step is beyond the last one's; when the trial ends, so are those rows of its stored curve that are. A validation comes
before the losses that are logged at its step.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scionlab.trackers import Tracked, Tracker


class Tracking:
    """Feeds trackers, and drops one that raises, with one warning: a sweep does not end for them."""

    def __init__(self, trackers: Mapping[str, Tracker], trials: Iterable[Tracked], warn: Callable[[str], None]) -> None:
        self.trackers = dict(trackers)
        self.trials = {trial.trial_id: trial for trial in trials}
        self.warn = warn
        self.last: dict[str, tuple[int, bool]] = {}  # step, and whether its training loss has come

    def row(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """A row of the curve of a trial under way."""
        place = row["step"], "train_loss" in row
        if not self.trackers or trial_id not in self.trials or place <= self.last.get(trial_id, (0, True)):
            return
        self.last[trial_id] = place
        self._tell(lambda tracker: tracker.row(self.trials[trial_id], row))

    def ended(self, trial_id: str, curve: Iterable[Mapping[Any, Any]], result: Mapping[str, Any]) -> None:
        """The end of a trial: `curve` is all of it, in the order of its steps; what a row lacks is not in it."""
        for row in curve:
            self.row(trial_id, row)
        result = {**result, "steps": self.last.get(trial_id, (0, True))[0]}
        self._tell(lambda tracker: tracker.ended(self.trials[trial_id], result))
        del self.trials[trial_id]

    def close(self) -> None:
        """Nothing follows."""
        self._tell(lambda tracker: tracker.close())

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                what(tracker)
            except Exception as error:  # whatever another tool may raise
                del self.trackers[name]
                self.warn(f"{name} gets no more rows, the sweep goes on: {type(error).__name__}: {error}")

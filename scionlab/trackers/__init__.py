"""Other tools that may follow a sweep, each off by default: `scionlab run … --track NAME`.

They are fed from the rows that the run store gets, by `Tracking`. To add one, write a module with a function
`start(results, experiment)` that gives a `Tracker`, and add its line to `TRACKERS`.
"""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from scionlab.errors import UserError, unknown

__all__ = ["TRACKERS", "Tracked", "Tracker", "start_trackers"]

# Of each: its module. The extra of this package that installs what the module needs has the same name.
TRACKERS = {
    "tensorboard": "scionlab.trackers.tensorboard",
    "wandb": "scionlab.trackers.wandb",
}


@dataclass(frozen=True)
class Tracked:
    """A trial as trackers know it. `label` is short and for people; `spec` has all fields of the trial."""

    trial_id: str
    label: str
    experiment: str
    preset: str
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """A name for files and lists, different for every trial."""
        return f"{self.label.replace(' ', '-').replace('/', '-')}-{self.trial_id[:8]}"


class Tracker(Protocol):
    """Hears of many trials at the same time. What it raises ends the tracking, and nothing else."""

    def row(self, trial: Tracked, row: Mapping[str, Any]) -> None:
        """A row of the trial's curve: step, tokens, lr and train_loss, or val_loss and val_accuracy; steps rise."""

    def ended(self, trial: Tracked, result: Mapping[str, Any]) -> None:
        """The trial's last word: `status`, `val_loss` (None unless it is ok) and `steps`, those that its curve has."""

    def close(self) -> None:
        """The sweep is over, or was stopped: trials that have not ended never will."""


def start_trackers(names: Iterable[str], results: Path, experiment: str) -> dict[str, Tracker]:
    """The trackers by name. UserError for an unknown one, and for one whose package is not installed."""
    started: dict[str, Tracker] = {}
    for name in dict.fromkeys(names):
        if name not in TRACKERS:
            raise unknown("track", name, TRACKERS)
        try:
            module = importlib.import_module(TRACKERS[name])
        except ImportError as error:
            raise UserError(
                f"track: {name!r} needs a package that is not installed ({error}); pip install 'scionlab[{name}]'"
            ) from None
        started[name] = module.start(results, experiment)
    return started

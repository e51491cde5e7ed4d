"""Weights & Biases: a run of theirs for every trial, in a group named after the experiment.

Project, entity, mode and folder come from its own environment variables (WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE,
WANDB_DIR); the project is "scionlab" where none is named. Several runs are open in one process, which needs 0.19.10.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from scionlab.trackers import Tracked


class WeightsAndBiases:
    """A run of theirs for every trial under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: dict[str, Any] = {}

    def row(self, trial: Tracked, row: Mapping[str, Any]) -> None:
        """Training loss and learning rate of a step, or validation loss and accuracy."""
        names = ("tokens", "lr", "train_loss", "val_loss", "val_accuracy")
        self._run(trial).log({name: row[name] for name in names if row.get(name) is not None}, step=row["step"])

    def ended(self, trial: Tracked, result: Mapping[str, Any]) -> None:
        """Validation loss and status, into the summary."""
        run = self._run(trial)
        run.summary["status"] = result["status"]
        if result["val_loss"] is not None:
            run.summary["val_loss"] = result["val_loss"]
        self.runs.pop(trial.trial_id).finish(exit_code=int(result["status"] == "error"))

    def close(self) -> None:
        """Runs of trials that were stopped count as failed."""
        while self.runs:
            self.runs.popitem()[1].finish(exit_code=1)

    def _run(self, trial: Tracked) -> Any:
        if trial.trial_id not in self.runs:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.runs[trial.trial_id] = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "scionlab"),
                dir=os.environ.get("WANDB_DIR", str(self.folder)),
                group=trial.experiment,
                name=trial.label,
                config={**trial.spec, "trial_id": trial.trial_id, "preset": trial.preset},
                reinit="create_new",
            )
        return self.runs[trial.trial_id]


def start(results: Path, experiment: str) -> WeightsAndBiases:
    """Runs whose local files are below `results`."""
    return WeightsAndBiases(results / "wandb" / experiment)

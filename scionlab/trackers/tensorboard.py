"""TensorBoard's event files, by PyTorch's writer: results/tensorboard/EXPERIMENT/TRIAL/.

Scalars by step: `loss/train` and `lr`, and `loss/validation` at the last step and where `validate_every` asks for it,
in nats per token; the trial itself is a text. A trial that is trained again hides what its first try wrote.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from scionlab.trackers import Tracked

TAGS = {
    "train_loss": "loss/train",
    "lr": "lr",
    "val_loss": "loss/validation",
    "val_accuracy": "accuracy/validation",
}


class TensorBoard:
    """A writer for every trial under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writers: dict[str, SummaryWriter] = {}

    def row(self, trial: Tracked, row: Mapping[str, Any]) -> None:
        """Training loss and learning rate of a step, or validation loss and accuracy."""
        writer = self._writer(trial)
        for column, tag in TAGS.items():
            if row.get(column) is not None:
                writer.add_scalar(tag, row[column], row["step"])

    def ended(self, trial: Tracked, result: Mapping[str, Any]) -> None:
        """Validation loss and status, and the file is complete."""
        writer = self._writer(trial)
        if result["val_loss"] is not None:
            writer.add_scalar("loss/validation", result["val_loss"], result["steps"])
        writer.add_text("status", result["status"], result["steps"])
        self.writers.pop(trial.trial_id).close()

    def close(self) -> None:
        """Write out what is in memory."""
        while self.writers:
            self.writers.popitem()[1].close()

    def _writer(self, trial: Tracked) -> SummaryWriter:
        if trial.trial_id not in self.writers:
            writer = SummaryWriter(str(self.folder / trial.name), purge_step=0, flush_secs=10)
            fields = [f"| {name} | {value} |" for name, value in trial.spec.items()]
            writer.add_text("trial", "\n".join(["| field | value |", "|---|---|", *fields]), 0)
            self.writers[trial.trial_id] = writer
        return self.writers[trial.trial_id]


def start(results: Path, experiment: str) -> TensorBoard:
    """Files below `results`."""
    return TensorBoard(results / "tensorboard" / experiment)

"""What a trial leaves behind: the losses it logs, whether it diverged, and its summary row."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scionlab.problems.data import Source
from scionlab.spec import Trial
from scionlab.training.prepare import architecture

# A trial logs its loss in at most this many rows, so that what it keeps in memory does not grow with its length.
MAX_CURVE_ROWS = 128
# The summary's train_loss averages the logged losses of this last share of the steps.
TAIL_SHARE = 0.1

Row = dict[str, Any]
# Hears of a curve's rows (step, tokens, lr and train_loss, or val_loss and val_accuracy) as they come, and leaves them
# as they are.
OnRow = Callable[[Mapping[str, Any]], None]


@dataclass
class Outcome:
    """What a trial gives back: `summary` (columns of the runs table), and rows of `curve`, `layers` and `scores`."""

    summary: Row
    curve: list[Row] = field(default_factory=list)
    layers: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)


class Log:
    """The curve of one trial: a row of the mean loss since the row before, at most MAX_CURVE_ROWS of them."""

    def __init__(self, trial: Trial, on_row: OnRow | None = None) -> None:
        self.trial, self.on_row = trial, on_row
        self.curve: list[Row] = []
        self.initial_loss = math.nan

    def due(self, step: int) -> bool:
        """Whether a row follows this step, counted from 1."""
        steps = self.trial.steps
        every = 1 if steps <= MAX_CURVE_ROWS else math.ceil(steps / (MAX_CURVE_ROWS - 1))
        return step == 1 or step % every == 0 or step == steps

    def append(self, place: Row, losses: Sequence[float]) -> bool:
        """Add a row: `place` says when it is, `losses` are those of every step since the last; False if it diverged."""
        if not self.curve:
            self.initial_loss = losses[0]
        self.curve.append({**place, "train_loss": sum(losses) / len(losses)})
        self.tell(self.curve[-1])
        return all(math.isfinite(loss) and loss <= self.limit for loss in losses)

    def tell(self, row: Row) -> None:
        """Show a row to who wants to hear of it."""
        if self.on_row is not None:
            self.on_row(row)

    @property
    def limit(self) -> float:
        """The loss above which a run has diverged: a rise, as losses may be negative or begin at 0."""
        scale = max(abs(self.initial_loss), self.trial.divergence_scale)
        return self.initial_loss + (self.trial.divergence_factor - 1) * scale

    def _train_loss(self) -> float:
        """Mean logged loss over the last TAIL_SHARE of the curve."""
        tail = self.curve[-max(1, round(TAIL_SHARE * len(self.curve))) :]
        return sum(row["train_loss"] for row in tail) / len(tail)

    def summary(self, source: Source, scores: tuple[float | None, float | None], done: Row, seconds: float) -> Row:
        """The runs table's columns of results.

        `source` is what was trained on; `scores` are validation loss and accuracy, None where there is none; `done` are
        steps_done, epochs and flops of the steps taken, with the tokens seen.
        """
        counts = architecture(self.trial, source.shape)
        val_loss, accuracy = scores
        per_token = source.bytes_per_token
        ok = val_loss is not None and math.isfinite(val_loss)
        return {
            "status": "ok" if ok else "diverged",
            "n_params": counts.n_params,
            "n_params_hidden": counts.n_params_hidden,
            "vocab_size": source.shape.n_outputs,
            "steps": self.trial.steps,
            "initial_loss": self.initial_loss,
            "train_loss": self._train_loss(),
            "val_loss": val_loss if ok else None,
            "val_loss_per_byte": val_loss / per_token if val_loss is not None and ok and per_token else None,
            "val_accuracy": accuracy if ok else None,
            "wall_time_s": seconds,
            "tokens_per_s": done["tokens"] / seconds,
            **done,
            "tokens": self.trial.exact_tokens,
            "tokens_budget": self.trial.tokens,
        }

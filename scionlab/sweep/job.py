"""Train one cell and write its row: what every executor does, wherever it runs."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from scionlab import provenance
from scionlab.data import load
from scionlab.errors import UserError
from scionlab.store import RunStore
from scionlab.sweep.plan import Cell
from scionlab.training import train


@dataclass(frozen=True)
class Report:
    """What the driver hears of a finished cell; the rest is in the store."""

    trial_id: str
    status: str
    val_loss: float | None
    wall_time_s: float
    error: str | None = None


OnReport = Callable[[Report], None]


def run_cell(cell: Cell, store: RunStore) -> Report:
    """Train and store. A failure of the trial is a row, too; only a failure to write raises."""
    started_at, began = datetime.now(UTC), time.perf_counter()
    try:
        corpus = load(cell.trial.data)
        if corpus.sha256 != cell.data_sha256:
            raise UserError(f"data: {cell.trial.data!r} has changed since the sweep began; start the sweep again")
        outcome = train(cell.trial, corpus)
        summary, curve, layers, error = outcome.summary, outcome.curve, outcome.layers, None
    except Exception:
        summary, curve, layers, error = {"status": "error"}, [], [], traceback.format_exc()
    store.write_run({**describe(cell), **summary, "error": error, "started_at": started_at}, curve, layers)
    return Report(
        trial_id=cell.trial_id,
        status=summary["status"],
        val_loss=summary.get("val_loss"),
        wall_time_s=summary.get("wall_time_s", time.perf_counter() - began),
        error=error,
    )


def failed_row(cell: Cell, error: str) -> dict[str, Any]:
    """The row of a cell whose worker died before it could write one."""
    return {**describe(cell), "status": "error", "error": error, "started_at": datetime.now(UTC)}


def describe(cell: Cell) -> dict[str, Any]:
    """The columns known before training: identity, hyperparameters, provenance."""
    trial = cell.trial
    columns = (
        "optimizer model width depth head_dim tied residual batch_size seq_len lr momentum momentum_schedule schedule "
        "seed device dtype val_tokens data"
    )
    device = f", {torch.cuda.get_device_name()}" if trial.device == "cuda" else ""
    return {
        "trial_id": cell.trial_id,
        "experiment": cell.experiment,
        "preset": cell.preset,
        **{column: getattr(trial, column) for column in columns.split()},
        "stages": json.dumps([stage.model_dump() for stage in trial.stages]) if trial.stages else None,
        "tokens": trial.exact_tokens,
        "tokens_budget": trial.tokens,
        "steps": trial.steps,
        "data_sha256": cell.data_sha256,
        "scionlab_version": provenance.version("scionlab"),
        "git_commit": provenance.git_commit(),
        "torch_version": torch.__version__,
        "machine": provenance.machine() + device,
        "spec": trial.model_dump_json(),
    }

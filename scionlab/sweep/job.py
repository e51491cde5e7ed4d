"""Train one task and write its rows: what every executor does, wherever it runs."""

import json
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pandas as pd
import torch

from scionlab import provenance
from scionlab.errors import UserError
from scionlab.problems.data import Source
from scionlab.problems.own_model import model_sha256, optimizer_sha256
from scionlab.runs.store import FINISHED, RunStore
from scionlab.sweep.branching import train_branches
from scionlab.sweep.keeping import Keeper, StoppedError, say
from scionlab.sweep.micro import micro_batch
from scionlab.sweep.plan import Cell
from scionlab.sweep.poison import PoisonedError, poison
from scionlab.sweep.tasks import Task
from scionlab.training import Outcome, Run, train_stack
from scionlab.training.prepare import data_of, identity

NODES_DIED = "the nodes that this trial was started on died, or could not be reached any more, {tries} times"
POISONED = "the GPU was lost to this trial in {tries} worker processes; CUDA said: {said}"
DIED = "the worker process of this trial died: it was killed, or ran out of memory (Ray has printed more)"


@dataclass(frozen=True)
class Report:
    """What the driver hears of a finished cell; the rest is in the store."""

    trial_id: str
    status: str
    val_loss: float | None = None
    wall_time_s: float = 0.0
    error: str | None = None


OnReport = Callable[[Report], None]
# Hears of a trial, by its id, the rows of its curve (step, tokens, lr, train_loss) while it trains; some may get lost.
OnRow = Callable[[str, Mapping[str, Any]], None]


def run_task(
    task: Task,
    store: RunStore,
    on_row: OnRow | None = None,
    stopping: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = say,
) -> list[Report]:
    """Train the task's cells and store each; one report a cell, in their order. A failure to write raises.

    So does, as a PoisonedError and before anything is written of it, one after which this process has no GPU any more.
    What fails together is trained one by one, so that a cell's failure is its own row and nobody else's. A cell that is
    trained alone is kept on its way (`scionlab.sweep.keeping`), and ends with a StoppedError where `stopping` says so;
    `warn` hears of checkpoints that could not be written or read. The cells of a stem are kept likewise, and each is
    stored as it ends.
    """
    if task.stem:
        return _run_stem(task, store, on_row, stopping, warn)
    started_at, began = datetime.now(UTC), time.perf_counter()
    error = None
    try:
        outcomes = _train(task, _data(task), store, on_row, stopping, warn)
    except StoppedError:
        raise
    except Exception as failure:
        if said := poison(failure):
            raise PoisonedError(said) from None
        if task.stacked:
            alone = replace(task, stacked=False)
            each = (run_task(replace(alone, cells=(cell,)), store, on_row, stopping, warn) for cell in task.cells)
            return [report for reports in each for report in reports]
        outcomes, error = [Outcome({"status": "error"})] * len(task.cells), traceback.format_exc()
    seconds = (time.perf_counter() - began) / len(task.cells)
    for cell, outcome in zip(task.cells, outcomes, strict=True):
        _write(cell, outcome, store, started_at, error)
        if error is None and not task.stacked:
            store.checkpoints.remove(cell.trial_id)
    return [
        _report({"trial_id": cell.trial_id, "wall_time_s": seconds, **outcome.summary, "error": error})
        for cell, outcome in zip(task.cells, outcomes, strict=True)
    ]


def _run_stem(
    task: Task,
    store: RunStore,
    on_row: OnRow | None,
    stopping: Callable[[], bool],
    warn: Callable[[str], None],
) -> list[Report]:
    """`run_task` of a stem. What did not come to its end in it is trained alone, and may fail there."""
    started_at = datetime.now(UTC)
    reports: dict[str, Report] = {}
    with closing(_branches(task, store, on_row, stopping, warn)) as branches:
        while True:
            try:
                cell, outcome = next(branches)
            except StopIteration:
                break
            except StoppedError:
                raise
            except Exception as failure:
                if said := poison(failure):
                    raise PoisonedError(said) from None
                break
            _write(cell, outcome, store, started_at)
            store.checkpoints.remove(cell.trial_id)
            reports[cell.trial_id] = _report({"trial_id": cell.trial_id, **outcome.summary})
    for cell in task.without(reports).cells:
        (reports[cell.trial_id],) = run_task(replace(task, cells=(cell,), stem=False), store, on_row, stopping, warn)
    return [reports[cell.trial_id] for cell in task.cells]


def _branches(
    task: Task,
    store: RunStore,
    on_row: OnRow | None,
    stopping: Callable[[], bool],
    warn: Callable[[str], None],
) -> Generator[tuple[Cell, Outcome]]:
    listeners = [partial(on_row, cell.trial_id) if on_row else None for cell in task.cells]
    yield from train_branches(task, _data(task), store.checkpoints, listeners, stopping, warn)


def _write(cell: Cell, outcome: Outcome, store: RunStore, started_at: datetime, error: str | None = None) -> None:
    row = {**describe(cell), **outcome.summary, "error": error, "started_at": started_at}
    store.write_run(row, outcome.curve, outcome.layers, outcome.scores)


def report_found(task: Task, store: RunStore, since: datetime) -> list[Report]:
    """Reports of the rows that a lost worker had written of a task.

    `since` is when the executor began: an error before that is of an earlier sweep.
    """
    rows = store.runs([cell.trial_id for cell in task.cells])
    rows = rows[rows["status"].isin(FINISHED) | (rows["started_at"] >= since)]
    return [_report(row) for row in rows.to_dict("records")]


def report_lost(task: Task, store: RunStore, since: datetime, why: str = DIED) -> list[Report]:
    """Reports of a task that is given up: of the rows that there are, and of error rows for the other cells."""
    reports = {report.trial_id: report for report in report_found(task, store, since)}
    for cell in task.without(reports).cells:
        error_row = {**describe(cell), "status": "error", "error": why, "started_at": datetime.now(UTC)}
        store.write_run(error_row, [])
        reports[cell.trial_id] = _report(error_row)
    return [reports[cell.trial_id] for cell in task.cells]


def _train(
    task: Task,
    corpus: Source,
    store: RunStore,
    on_row: OnRow | None,
    stopping: Callable[[], bool],
    warn: Callable[[str], None],
) -> list[Outcome]:
    trials = [cell.trial for cell in task.cells]
    listeners = [partial(on_row, cell.trial_id) if on_row else None for cell in task.cells]
    if task.stacked:
        return train_stack(trials, corpus, task.compile, listeners)
    keeper = Keeper(store.checkpoints, task.cells[0].trial_id, task.interval_s, stopping, warn)
    size = micro_batch(trials[0], corpus, task.micro_batch, task.workers)
    return [keeper.train(lambda: Run(trials[0], corpus, task.compile, listeners[0], size))]


def _data(task: Task) -> Source:
    """What the cells are trained on. Raises UserError unless it is what it was when the sweep was planned."""
    data = task.cells[0].trial.data
    corpus = data_of(task.cells[0].trial)
    if any(cell.data_sha256 != corpus.sha256 for cell in task.cells):
        raise UserError(f"data: {data!r} has changed since the sweep began; start the sweep again")
    for cell in task.cells:
        if cell.model_sha256 != model_sha256(cell.trial):
            raise UserError(f"model: {cell.trial.model!r} has changed since the sweep began; start the sweep again")
        if cell.optimizer_sha256 != optimizer_sha256(cell.trial):
            name = cell.trial.optimizer
            raise UserError(f"optimizer: {name!r} has changed since the sweep began; start the sweep again")
        if cell.trial.has_own_sampler and identity(cell.trial, corpus) != cell.trial_id:
            raise UserError(f"sampler: {cell.trial.sampler!r} has changed since the sweep began; start the sweep again")
    return corpus


def _report(row: Mapping[Any, Any]) -> Report:
    """Of a row as it was written or as it was read; what a failed trial lacks is absent, None or NaN."""
    columns = [field.name for field in fields(Report)]
    return Report(**{column: row[column] for column in columns if not pd.isna(row.get(column))})


def describe(cell: Cell) -> dict[str, Any]:
    """The columns known before training: identity, hyperparameters, provenance."""
    trial = cell.trial
    columns = (
        "optimizer model width depth head_dim tied residual batch_size seq_len lr momentum momentum_schedule schedule "
        "warmup clip_norm sampler seed device dtype val_tokens data"
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
        "model_sha256": cell.model_sha256,
        "optimizer_sha256": cell.optimizer_sha256,
        "scionlab_version": provenance.version("scionlab"),
        "git_commit": provenance.git_commit(),
        "torch_version": torch.__version__,
        "machine": provenance.machine() + device,
        "spec": trial.model_dump_json(),
    }

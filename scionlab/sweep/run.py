"""Run a sweep: plan it, train what is missing, and leave its record in the store."""

import json
import os
import platform
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from rich.console import Console

from scionlab import provenance
from scionlab.errors import UserError, unknown
from scionlab.runs.store import RunStore
from scionlab.spec import Experiment
from scionlab.sweep.arrange import How, arrange
from scionlab.sweep.calls import call_time, check_there
from scionlab.sweep.executors import EXECUTORS, ray
from scionlab.sweep.heartbeat import Heartbeat
from scionlab.sweep.job import Report
from scionlab.sweep.plan import Plan, make_plan
from scionlab.sweep.progress import SweepProgress
from scionlab.sweep.stems import shares_of
from scionlab.sweep.tasks import Task
from scionlab.sweep.workers import cluster_workers, default_workers
from scionlab.trackers import Tracked, Tracker
from scionlab.trackers.feed import Tracking

AS_IS_FASTEST = How()
# How many trials of a shape to stack on this machine: beside the store, or here if that is in a bucket.
STACKS = Path("cache", "stacks.json")
# What trackers hear of a curve.
CURVE = ["trial_id", "step", "tokens", "lr", "train_loss", "val_loss", "val_accuracy"]


@dataclass
class SweepResult:
    """What a sweep did. `trial_seconds` sums the trials' own wall times."""

    plan: Plan
    workers: int
    interrupted: bool = False
    wall_time_s: float = 0.0
    reports: list[Report] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    @property
    def trial_seconds(self) -> float:
        """Seconds spent inside trials, over all workers."""
        return sum(report.wall_time_s for report in self.reports)

    @property
    def efficiency(self) -> float:
        """Share of the workers' time spent inside trials."""
        return self.trial_seconds / (self.workers * self.wall_time_s) if self.wall_time_s else 0.0

    def errors(self) -> list[str]:
        """Tracebacks of the trials that failed."""
        return [report.error for report in self.reports if report.error]


def plan_sweep(experiment: Experiment, preset: str, store: RunStore) -> Plan:
    """Cells of a preset, checked and looked up; writes nothing."""
    return make_plan(experiment.preset(preset).trials, store, experiment.name, preset)


def run_sweep(
    experiment: Experiment,
    preset: str,
    store: RunStore,
    console: Console,
    executor: str = "ray",
    workers: int | None = None,
    how: How = AS_IS_FASTEST,
    trackers: Mapping[str, Tracker] = MappingProxyType({}),
    address: str | None = None,
) -> SweepResult:
    """Train the cells that are not in the store. Ctrl-C ends it early with `interrupted` set; finished trials stay.

    `trackers` follow the trials that it trains, and are closed at the end. `address` is that of a Ray cluster.
    """
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    if address is not None and executor != "ray":
        raise UserError(f"address: {address!r} is not allowed with the executor {executor!r}, only with ray")
    plan = plan_sweep(experiment, preset, store)
    store.check_writable()
    if address is not None:
        workers = cluster_workers(plan, workers, address, store, console)
    workers = 1 if executor == "inline" else min(workers or default_workers(plan), max(1, len(plan.todo)))
    result = SweepResult(plan, workers)
    record = _record(experiment, preset, executor, result, call_time(store, console))
    store.write_sweep(record)
    began = time.monotonic()

    def beat() -> None:
        result.wall_time_s = time.monotonic() - began
        check_there(store, str(record["sweep_id"]))
        store.write_sweep(record | _so_far(result))

    try:
        with Heartbeat(beat):
            if plan.todo:
                result.tasks = arrange(plan, workers, stacks_of(store), how)
                _train(result, store, executor, console, trackers, address, str(record["sweep_id"]))
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        result.wall_time_s = time.monotonic() - began
        check_there(store, str(record["sweep_id"]))
        store.write_sweep(record | _outcome(result))
    return result


def stacks_of(store: RunStore) -> Path:
    """The file of measured stack sizes that belongs to a store."""
    return (store.root.parent if store.on_disk else Path("results")) / STACKS


def _train(
    result: SweepResult,
    store: RunStore,
    executor: str,
    console: Console,
    trackers: Mapping[str, Tracker],
    address: str | None,
    sweep_id: str,
) -> None:
    todo = {cell.trial_id for cell in result.plan.todo}
    trained = [cell.trial_id for cell in result.plan.cells if cell.trial_id not in todo]
    done = store.runs(trained, ["optimizer", "status", "val_loss"])
    lowest = done[done["status"] == "ok"].groupby("optimizer")["val_loss"].min()
    best = {str(name): float(loss) for name, loss in lowest.items()}
    with SweepProgress(result.plan.todo, console, best, shares_of(result.tasks)) as progress:
        tracking = _tracking(trackers, result.plan, progress.labels, console)

        def on_row(trial_id: str, row: Mapping[str, Any]) -> None:
            progress.row(trial_id, row)
            tracking.row(trial_id, row)

        def on_report(report: Report) -> None:
            result.reports.append(report)
            progress.update(report)
            check_there(store, sweep_id)
            if tracking.trackers:
                rows = _curve(store, report.trial_id)
                tracking.ended(report.trial_id, rows, {"status": report.status, "val_loss": report.val_loss})

        try:
            execute = EXECUTORS[executor] if address is None else partial(ray, address=address)
            execute(result.tasks, store, result.workers, on_report, on_row)
        finally:
            tracking.close()


def _curve(store: RunStore, trial_id: str) -> list[dict[str, Any]]:
    """The trial's losses and validations as trackers hear of them while it trains: a validation first at its step."""
    curve = store.curves([trial_id], CURVE)
    rows = [{str(name): value for name, value in row.items() if pd.notna(value)} for row in curve.to_dict("records")]
    losses = [row for row in rows if "train_loss" in row or "val_loss" in row]
    return sorted(losses, key=lambda row: (row["step"], "train_loss" in row))


def _tracking(trackers: Mapping[str, Tracker], plan: Plan, labels: Mapping[str, str], console: Console) -> Tracking:
    trials = [
        Tracked(cell.trial_id, labels[cell.trial_id], cell.experiment, cell.preset, cell.trial.model_dump())
        for cell in plan.todo
    ]
    return Tracking(trackers, trials, lambda text: console.print(f"warning: {text}", soft_wrap=True))


def _record(experiment: Experiment, preset: str, executor: str, result: SweepResult, now: datetime) -> dict[str, Any]:
    return {
        "sweep_id": f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        "experiment": experiment.name,
        "preset": preset,
        "title": experiment.title,
        "question": experiment.question,
        "study": experiment.study,
        "settings": json.dumps(dict(experiment.settings), sort_keys=True),
        "status": "running",
        "executor": executor,
        "workers": result.workers,
        "n_trials": len(result.plan.cells),
        "n_trained": 0,
        "trial_seconds": 0.0,
        "wall_time_s": 0.0,
        "machine": f"{provenance.machine()}, {provenance.cpu_count()} cores",
        "scionlab_version": provenance.version("scionlab"),
        "git_commit": provenance.git_commit(),
        "started_at": now,
        "updated_at": now,
        "host": platform.node(),
        "pid": os.getpid(),
        "trial_ids": [cell.trial_id for cell in result.plan.cells],
        "trial_costs": [cell.cost for cell in result.plan.cells],
    }


def _outcome(result: SweepResult) -> dict[str, Any]:
    complete = len(result.reports) == len(result.plan.todo)
    return {"status": "done" if complete else "interrupted", **_so_far(result)}


def _so_far(result: SweepResult) -> dict[str, Any]:
    return {
        "updated_at": datetime.now(UTC),
        "n_trained": len(result.reports),
        "trial_seconds": result.trial_seconds,
        "wall_time_s": result.wall_time_s,
    }

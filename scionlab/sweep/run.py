"""Run a sweep: plan it, train what is missing, and leave its record in the store."""

import json
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from scionlab import provenance
from scionlab.errors import unknown
from scionlab.spec import Experiment
from scionlab.store import RunStore
from scionlab.sweep.arrange import How, arrange
from scionlab.sweep.executors import EXECUTORS
from scionlab.sweep.job import Report
from scionlab.sweep.plan import Plan, make_plan
from scionlab.sweep.progress import SweepProgress
from scionlab.sweep.tasks import Task

# A worker takes about 0.4 GB, Ray itself 0.6 GB: eight of them stay below 4 GB. More can be asked for.
MAX_CPU_WORKERS = 8
AS_IS_FASTEST = How()
# Beside the store: how many trials of a shape to stack on this machine.
STACKS = Path("cache", "stacks.json")


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


def default_workers(plan: Plan) -> int:
    """One trial per core, as each runs on one thread; on CUDA one per GPU, as each may need its whole memory."""
    on_gpu = any(cell.trial.device == "cuda" for cell in plan.cells)
    return torch.cuda.device_count() if on_gpu else min(provenance.cpu_count(), MAX_CPU_WORKERS)


def run_sweep(
    experiment: Experiment,
    preset: str,
    store: RunStore,
    console: Console,
    executor: str = "ray",
    workers: int | None = None,
    how: How = AS_IS_FASTEST,
) -> SweepResult:
    """Train the cells that are not in the store. Ctrl-C ends it early with `interrupted` set; finished trials stay."""
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    plan = plan_sweep(experiment, preset, store)
    store.check_writable()
    workers = 1 if executor == "inline" else min(workers or default_workers(plan), max(1, len(plan.todo)))
    result = SweepResult(plan, workers)
    record = _record(experiment, preset, executor, result)
    store.write_sweep(record)
    began = time.perf_counter()
    try:
        if plan.todo:
            result.tasks = arrange(plan, workers, store.root.parent / STACKS, how)
            _train(result, store, executor, console)
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        result.wall_time_s = time.perf_counter() - began
        store.write_sweep(record | _outcome(result))
    return result


def _train(result: SweepResult, store: RunStore, executor: str, console: Console) -> None:
    todo = {cell.trial_id for cell in result.plan.todo}
    trained = [cell.trial_id for cell in result.plan.cells if cell.trial_id not in todo]
    done = store.runs(trained, ["optimizer", "status", "val_loss"])
    lowest = done[done["status"] == "ok"].groupby("optimizer")["val_loss"].min()
    best = {str(name): float(loss) for name, loss in lowest.items()}
    with SweepProgress(result.plan.todo, console, best) as progress:

        def on_report(report: Report) -> None:
            result.reports.append(report)
            progress.update(report)

        EXECUTORS[executor](result.tasks, store, result.workers, on_report)


def _record(experiment: Experiment, preset: str, executor: str, result: SweepResult) -> dict[str, Any]:
    now = datetime.now(UTC)
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
        "trial_ids": [cell.trial_id for cell in result.plan.cells],
    }


def _outcome(result: SweepResult) -> dict[str, Any]:
    complete = len(result.reports) == len(result.plan.todo)
    return {
        "status": "done" if complete else "interrupted",
        "n_trained": len(result.reports),
        "trial_seconds": result.trial_seconds,
        "wall_time_s": result.wall_time_s,
    }

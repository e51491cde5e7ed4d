"""Where cells run: an executor takes tasks, longest first, and reports each of their cells as it finishes.

`EXECUTORS` is the one table of names. Ray is imported when it is asked for, and by nobody else.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep.job import POISONED, OnReport, OnRow, report_lost, run_task
from scionlab.sweep.poison import PoisonedError
from scionlab.sweep.tasks import Task

# Read by Ray when it is imported or started: no usage reports (no network), a quiet start, no log files of results,
# Ctrl-C left to us, workers keep the caller's working directory (results may be a relative path), no worker processes
# beyond the actors, and one thread for each numerical library.
RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class Executor(Protocol):
    """Trains every task, writes its cells to the store as it finishes, and tells `on_report` of each of them.

    `on_row` hears of the losses of trials under way; some of these rows may get lost.
    Ctrl-C may interrupt it.
    """

    def __call__(
        self, tasks: Sequence[Task], store: RunStore, workers: int, on_report: OnReport, on_row: OnRow | None = None
    ) -> None:
        """Return when all tasks are done."""


def inline(
    tasks: Sequence[Task], store: RunStore, workers: int, on_report: OnReport, on_row: OnRow | None = None
) -> None:
    """One after another in this process; `workers` does not matter. UserError where it has lost its GPU."""
    began = datetime.now(UTC)
    for task in tasks:
        try:
            reports = run_task(task, store, on_row)
        except PoisonedError as error:
            for report in report_lost(task, store, began, POISONED.format(tries=1, said=error)):
                on_report(report)
            raise UserError(
                f"device: this process has lost its GPU to trial {task.cells[0].trial_id}: {error}; run the same "
                "command again for the others"
            ) from None
        for report in reports:
            on_report(report)


def ray(
    tasks: Sequence[Task],
    store: RunStore,
    workers: int,
    on_report: OnReport,
    on_row: OnRow | None = None,
    address: str | None = None,
) -> None:
    """In parallel under Ray Tune: on this machine, or on the cluster at `address`."""
    set_up_ray()
    from scionlab.sweep.ray_tune import run

    run(tasks, store, workers, on_report, on_row, address)


def set_up_ray() -> None:
    """Before Ray is imported: its settings, where the environment has no others."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)


EXECUTORS: dict[str, Executor] = {
    "ray": ray,
    "inline": inline,
}

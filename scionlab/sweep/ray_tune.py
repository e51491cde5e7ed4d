"""Tasks under Ray Tune: a Tune trial is a worker, which takes tasks until none is left. The only file that imports Ray.

Tune starts the workers, gives them their shares of the machine, and replaces those that die. A Tune trial a task would
cost its driver some 20 ms each; a worker's own cost is the same for any number of tasks. Tune keeps no state of ours:
each worker writes its tasks' rows itself, so a driver that is killed loses nothing that was finished, and what Tune
logs goes to a temporary folder.
"""

import logging
import math
import signal
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from scionlab import provenance
from scionlab.store import RunStore
from scionlab.sweep.job import OnReport, Report, report_lost, run_task
from scionlab.sweep.tasks import Task, TaskQueue

# Tasks pass through Ray's object store once for each worker; its minimum is enough.
OBJECT_STORE_BYTES = 80 * 2**20
# A worker tells of its finished tasks at most this often: every report takes the driver a few milliseconds.
REPORT_INTERVAL_S = 0.25
# So many deaths in a row without a task under way are not the fault of a trial: the sweep gives up.
MAX_IDLE_DEATHS = 3


class Worker(tune.Trainable):
    """A Tune trial is one worker; a `step` of it takes tasks for a while, and reports those it has finished."""

    def setup(
        self, config: dict[str, Any], tasks: Sequence[Task] = (), taken: str = "", root: str = "", threads: int = 1
    ) -> None:
        self.number, self.tasks = config["worker"], tasks
        self.queue, self.store = TaskQueue(taken, len(tasks)), RunStore(root)
        torch.set_num_threads(threads)

    def step(self) -> dict[str, Any]:
        began = time.monotonic()
        finished: list[tuple[int, list[Report]]] = []
        while time.monotonic() - began < REPORT_INTERVAL_S:
            taken = self.queue.take(self.number)
            if taken is None:
                return {"finished": finished, "done": True}
            finished.append((taken, run_task(self.tasks[taken], self.store)))
        return {"finished": finished}


class _Listener(tune.Callback):
    """Passes reports on to the sweep, and turns what a dead worker was at into rows."""

    def __init__(self, tasks: Sequence[Task], queue: TaskQueue, store: RunStore, on_report: OnReport) -> None:
        self.tasks, self.queue, self.store, self.on_report = tasks, queue, store, on_report
        self.began = datetime.now(UTC)
        self.unreported = set(range(len(tasks)))
        self.idle_deaths = 0

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callbacks to be able to resume; we resume from the store, and a progress bar has no copy.
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        for task, reports in result["finished"]:
            self._pass_on(task, reports)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        lost = self.queue.taken_by(trial.config["worker"]) & self.unreported
        self.idle_deaths = 0 if lost else self.idle_deaths + 1
        if self.idle_deaths >= MAX_IDLE_DEATHS:
            raise RuntimeError(f"worker processes die before they take a trial: {trial.get_error()}")
        for task in sorted(lost):
            self._pass_on(task, report_lost(self.tasks[task], self.store, self.began))

    def _pass_on(self, task: int, reports: Sequence[Report]) -> None:
        self.unreported.discard(task)
        for report in reports:
            self.on_report(report)


def run(tasks: Sequence[Task], store: RunStore, workers: int, on_report: OnReport) -> None:
    """Train the tasks with `workers` of them at a time; on CUDA the workers share the GPUs evenly."""
    gpus = _gpus(tasks)
    threads, shares = worker_threads(workers, gpus, provenance.cpu_count()), gpu_shares(workers, gpus)
    _start(threads * workers)
    try:
        with tempfile.TemporaryDirectory(prefix="scionlab-tune-") as scratch:
            queue = TaskQueue(Path(scratch, "taken"), len(tasks))
            queue.folder.mkdir()
            worker = tune.with_parameters(
                Worker, tasks=tuple(tasks), taken=str(queue.folder), root=str(store.root.resolve()), threads=threads
            )
            tune.Tuner(
                tune.with_resources(
                    worker,
                    lambda config: tune.PlacementGroupFactory([{"CPU": threads, "GPU": shares[config["worker"]]}]),
                ),
                param_space={"worker": tune.grid_search(list(range(workers)))},
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=scratch,
                    callbacks=[_Listener(tasks, queue, store, on_report)],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    failure_config=tune.FailureConfig(max_failures=-1),  # the listener counts
                    verbose=0,
                ),
            ).fit()
    finally:
        ray.shutdown()


def gpu_shares(workers: int, gpus: int) -> list[float]:
    """GPUs of each worker: 1/n of one that n of them use, where n differs by one at most among `gpus` GPUs.

    The larger shares come first: Ray gives a share to the fullest GPU that has room, which then leaves no gaps.
    """
    if gpus == 0:
        return [0.0] * workers
    each, more = divmod(workers, gpus)
    users = [each] * (each * (gpus - more)) + [each + 1] * ((each + 1) * more)
    # Ray counts in ten-thousandths, and n rounded shares must not exceed a GPU
    return [math.floor(1e4 / n) / 1e4 for n in users]


def worker_threads(workers: int, gpus: int, cores: int) -> int:
    """Cores of each worker: one for trials on the CPU; those on GPUs share the machine's for what is done there."""
    return max(1, cores // workers) if gpus else 1


def _gpus(tasks: Sequence[Task]) -> int:
    """GPUs to share among the workers."""
    on_gpu = any(cell.trial.device == "cuda" for task in tasks for cell in task.cells)
    return torch.cuda.device_count() if on_gpu else 0


def _start(cores: int) -> None:
    if ray.is_initialized():
        raise AssertionError("the sweep starts and stops its own Ray")
    on_terminate = signal.getsignal(signal.SIGTERM)
    ray.init(
        address="local",  # never a cluster that happens to be around
        num_cpus=cores,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    signal.signal(signal.SIGTERM, on_terminate)  # Ray puts its own in place, which ends the process on the spot

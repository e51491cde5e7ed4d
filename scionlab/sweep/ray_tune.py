"""Tasks under Ray Tune: a Tune trial is a worker, which takes tasks until none is left.

Tune starts the workers, gives them their shares of the machines, and replaces those that die. A Tune trial a task would
cost its driver some 20 ms each; a worker's own cost is the same for any number of tasks. Tune keeps no state of ours:
each worker writes its tasks' rows itself, so a driver that is killed loses nothing that was finished, and what Tune
logs goes to a temporary folder.

A worker that dies alone was killed by its trial, which becomes an error row. A worker that dies with its node is not
its trial's fault: what it had not written is handed out again. So is what a worker was at that has lost its GPU to a
CUDA error, which ends it (`scionlab.sweep.poison`): whose fault that was is not known, and another process has a GPU.
"""

import platform
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import torch
from ray import cloudpickle, tune
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from ray.tune import TuneError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep.cluster import Machines, connected, gpu_shares, is_alive, machines, worker_threads
from scionlab.sweep.job import NODES_DIED, POISONED, OnReport, OnRow, Report, report_found, report_lost, run_task
from scionlab.sweep.keeping import StoppedError, say
from scionlab.sweep.poison import PoisonedError
from scionlab.sweep.queue import TaskQueue, Told
from scionlab.sweep.tasks import Task

# A worker tells of its finished tasks at most this often: every report takes the driver a few milliseconds.
REPORT_INTERVAL_S = 0.25
# And of the losses of a trial under way, which are for the eye.
ROW_INTERVAL_S = 1.0
# Seconds that workers have after Ctrl-C to save their trials.
SAVING_S = 30.0
# So many deaths in a row without a task under way are not the fault of a trial: the sweep gives up.
MAX_IDLE_DEATHS = 3
# A task is started on so many nodes that die, or workers that lose their GPU, before it is given up.
MAX_TRIES = 3


class Worker(tune.Trainable):
    """A Tune trial is one worker; a `step` of it takes tasks for a while, and reports those it has finished."""

    def setup(
        self,
        config: dict[str, Any],
        tasks: Sequence[Task] = (),
        queue: Any = None,
        url: str = "",
        known: frozenset[str] = frozenset(),
        threads: int = 1,
    ) -> None:
        self.number, self.tasks, self.queue, self.store = config["worker"], tasks, queue, RunStore(url)
        self.told_at = float("-inf")
        torch.set_num_threads(threads)
        ray.get(queue.join.remote(self.number, ray.get_runtime_context().get_node_id()))
        self.sees = known <= self.store.sweep_ids()

    def step(self) -> dict[str, Any]:
        if not self.sees:
            return {"finished": [], "blind": platform.node(), "done": True}
        began = time.monotonic()
        finished: list[tuple[int, list[Report]]] = []
        while time.monotonic() - began < REPORT_INTERVAL_S:
            taken = ray.get(self.queue.take.remote(self.number))
            if taken is None:
                return {"finished": finished, "done": True}
            number, skip = taken
            try:
                task = self.tasks[number].without(skip)
                finished.append((number, run_task(task, self.store, self._tell, self._stopping, self._warn)))
            except StoppedError:
                ray.get(self.queue.stopped.remote(self.number))
                return {"finished": finished, "done": True}
            except UserError as error:  # the store cannot be written to: nobody should train on
                return {"finished": finished, "stuck": str(error), "done": True}
        return {"finished": finished}

    def _stopping(self) -> bool:
        try:
            return bool(ray.get(self.queue.stopping.remote()))
        except ActorUnavailableError:  # it may answer the next time
            return False
        except RayError:  # the driver is gone, and its queue with it: nobody would hear of the trial's end
            return True

    def _warn(self, text: str) -> None:
        self.queue.warn.remote(text)  # heard before whatever else this worker tells

    def _tell(self, trial_id: str, row: Mapping[str, Any]) -> None:
        now = time.monotonic()
        validation = "train_loss" not in row  # few, and each asked for
        if validation or now - self.told_at >= ROW_INTERVAL_S:
            self.told_at = self.told_at if validation else now
            self.queue.tell.remote(trial_id, dict(row))  # nobody waits for it


class _Listener(tune.Callback):
    """Passes reports on to the sweep, and sees to what dead workers were at."""

    def __init__(
        self, tasks: Sequence[Task], queue: Any, store: RunStore, on_report: OnReport, on_row: OnRow | None, nodes: int
    ) -> None:
        self.tasks, self.queue, self.store, self.nodes = tasks, queue, store, nodes
        self.on_report, self.on_row = on_report, on_row
        self.began = datetime.now(UTC)
        self.unreported = set(range(len(tasks)))
        self.reported: set[str] = set()
        self.lost: Counter[int] = Counter()
        self.idle_deaths = 0
        self.told: Any = None  # a call of the queue under way
        self.asked_at = time.monotonic()
        self.refusal: UserError | None = None

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Keeps a UserError of the block: Tune makes a text of what its callbacks raise."""
        try:
            yield
        except UserError as error:
            self.refusal = error
            raise

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callbacks to be able to resume; we resume from the store, and a progress bar has no copy.
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        with self._refusing():
            if "blind" in result:
                raise UserError(
                    f"results: node {result['blind']!r} does not see {self.store.url!r}; give a folder that all nodes "
                    "share, or s3://bucket/prefix"
                )
            for number, reports in result["finished"]:
                self._settle(number, reports)
            if "stuck" in result:
                raise UserError(result["stuck"])

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.told is None and time.monotonic() - self.asked_at >= ROW_INTERVAL_S / 2:
            self.told, self.asked_at = self.queue.told.remote(), time.monotonic()
        elif self.told is not None and ray.wait([self.told], timeout=0)[0]:
            self._hear(ray.get(self.told))
            self.told = None

    def _hear(self, told: Told) -> None:
        for warning in told.warnings:
            say(warning)
        for trial_id, row in told.rows:
            if self.on_row is not None and trial_id not in self.reported:
                self.on_row(trial_id, row)

    def hear_the_last(self) -> None:
        """What workers have told and nobody has asked for."""
        calls = [self.queue.told.remote()] if self.told is None else [self.told, self.queue.told.remote()]
        for told in ray.get(calls):
            self._hear(told)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._refusing():
            self._recover(trial.config["worker"], _last_error(trial))

    def _recover(self, worker: int, error: Exception | None) -> None:
        lost = sorted(ray.get(self.queue.taken_by.remote(worker)) & self.unreported)
        poisoned = isinstance(error, PoisonedError)
        if poisoned or self._died_with_its_node(worker, error):
            why = POISONED.format(tries=MAX_TRIES, said=error) if poisoned else NODES_DIED.format(tries=MAX_TRIES)
            for number in lost:
                self._try_again(number, why)
            return
        self.idle_deaths = 0 if lost else self.idle_deaths + 1
        if self.idle_deaths >= MAX_IDLE_DEATHS:
            raise RuntimeError(f"worker processes die before they take a trial: {error}")
        for number in lost:
            self._settle(number, report_lost(self._rest(number), self.store, self.began))

    def _died_with_its_node(self, worker: int, error: Exception | None) -> bool:
        if self.nodes == 1:  # ours: were it dead, so would we be
            return False
        # A worker that died alone is reported by its node. Where nobody can say what became of it, there is no node.
        unknown = isinstance(error, ActorUnavailableError)
        return unknown or (
            isinstance(error, ActorDiedError) and not is_alive(ray.get(self.queue.node_of.remote(worker)))
        )

    def _try_again(self, number: int, why: str) -> None:
        """Report what was written of a task, and hand out the rest again, or give it up and say why."""
        self.lost[number] += 1
        self._report(report_found(self._rest(number), self.store, self.began))
        rest = self._rest(number)
        if not rest.cells:
            self.unreported.discard(number)
        elif self.lost[number] >= MAX_TRIES:
            self._settle(number, report_lost(rest, self.store, self.began, why))
        else:
            skip = {cell.trial_id for cell in self.tasks[number].cells} & self.reported
            ray.get(self.queue.give_back.remote(number, skip))

    def _rest(self, number: int) -> Task:
        return self.tasks[number].without(self.reported)

    def _settle(self, number: int, reports: Sequence[Report]) -> None:
        self.unreported.discard(number)
        self._report(reports)

    def _report(self, reports: Sequence[Report]) -> None:
        for report in reports:
            if report.trial_id not in self.reported:
                self.reported.add(report.trial_id)
                self.on_report(report)


def _last_error(trial: Any) -> Exception | None:
    """Why a Tune trial failed last. Tune keeps it in a file on the driver."""
    path = trial.pickled_error_file
    return cloudpickle.loads(Path(path).read_bytes()) if path else None


class _AllReported(tune.Stopper):
    """Ends the sweep with its last trial, also where a worker waits for a node that will not come back."""

    def __init__(self, unreported: set[int]) -> None:
        self.unreported = unreported

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return not self.unreported


def run(
    tasks: Sequence[Task],
    store: RunStore,
    workers: int,
    on_report: OnReport,
    on_row: OnRow | None = None,
    address: str | None = None,
) -> None:
    """Train the tasks with `workers` of them at a time; on CUDA the workers share the GPUs evenly.

    Without an `address` it is on this machine. UserError for a cluster that is not there, or a node of it that does not
    see the store.
    """
    found = machines(address)
    on_gpu = any(cell.trial.device == "cuda" for task in tasks for cell in task.cells)
    gpus = found.gpus if on_gpu else 0
    threads = worker_threads(workers, gpus, found.cpus)
    with connected(address, threads * workers), tempfile.TemporaryDirectory(prefix="scionlab-tune-") as scratch:
        _fit(tasks, store, found, gpu_shares(workers, gpus), threads, on_report, on_row, scratch)


def _fit(
    tasks: Sequence[Task],
    store: RunStore,
    found: Machines,
    shares: Sequence[float],
    threads: int,
    on_report: OnReport,
    on_row: OnRow | None,
    scratch: str,
) -> None:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    alone = [number for number, task in enumerate(tasks) if not task.stacked]
    queue = ray.remote(TaskQueue).options(num_cpus=0, scheduling_strategy=here).remote(len(tasks), alone)
    listener = _Listener(tasks, queue, store, on_report, on_row, len(found.cpus))
    known = frozenset(store.sweep_ids()) if len(found.cpus) > 1 else frozenset()
    worker = tune.with_parameters(Worker, tasks=tuple(tasks), queue=queue, url=store.url, known=known, threads=threads)
    tuner = tune.Tuner(
        tune.with_resources(
            worker, lambda config: tune.PlacementGroupFactory([{"CPU": threads, "GPU": shares[config["worker"]]}])
        ),
        param_space={"worker": tune.grid_search(list(range(len(shares))))},
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=scratch,
            stop=_AllReported(listener.unreported),
            callbacks=[listener],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=-1),  # the listener counts
            verbose=0,
        ),
    )
    try:
        tuner.fit()
        listener.hear_the_last()
    except KeyboardInterrupt:
        _let_workers_save(queue, listener)
        raise
    except TuneError:
        if listener.refusal is not None:
            raise listener.refusal from None
        raise


def _let_workers_save(queue: Any, listener: _Listener) -> None:
    """Wait while the workers keep what their trials have come to; another Ctrl-C does not wait."""
    with suppress(RayError):  # where all processes of Ray were asked to stop, it has gone
        ray.get(queue.stop.remote())
        until = time.monotonic() + SAVING_S
        while ray.get(queue.at_work.remote()) and time.monotonic() < until:
            time.sleep(0.1)
        listener.hear_the_last()

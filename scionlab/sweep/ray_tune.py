"""Trials under Ray Tune: one reused actor per worker, one thread per trial. The only file that imports Ray.

Tune schedules and restarts; it keeps no state of ours. Each worker writes its trial's row itself, so a driver that is
killed loses nothing that was finished, and Tune's own logs and checkpoints go to a temporary folder.
"""

import logging
import math
import signal
import tempfile
from collections.abc import Sequence
from typing import Any

import ray
import torch
from ray import tune

from scionlab.store import RunStore
from scionlab.sweep.job import OnReport, Report, failed_row, run_cell
from scionlab.sweep.plan import Cell

# Trials pass through the store, not through Ray's object store: its minimum is enough.
OBJECT_STORE_BYTES = 80 * 2**20


class CellTrainable(tune.Trainable):
    """A Tune trial is one cell, and one `step` is the whole of it."""

    def setup(self, config: dict[str, Any], cells: Sequence[Cell] = (), root: str = "") -> None:
        self.cells, self.store, self.index = cells, RunStore(root), config["index"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.index = new_config["index"]
        return True

    def step(self) -> dict[str, Any]:
        report = run_cell(self.cells[self.index], self.store)
        return {"report": report, "done": True}


class _Listener(tune.Callback):
    """Passes results on to the sweep, and turns a dead worker into a row."""

    def __init__(self, cells: Sequence[Cell], store: RunStore, on_report: OnReport) -> None:
        self.cells, self.store, self.on_report = cells, store, on_report

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callbacks to be able to resume; we resume from the store, and a progress bar has no copy.
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        self.on_report(result["report"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cell = self.cells[trial.config["index"]]
        if cell.trial_id in self.store.finished():  # it died between writing its row and telling us
            return
        error = "the worker process of this trial died: it was killed, or ran out of memory (Ray has printed more)"
        self.store.write_run(failed_row(cell, error), [])
        self.on_report(Report(cell.trial_id, "error", None, 0.0, error))


def run(cells: Sequence[Cell], store: RunStore, workers: int, on_report: OnReport) -> None:
    """Train the cells with `workers` of them at a time; on CUDA the workers share the GPUs evenly."""
    root = str(store.root.resolve())
    _start(workers)
    try:
        with tempfile.TemporaryDirectory(prefix="scionlab-tune-") as scratch:
            trainable = tune.with_resources(
                tune.with_parameters(CellTrainable, cells=list(cells), root=root),
                {"cpu": 1, "gpu": _gpu_share(cells, workers)},
            )
            tune.Tuner(
                trainable,
                param_space={"index": tune.grid_search(list(range(len(cells))))},
                tune_config=tune.TuneConfig(
                    reuse_actors=True,
                    max_concurrent_trials=workers,
                    trial_name_creator=lambda trial: f"cell-{trial.config['index']}",
                    trial_dirname_creator=lambda trial: f"cell-{trial.config['index']}",
                ),
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=scratch,
                    callbacks=[_Listener(cells, store, on_report)],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    verbose=0,
                ),
            ).fit()
    finally:
        ray.shutdown()


def _start(workers: int) -> None:
    if ray.is_initialized():
        raise AssertionError("the sweep starts and stops its own Ray")
    on_terminate = signal.getsignal(signal.SIGTERM)
    ray.init(
        address="local",  # never a cluster that happens to be around
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    signal.signal(signal.SIGTERM, on_terminate)  # Ray puts its own in place, which ends the process on the spot


def _gpu_share(cells: Sequence[Cell], workers: int) -> float:
    """GPUs of one trial: all that the machine has, divided among the workers."""
    if not any(cell.trial.device == "cuda" for cell in cells):
        return 0
    return 1 / math.ceil(workers / max(1, torch.cuda.device_count()))

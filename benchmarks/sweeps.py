"""What a sweep costs beside its training: planning, start-up, the driver's work for each trial, idle workers.

overhead      (workers · t − Σ seconds in trials) / n for n trials of next to no length, where t runs from the first
              trial's start to the last one's end: what a worker spends on a trial outside of it, its row's
              writing included; `ratio` is that of the fewest trials over it: 1 is no growth
start-up      from the sweep's start to its first trial's: Ray, a worker process, its imports and its data
planning      resolving, checking and identifying a grid
efficiency    Σ seconds in trials / (workers · wall time) of real trials, start-up included and left out
"""

import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from scionlab.runs.store import RunStore
from scionlab.spec import Experiment, Preset, Trial
from scionlab.spec.grid import trials
from scionlab.sweep import How, plan_sweep, run_sweep

Row = dict[str, Any]
WORKERS = 2
SIZES, QUICK_SIZES = (100, 1_000, 10_000), (20, 100)
PLANNED = 10_000
# One step of the noisy quadratic: a millisecond or two.
SHORT = {
    "optimizer": "scion", "lr": 2**-5, "model": "quadratic", "width": 4, "data": "noise:gaussian-1", "device": "cpu",
    "batch_size": 1, "seq_len": 1, "tokens": 1, "val_seq_len": 1, "val_tokens": 1,
}  # fmt: skip
# A transformer of some seconds, of three lengths, as in the laptop presets.
REAL = {"optimizer": "scion", "lr": 2**-5, "width": 64, "device": "cpu", "val_tokens": 2**14}
TOKENS, QUICK_TOKENS = (2**16, 2**17, 2**18), (2**13, 2**14)


def measure(quick: bool) -> list[Row]:
    """Rows of this benchmark; `quick` takes about a minute instead of six."""
    sizes, tokens = (QUICK_SIZES, QUICK_TOKENS) if quick else (SIZES, TOKENS)
    real = trials(REAL, tokens=tokens, seed=range(4))
    return [_planning(), *_overheads("inline", sizes), *_overheads("ray", sizes), *_efficiencies(real)]


def _planning() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        plan_sweep(_experiment(_short(PLANNED)), "only", RunStore(folder))
        return _row("planning", f"{PLANNED:,} cells", time.perf_counter() - began, "s")


def _overheads(executor: str, sizes: Sequence[int]) -> list[Row]:
    """The overhead at every size, and the start-up at the first."""
    rows: list[Row] = []
    for size in sizes:
        found = timed_sweep(_short(size), executor, WORKERS)
        overhead = 1e3 * (found["workers"] * found["training_s"] - found["trial_seconds"]) / size
        ratio = rows[0]["value"] / overhead if rows else None
        against = f"{executor}, {sizes[0]:,} trials" if rows else None
        rows.append(_row("overhead per trial", f"{executor}, {size:,} trials", overhead, "ms", ratio, against))
        if size == sizes[0]:
            start_up = _row("start-up", executor, found["start_up_s"], "s")
    return [*rows, start_up]


def _efficiencies(real: Sequence[Trial]) -> list[Row]:
    """Of one worker and of two, with and without the start-up."""
    rows: list[Row] = []
    for workers in (1, 2):
        found = timed_sweep(real, "ray", workers)
        note = f"{len(real)} trials, {found['wall_time_s']:.0f} s"
        for clock, what in (("wall_time_s", "all"), ("training_s", "after start-up")):
            value = 100 * found["trial_seconds"] / (workers * found[clock])
            rows.append(_row("efficiency", f"workers: {workers}, {what}", value, "%") | {"note": note})
    for two, one in zip(rows[2:], rows, strict=False):
        two |= {"ratio": two["value"] / one["value"], "against": one["variant"]}
    return rows


def timed_sweep(trials: Sequence[Trial], executor: str, workers: int, how: How | None = None) -> dict[str, float]:
    """Seconds of one sweep into an empty store: in all, until the first trial, from there to the last, in trials."""
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder, "runs"))
        result = run_sweep(
            _experiment(trials), "only", store, Console(file=io.StringIO()), executor, workers, how or How()
        )
        if result.errors():
            raise RuntimeError(result.errors()[0])
        runs, began = store.runs(), store.sweeps()["started_at"].item()
        ends = runs["started_at"] + pd.to_timedelta(runs["wall_time_s"], unit="s")
        return {
            "workers": result.workers,
            "wall_time_s": result.wall_time_s,
            "start_up_s": (runs["started_at"].min() - began).total_seconds(),
            "training_s": (ends.max() - runs["started_at"].min()).total_seconds(),
            "trial_seconds": result.trial_seconds,
        }


def _short(size: int) -> tuple[Trial, ...]:
    return trials(SHORT, seed=range(size))


def _experiment(trials: Sequence[Trial]) -> Experiment:
    presets = {"only": Preset(trials=tuple(trials))}
    return Experiment(name="overhead", title="Overhead", question="What does a sweep cost?", presets=presets)


def _row(
    case: str, variant: str, value: float, unit: str, ratio: float | None = None, against: str | None = None
) -> Row:
    return {"case": case, "variant": variant, "value": value, "unit": unit, "ratio": ratio, "against": against}

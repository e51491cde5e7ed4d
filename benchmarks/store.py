"""The run store and the fits at scale, on made-up sweeps in a temporary folder.

`measure(quick)` gives a row per case and variant; `ratio` > 1 means better than `against`. The large store has 100,000
trials of 500 curve rows each (quick: 2,000 of 20), written in the compacted layout at once; the small one has 2,000
(quick: 200) trials of 100 (20) rows as one file each, and is then compacted. Fits run in a process of their own, whose
largest resident memory is theirs. The whole takes about 3 minutes on two cores, 0.5 GB of disk and 2 GB of memory.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "laws")]

from synthetic import curve_rows  # type: ignore[import-not-found]  # noqa: E402
from synthetic_scale import (  # type: ignore[import-not-found]  # noqa: E402
    batch_rows,
    comparison_rows,
    transfer_rows,
    write_large,
)

from benchmarks.timing import Row, row  # noqa: E402
from scionlab.runs.store import RunStore  # noqa: E402

STUDIES = {"lr-transfer": transfer_rows, "comparison": comparison_rows, "batch-scaling": batch_rows}
CHOSEN = 200  # trials of one sweep among all


def measure(quick: bool) -> list[Row]:
    """Rows with case, variant, value, unit, ratio, against and note."""
    trials, rows = (2_000, 20) if quick else (100_000, 500)
    few, few_rows = (200, 20) if quick else (2_000, 100)
    with tempfile.TemporaryDirectory() as folder:
        return [*_small(Path(folder), few, few_rows), *_large(Path(folder), trials, rows)]


def _seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """The shortest of some calls."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _reads(store: RunStore) -> dict[str, Callable[[], Any]]:
    ids = store.runs(columns=["trial_id"])["trial_id"].sample(CHOSEN, random_state=0).tolist()
    return {
        "runs()": store.runs,
        "runs() of 3 columns": lambda: store.runs(columns=["width", "lr", "val_loss"]),
        "finished()": store.finished,
        f"curves() of {CHOSEN} trials": lambda: store.curves(ids),
    }


def _small(folder: Path, trials: int, length: int) -> list[Row]:
    """One file per trial, before and after a compaction."""
    store, written = RunStore(folder / "small"), list(transfer_rows(trials))
    curve = [{"step": i, "tokens": i, "lr": 0.1, "train_loss": 3.0} for i in range(1, length + 1)]
    write = _seconds(lambda: [store.write_run(row, curve) for row in written], repeats=1)
    note, reads = f"{trials:,} trials", _reads(store)
    before = {case: row(case, "small files", _seconds(call), "s", note=note) for case, call in reads.items()}
    compaction = row("compaction", f"{trials:,} small files", _seconds(store.compact, 1), "s", note=note)
    after = [
        row(case, "compacted", _seconds(call), "s", before[case], f"{note}, the same") for case, call in reads.items()
    ]
    return [row("write_run()", "a trial", 1e3 * write / trials, "ms"), *before.values(), compaction, *after]


def _large(folder: Path, trials: int, length: int) -> list[Row]:
    """A compacted store, a compaction that adds a few trials to it, and the fits of all of it."""
    store = write_large(folder / "lr-transfer" / "runs", list(transfer_rows(trials)), length, study="lr-transfer")
    note = f"{trials:,} trials, {trials * length:,} curve rows"
    found = [row(case, "large store", _seconds(call), "s", note=note) for case, call in _reads(store).items()]
    for run in transfer_rows(CHOSEN):
        store.write_run(run | {"trial_id": f"{run['trial_id']}-again"}, curve_rows(2.0))
    merge = _seconds(store.compact, repeats=1)
    found.append(row("compaction", "large store", merge, "s", note=f"{CHOSEN} small files into {note}"))
    for study, rows in STUDIES.items():
        if study != "lr-transfer":
            write_large(folder / study / "runs", list(rows(trials)), 1, study=study, settings=_settings(study))
        found += _fit(folder / study, study, trials)
    return found


def _settings(study: str) -> str | None:
    return '{"across": "batch_size"}' if study == "comparison" else None


FIT = """
import resource, sys, time
from pathlib import Path
from analysis.pipeline import fit_results
start = time.perf_counter()
fit_results(Path(sys.argv[1]), None, "laptop")
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
BETWEEN = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
PER_MB = 1e6 if sys.platform == "darwin" else 1e3  # macOS counts bytes, Linux kB


def _fit(results: Path, study: str, trials: int) -> list[Row]:
    # Between the two is a small process: Linux counts the memory of the process that started one as its own.
    command: Sequence[str] = [sys.executable, "-c", BETWEEN, sys.executable, "-c", FIT, str(results)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    seconds, memory = map(float, done.stdout.split())
    return [
        row(f"fit of {study}", "large store", seconds, "s", note=f"{trials:,} trials"),
        row(f"peak memory of the fit of {study}", "large store", memory / PER_MB, "MB", note=f"{trials:,} trials"),
    ]

"""Bad days as a user sees them: python -m benchmarks.bad_days [--executor ray]. Root on Linux only: it mounts disks.

Every case calls `scionlab run` in a shell's way, harms its disk or its process once three trials are in the store, and
prints what was printed, the exit status and what the store holds; then it mends the harm, calls the same command again,
and prints that, too. tests/scionlab/sweep/test_bad_days.py holds the same to account.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scionlab.runs.store import RunStore

SPEC = """
from scionlab.spec.grid import trials
from scionlab.spec import Experiment, Preset

FIXED = dict(optimizer="scion", head_dim=8, depth=1, batch_size=4, seq_len=16, tokens=100 * 64, val_tokens=256,
             val_seq_len=16, data="stdlib", device="cpu")
GRID = trials(FIXED, width=[16, 32], lr=[0.01, 0.02, 0.05], seed=[0, 1])
SPEC = Experiment(name="mine", title="Mine", question="Does it run?", presets={"smoke": Preset(trials=GRID)})
"""
BEFORE = 3  # trials in the store when the disaster strikes

Disaster = Callable[[Path, subprocess.Popen[str]], None]


def _sh(*command: str) -> None:
    subprocess.run(command, check=True)


def _fill(disk: Path, _: object) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            return


def _empty(disk: Path, _: object) -> None:
    (disk / "filler").unlink()


def _tear(disk: Path, _: object) -> None:
    path = sorted((disk / "results/runs/runs").glob("*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:-50])


def _kill_a_worker(disk: Path, driver: subprocess.Popen[str]) -> None:
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    family = {driver.pid}
    for _ in rows:
        family |= {int(pid) for pid, parent, _ in rows if int(parent) in family}
    workers = [int(pid) for pid, _, what in rows if int(pid) in family and "Trainable" in what]  # as Tune calls them
    os.kill(workers[0], signal.SIGKILL)


def _nothing(disk: Path, _: object) -> None:
    return


CASES: dict[str, tuple[Disaster, Disaster]] = {
    "the disk is full": (_fill, _empty),
    "the disk becomes read-only": (
        lambda disk, _: _sh("mount", "-o", "remount,ro", str(disk)),
        lambda disk, _: _sh("mount", "-o", "remount,rw", str(disk)),
    ),
    "the results are removed": (lambda disk, _: shutil.rmtree(disk / "results"), _nothing),
    "a row is torn": (_tear, _nothing),
    "SIGTERM to the driver": (lambda _, driver: driver.terminate(), _nothing),
    "kill -9 of the driver": (lambda _, driver: driver.kill(), _nothing),
    "kill -9 of a worker": (_kill_a_worker, _nothing),
}


def run(disk: Path, executor: str, disaster: Disaster | None) -> None:
    """One call; prints its last lines, its exit status and the store."""
    command = [sys.executable, "-m", "scionlab", "run", "../mine.py", "--preset", "smoke", "--stack", "1"]
    store, began = RunStore(disk / "results" / "runs"), time.monotonic()
    driver = subprocess.Popen(
        [*command, "--executor", executor], cwd=disk, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if disaster is not None:
        while driver.poll() is None and len(store.runs()) < BEFORE:
            time.sleep(0.02)
        disaster(disk, driver)
        print(f"  after {time.monotonic() - began:.1f} s, with {BEFORE} or more trials in the store; then:")
        began = time.monotonic()
    printed, _ = driver.communicate(timeout=300)
    for line in printed.strip().splitlines()[-2:]:
        print(f"  | {line}")
    runs = store.runs()
    states = ", ".join(f"{count} {status}" for status, count in runs["status"].value_counts().items()) or "nothing"
    print(
        f"  exit status {driver.returncode} after {time.monotonic() - began:.1f} s; in the store: {states}", flush=True
    )


def main() -> int:
    """All cases, or those whose name holds a word."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bad_days", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--executor", default="inline")
    asked = parser.parse_args()
    for name, (disaster, mend) in CASES.items():
        if asked.words and not any(word in name for word in asked.words):
            continue
        if "worker" in name and asked.executor != "ray":  # there is none
            continue
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "mine.py").write_text(SPEC)
            disk = Path(folder, "disk")
            disk.mkdir()
            _sh("mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk))
            try:
                print(f"{name}, {asked.executor}")
                run(disk, asked.executor, disaster)
                mend(disk, None)
                print("  the same command again")
                run(disk, asked.executor, None)
            finally:
                _sh("umount", "-l", str(disk))
    return 0


if __name__ == "__main__":
    sys.exit(main())

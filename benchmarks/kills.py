"""Trials that are killed again and again: python -m benchmarks.kills [--times 50] [--seed 0] [--stems]

A sweep of four trials of some 30 s each is called under Ray, its driver or a worker is killed at a random time, and it
is called again, until it is done; then another one begins, until there were as many kills as asked for. Every row and
curve must be, bit for bit, that of a sweep that was let be. What a kill costs is counted by the model itself, a byte a
step: steps taken since the last end, less those that the checkpoints have gained.

With --stems each of the four is three budgets of one stem, half of whose steps decay; they must end as they do when
each is trained alone and let be. With --executor inline there is no Ray, and the driver, which trains, is always hit;
it is forked from a process that has loaded PyTorch, so that a call costs no time.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from forked import Forked  # type: ignore[import-not-found]  # noqa: E402
from processes import slow_model  # type: ignore[import-not-found]  # noqa: E402

from scionlab.runs.store import RunStore  # noqa: E402

STEPS, STEP_S = 1200, 0.02  # of a trial without a stem, and seconds a step at least
BUDGETS = (100, 200, 400)  # of a stem, in steps
# A width tells the trial, or the stem; each has another part of a run's state.
WIDTHS = (64, 96, 128, 160)
SPEC = f"""
from scionlab.spec import Experiment, Preset, Stage, Trial

FIXED = dict(
    model="slow_model:build", depth=1, batch_size=4, seq_len=16, val_tokens=2**12,
    val_seq_len=16, validate_every=2**14, data="stdlib", device="cpu",
)
LATER = Stage(from_tokens=600 * 64, batch_size=2, seq_len=32, lr=2**-6)
METHODS = (
    dict(optimizer="adam", lr=2**-8, width={WIDTHS[0]}, ema=0.99),
    dict(optimizer="scion", lr=2**-5, width={WIDTHS[1]}),
    dict(optimizer="muon", lr=2**-6, width={WIDTHS[2]}, clip_norm=0.5),
    dict(optimizer="scion-light", lr=2**-5, width={WIDTHS[3]}),
)
"""
ALONE = f"""{SPEC}
METHODS[1]["stages"] = [LATER]
TRIALS = [Trial(tokens={STEPS} * 64, **method, **FIXED) for method in METHODS]
"""
STEMS = f"""{SPEC}
DECAY = dict(schedule="trapezoid", decay_fraction=0.5, warmup=0.0)
TRIALS = [
    Trial(tokens=steps * 64, **DECAY, **method, **FIXED) for method in METHODS for steps in {BUDGETS}
]
"""
END = """
SPEC = Experiment(name="slow", title="Slow", question="Does it go on?", presets={"smoke": Preset(trials=TRIALS)})
"""
# In turn; the first word is the signal, the second whom it hits.
KINDS = {
    "ray": ("SIGKILL driver", "SIGTERM worker", "SIGTERM driver", "SIGKILL worker"),
    "inline": ("SIGKILL driver", "SIGTERM driver"),
}
LATEST_S = 30.0  # seconds from a call's first step, or from the kill before, to the next one
# What may differ between two runs of a trial.
CIRCUMSTANCES = ["wall_time_s", "tokens_per_s", "started_at", "git_commit", "compile_s", "stem_steps"]


@dataclass(frozen=True)
class Place:
    """How far the trials of a width were: steps taken by whatever process, and those that rows and checkpoints hold.

    Of the latter `stem` are those of their stem, which are held once.
    """

    taken: int = 0
    kept: int = 0
    stem: int = 0


# A call under way; `Forked` has the methods of a Popen.
Driver = subprocess.Popen[bytes] | Forked


class Sweep:
    """Calls of the sweep in a folder, and what they left; of stems or of single trials."""

    def __init__(self, folder: Path, stems: bool, executor: str) -> None:
        self.folder, self.steps_of, self.executor = folder, folder / "steps", executor
        self.steps_of.mkdir(parents=True)
        (folder / "slow_model.py").write_text(slow_model(STEP_S))
        (folder / "slow.py").write_text((STEMS if stems else ALONE) + END)
        self.trials = len(WIDTHS) * (len(BUDGETS) if stems else 1)
        self.store = RunStore(folder / "results" / "runs")
        self.drivers: set[int] = set()  # those under Ray so far; each tries the models on a batch before it trains

    def start(self, minutes: float, stem: str = "always") -> Driver:
        """Call it, with a checkpoint every so many minutes, and with this `--stem`."""
        options = ["--preset", "smoke", "--stack", "1", "--compile", "never", "--stem", stem]
        arguments = ["run", "slow.py", *options, "--checkpoint-minutes", str(minutes), "--executor", self.executor]
        env, said = os.environ | {"STEPS_OF": str(self.steps_of)}, self.folder / "output.txt"
        if self.executor == "inline":
            return Forked(arguments, env, self.folder, said)
        command = [sys.executable, "-m", "scionlab", *arguments, "--workers", "2"]
        with said.open("ab") as output:
            driver = subprocess.Popen(command, cwd=self.folder, env=env, stdout=output, stderr=output)
        self.drivers.add(driver.pid)
        return driver

    def workers(self) -> list[int]:
        """Living processes that have taken a step, but for a driver under Ray."""
        return sorted(pid for pid in {pid for _, pid, _ in self._counted()} if _lives(pid))

    def places(self) -> dict[int, Place]:
        """How far the trials of every width are; true when nobody trains."""
        taken: Counter[int] = Counter()
        for width, _, count in self._counted():
            taken[width] += count
        rows = self._finished()
        held = [(row.width, row.steps, row.stem_steps) for row in rows.itertuples()]  # steps, and the stem's of them
        for trial_id in self.store.checkpoints.trial_ids() - set(rows["trial_id"]):
            state = torch.load(self.store.root / "checkpoints" / f"{trial_id}.pt", weights_only=True)
            held.append((state["model"]["hidden.weight"].shape[0], state["step"], state["stem_steps"]))
        places = {}
        for width in WIDTHS:
            mine = [(steps, of_stem) for its, steps, of_stem in held if its == width]
            stem = max((of_stem for _, of_stem in mine), default=0)
            places[width] = Place(taken[width], stem + sum(steps - of_stem for steps, of_stem in mine), stem)
        return places

    def _counted(self) -> list[tuple[int, int, int]]:
        """Width, process and steps, of the workers so far."""
        names = [(path, *map(int, path.name.split("-"))) for path in self.steps_of.iterdir()]
        return [(width, pid, path.stat().st_size) for path, width, pid in names if pid not in self.drivers]

    def _finished(self) -> pd.DataFrame:
        runs = self.store.runs(columns=["trial_id", "width", "status", "steps", "stem_steps"])
        return runs[runs["status"] == "ok"]

    def left_over(self) -> list[str]:
        """Files of writes that never ended."""
        return [path.name for path in self.folder.rglob(".*.tmp")]

    @property
    def done(self) -> bool:
        """Whether every trial has its row."""
        return len(self._finished()) == self.trials


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
    return state != "Z"


class Killer:
    """Kills sweeps in turn, counts what that cost, and prints it."""

    def __init__(self, times: int, seed: int, minutes: float) -> None:
        self.times, self.minutes, self.random = times, minutes, random.Random(seed)
        self.kills = self.calls = self.most = 0

    def take_to_its_end(self, sweep: Sweep) -> None:
        """Call a sweep until it is done, killing what is left to kill."""
        before = dict.fromkeys(WIDTHS, Place())
        while not sweep.done:
            driver = sweep.start(self.minutes)
            self.calls += 1
            killed = 0
            while driver.poll() is None and self.kills < self.times and self._kill(sweep, driver):
                killed += 1
            status = driver.wait()
            _until(lambda: not sweep.workers())
            now = sweep.places()
            lost = {
                width: now[width].taken - before[width].taken - (now[width].kept - before[width].kept)
                for width in WIDTHS
            }
            before = now
            self.most = max(self.most, *lost.values())
            kept = ", ".join(
                f"{place.kept}" + f" ({place.stem} of a stem)" * (place.stem > 0) for place in now.values()
            )
            print(f"  exit status {status}; steps taken in vain {list(lost.values())}; kept: {kept}", flush=True)

    def _kill(self, sweep: Sweep, driver: Driver) -> bool:
        """Wait for a random time and kill; False where it ended before."""
        kinds = KINDS[sweep.executor]
        name, whom = kinds[self.kills % len(kinds)].split()
        _until(lambda: sweep.workers() or driver.poll() is not None)
        wait, began = self.random.uniform(0.0, LATEST_S), time.monotonic()
        try:
            driver.wait(wait)
            return False
        except subprocess.TimeoutExpired:
            pass
        if whom == "worker":
            _until(lambda: sweep.workers() or driver.poll() is not None)
            if driver.poll() is not None:
                return False
            os.kill(self.random.choice(sweep.workers()), signal.Signals[name])
        else:
            driver.send_signal(signal.Signals[name])
            driver.wait()
        self.kills += 1
        print(f"  {self.kills}: {name} to the {whom} {time.monotonic() - began:.1f} s later", flush=True)
        return True


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("a process has not ended, or not begun, in ten minutes")
        time.sleep(0.1)


def differences(one: RunStore, other: RunStore) -> list[str]:
    """What is not the same, bit for bit, in two stores of the same trials."""
    found = []
    for table in ("runs", "curves"):
        left, right = (getattr(store, table)().drop(columns=CIRCUMSTANCES, errors="ignore") for store in (one, other))
        try:
            pd.testing.assert_frame_equal(left, right, check_exact=True)
        except AssertionError as error:
            found.append(f"{table}: {error}")
    return found


def main() -> int:
    """Exit status 0 if all numbers are those of the sweep that was let be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stems", action="store_true", help="budgets of common stems for single trials")
    parser.add_argument("--executor", choices=tuple(KINDS), default="ray")
    parser.add_argument("--minutes", type=float, default=0.05, help="from one checkpoint to the next; default: 0.05")
    asked = parser.parse_args()
    killer, found, sweeps, left = Killer(asked.times, asked.seed, asked.minutes), list[str](), 0, 0
    with tempfile.TemporaryDirectory() as name:
        whole, began = Sweep(Path(name, "whole"), asked.stems, asked.executor), time.monotonic()
        if whole.start(float("inf"), stem="never").wait():
            print((whole.folder / "output.txt").read_text())
            return 1
        seconds = time.monotonic() - began
        print(f"let be: {whole.trials} trials in {seconds:.0f} s, start and end included", flush=True)
        while killer.kills < asked.times:
            sweeps += 1
            print(f"sweep {sweeps}", flush=True)
            sweep = Sweep(Path(name, f"{sweeps}"), asked.stems, asked.executor)
            killer.take_to_its_end(sweep)
            found += differences(sweep.store, whole.store)
            left += len(sweep.left_over())
    print(f"{killer.kills} kills of {sweeps} sweeps in {killer.calls} calls")
    print(f"steps of one width taken in vain: {killer.most} at most between two calls")
    print(f"files of writes that never ended: {left}")
    print("every row and curve is that of the sweep that was let be" if not found else "\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

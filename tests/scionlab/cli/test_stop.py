import signal
import time

import pandas as pd
import pytest
from forked import Forked
from stores import numbers

from scionlab.runs.status import statuses
from scionlab.runs.store import RunStore


def start_sweep(spec, results, env, cwd):
    arguments = ["run", str(spec), "--preset", "smoke", "--results", str(results), "--workers", "2", "--stack", "2"]
    return Forked(arguments, env, cwd, cwd / "output.txt")


def wait_for_rows(store, count, process):
    deadline = time.monotonic() + 120
    while len(store.finished()) < count:
        assert process.poll() is None, "the sweep ended before it was to be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def written(store: RunStore) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (store.root / "runs").glob("*.parquet")}


@pytest.mark.slow
def test_a_killed_driver_loses_no_finished_trial(cli, clean_environment, tmp_path, spec_file):
    # 12 trials in six stacks, of about a second each: enough for the kill to land in the middle.
    spec = spec_file([2**-7, 2**-5], seeds=3, steps=100)
    store = RunStore(tmp_path / "killed" / "runs")
    process = start_sweep(spec, tmp_path / "killed", clean_environment, tmp_path)
    wait_for_rows(store, 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(3)  # workers may finish the trials they are at
    before = written(store)
    assert 2 <= len(before) < 12
    assert store.sweeps()["status"].item() == "running"  # nobody was left to say otherwise
    assert [(found.state, found.left) for found in statuses(store)] == [("killed", 12 - len(before))]

    done = cli("run", spec, "--preset", "smoke", "--results", "killed", "--workers", "2", "--stack", "2")
    assert done.returncode == 0, done.stderr
    assert f"trained {12 - len(before)} of 12 trials" in done.stdout
    after = written(store)
    assert {name: after[name] for name in before} == before
    assert store.runs()["stack"].between(1, 2).all()

    whole = cli("run", spec, "--preset", "smoke", "--results", "whole", "--executor", "inline", "--stack", "2")
    assert whole.returncode == 0, whole.stderr
    uninterrupted = RunStore(tmp_path / "whole" / "runs")
    pd.testing.assert_frame_equal(numbers(store), numbers(uninterrupted), check_exact=True)


@pytest.mark.slow
def test_asked_to_stop_it_stops_and_says_how_to_go_on(clean_environment, tmp_path, spec_file):
    """By Ctrl-C; SIGTERM is asked in test_kept.py."""
    spec = spec_file([2**-7, 2**-5], seeds=3, steps=100)
    store = RunStore(tmp_path / "results" / "runs")
    process = start_sweep(spec, tmp_path / "results", clean_environment, tmp_path)
    wait_for_rows(store, 2, process)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    output = (tmp_path / "output.txt").read_text()
    assert process.returncode == 130, output
    assert "run the same command to go on" in output
    assert "Traceback" not in output
    assert 2 <= len(store.finished()) < 12
    assert store.sweeps()["status"].item() == "interrupted"

import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from processes import FOREGROUND
from stores import numbers

from scionlab.runs.status import statuses
from scionlab.runs.store import RunStore


def start_sweep(spec, results, env, cwd):
    arguments = ["run", str(spec), "--preset", "smoke", "--results", str(results), "--workers", "2", "--stack", "4"]
    # Into a file: a pipe would stay open as long as any helper process of a killed driver.
    with (cwd / "output.txt").open("w") as output:
        command = [sys.executable, "-c", FOREGROUND, *arguments]
        return subprocess.Popen(command, stdout=output, stderr=output, env=env, cwd=cwd)


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
    # 24 trials of about a third of a second each: enough for the kill to land in the middle.
    spec = spec_file([2**-7, 2**-6, 2**-5, 2**-4], seeds=3, steps=150)
    store = RunStore(tmp_path / "killed" / "runs")
    process = start_sweep(spec, tmp_path / "killed", clean_environment, tmp_path)
    wait_for_rows(store, 4, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(3)  # workers may finish the trials they are at
    before = written(store)
    assert 4 <= len(before) < 24
    assert store.sweeps()["status"].item() == "running"  # nobody was left to say otherwise
    assert [(found.state, found.left) for found in statuses(store)] == [("killed", 24 - len(before))]

    done = cli("run", spec, "--preset", "smoke", "--results", "killed", "--workers", "2", "--stack", "4")
    assert done.returncode == 0, done.stderr
    assert f"trained {24 - len(before)} of 24 trials" in done.stdout
    after = written(store)
    assert {name: after[name] for name in before} == before
    assert store.runs()["stack"].between(1, 4).all()

    whole = cli("run", spec, "--preset", "smoke", "--results", "whole", "--executor", "inline", "--stack", "4")
    assert whole.returncode == 0, whole.stderr
    uninterrupted = RunStore(tmp_path / "whole" / "runs")
    pd.testing.assert_frame_equal(numbers(store), numbers(uninterrupted), check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_asked_to_stop_it_stops_and_says_how_to_go_on(asked, clean_environment, tmp_path, spec_file):
    spec = spec_file([2**-7, 2**-6, 2**-5, 2**-4], seeds=3, steps=150)
    store = RunStore(tmp_path / "results" / "runs")
    process = start_sweep(spec, tmp_path / "results", clean_environment, tmp_path)
    wait_for_rows(store, 2, process)
    process.send_signal(asked)
    process.wait(timeout=60)
    output = (tmp_path / "output.txt").read_text()
    assert process.returncode == 130, output
    assert "run the same command to go on" in output
    assert "Traceback" not in output
    assert 2 <= len(store.finished()) < 24
    assert store.sweeps()["status"].item() == "interrupted"

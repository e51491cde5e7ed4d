"""`scionlab status`: counts, reasons, the time left, and whether a sweep that says it runs does."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from synthetic import WHEN, fill, run_row, sweep_row

from scionlab.runs import status as status_module
from scionlab.runs.status import failures, state_of, statuses
from scionlab.runs.store import RunStore
from scionlab.spec.loading import load_experiment
from scionlab.sweep import heartbeat as heartbeat_module
from scionlab.sweep import plan_sweep
from scionlab.sweep.heartbeat import Heartbeat

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results" / "runs")


def sweep(ids, **fields):
    return sweep_row(ids) | {"updated_at": NOW, "host": platform.node(), "pid": os.getpid()} | fields


def failed(trial_id, text):
    return run_row(trial_id, "scion", 32, 0.1, 0, None) | {"status": "error", "error": text, "wall_time_s": None}


def test_counts_reasons_best_losses_and_time_left(call, store):
    store.write_run(run_row("a", "scion", 32, 0.1, 0, 2.5) | {"wall_time_s": 30.0}, [])
    store.write_run(run_row("b", "adam", 32, 0.1, 0, 2.75) | {"wall_time_s": 90.0}, [])
    store.write_run(run_row("c", "adam", 32, 0.9, 0, None) | {"wall_time_s": 0.0}, [])
    for name in ("d", "e"):
        store.write_run(failed(name, "Traceback …\n  File\nRuntimeError: out of luck\n"), [])
    store.write_run(failed("f", "Traceback …\nMemoryError"), [])
    for name in ("a", "d", "g", "of-another-sweep"):  # of a, which is finished, nobody has removed it
        store.checkpoints.save(name, b"nobody reads it")
    costs = {"a": 1.0, "b": 3.0, "c": 5.0, "d": 1.0, "e": 1.0, "f": 1.0, "g": 3.0}
    store.write_sweep(sweep(list(costs), trial_costs=list(costs.values()), status="interrupted", workers=2))
    (found,) = json.loads(call("status", "--json").out)["sweeps"]
    assert found == {
        "experiment": "width",
        "preset": "laptop",
        "state": "interrupted",
        "trials": 7,
        "ok": 2,
        "diverged": 1,
        "failed": 3,
        "left": 4,
        "kept": 2,
        "failures": {"RuntimeError: out of luck": 2, "MemoryError": 1},
        "seconds_left": (1 + 1 + 1 + 3) * (30 + 90) / (1 + 3) / 2,
        "updated_at": NOW.isoformat(),
        "best": {"scion": 2.5, "adam": 2.75},
        "workers": 2,
    }
    text = call("status", "width").out
    assert "3 of 7 trials done, 1 of them diverged; 3 failed; 4 left, the failed ones included" in text
    assert "time left: about 1:30 with 2 at a time\n2 of the trials left go on from a checkpoint\n" in text
    assert "failed, 2 times: RuntimeError: out of luck" in text
    assert text.index("scion 2.5") < text.index("adam 2.75")


def test_each_experiment_and_preset_has_a_line_for_its_last_call(call, store):
    for name, preset, day, ids in (("one", "smoke", 1, "a"), ("two", "smoke", 2, "ab"), ("one", "smoke", 3, "abc")):
        when = NOW + timedelta(days=day)
        store.write_sweep(
            sweep(list(ids), experiment=name, preset=preset, started_at=when, updated_at=when, sweep_id=f"{day}")
        )
    found = json.loads(call("status", "--json").out)["sweeps"]
    assert [(row["experiment"], row["trials"]) for row in found] == [("two", 2), ("one", 3)]
    lines = call("status").out.splitlines()
    assert [line.split()[0] for line in lines if " smoke " in line] == ["two", "one"]
    assert len(json.loads(call("status", "one", "--json").out)["sweeps"]) == 1


def test_stores_older_than_signs_of_life_can_be_read(call, tmp_path):
    fill(tmp_path / "results" / "runs", optimizers=("scion",), widths=(32,), seeds=1)
    (found,) = json.loads(call("status", "--json").out)["sweeps"]
    assert (found["state"], found["trials"], found["ok"], found["failed"], found["left"]) == ("done", 9, 7, 1, 2)
    assert found["seconds_left"] == pytest.approx(2 * 1.0 / 2)  # no costs: all trials count the same
    assert found["updated_at"] == WHEN.isoformat()


def test_without_a_store_it_says_how_to_make_one(call):
    done = call("status")
    assert done.code == 0
    assert "scionlab run width --preset smoke" in done.out
    assert json.loads(call("status", "--json").out) == {"results": "results", "sweeps": [], "searches": []}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "running"),
        ({"status": "done"}, "done"),
        ({"status": "interrupted"}, "interrupted"),
        ({"host": "elsewhere"}, "running"),
        ({"host": "elsewhere", "updated_at": NOW - timedelta(minutes=6)}, "killed"),
        ({"updated_at": NOW - timedelta(minutes=6)}, "killed"),  # another process has the number
        ({"updated_at": NOW + timedelta(hours=3)}, "running"),  # its clock is ahead
        ({"updated_at": None}, "killed"),
        ({"pid": float("nan")}, "killed"),
    ],
)
def test_a_sweep_runs_if_there_is_a_sign_of_it(fields, state):
    assert state_of({**sweep(["a"], status="running"), **fields}, NOW) == state


def test_a_process_that_has_gone_does_not_run():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert state_of(sweep(["a"], status="running", pid=gone.pid), NOW) == "killed"
    assert state_of(sweep(["a"], status="running", pid=1), NOW) == "running"  # not ours, but it is there


def test_a_heart_beats_until_the_sweep_ends_and_forgives_a_full_disk(monkeypatch):
    monkeypatch.setattr(heartbeat_module, "INTERVAL_S", 0.01)
    beats, enough = [], heartbeat_module.threading.Event()

    def beat():
        beats.append(1)
        if len(beats) == 2:
            raise OSError(28, "No space left on device")
        if len(beats) == 5:
            enough.set()

    with Heartbeat(beat):
        assert enough.wait(10)
    count = len(beats)
    assert not enough.wait(0.05) or len(beats) == count


def test_a_file_is_looked_up_as_it_stands(call, spec_file, tmp_path):
    path = spec_file([2**-5])
    done = call("status", path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "preset: none of" in done.err
    planned = json.loads(call("status", path, "--preset", "smoke", "--json").out)["sweeps"][0]
    assert (planned["state"], planned["trials"], planned["left"], planned["updated_at"]) == ("planned", 4, 4, None)
    assert planned["kept"] == 0
    store = RunStore(tmp_path / "results" / "runs")
    store.check_writable()
    store.checkpoints.save(plan_sweep(load_experiment(str(path)), "smoke", store).todo[0].trial_id, b"")
    assert json.loads(call("status", path, "--preset", "smoke", "--json").out)["sweeps"][0]["kept"] == 1
    assert "1 of the trials left goes on from a checkpoint" in call("status", path, "--preset", "smoke").out
    assert "1 of the trials left goes on from a checkpoint" in call("run", path, "--preset", "smoke", "--dry-run").out
    call("run", path, "--preset", "smoke", "--executor", "inline", "--stack", "1")
    (found,) = json.loads(call("status", path, "--json").out)["sweeps"]
    assert (found["state"], found["left"], found["seconds_left"]) == ("done", 0, 0)
    (changed,) = json.loads(call("status", spec_file([2**-5, 2**-4]), "--json").out)["sweeps"]
    assert (changed["state"], changed["trials"], changed["left"]) == ("changed", 8, 4)
    assert changed["seconds_left"] > 0
    assert call("status", "mine").out.startswith("mine/smoke: done")
    assert "did you mean 'mini'" not in call("status", "nowhere").err


def test_the_last_line_of_a_traceback_is_the_reason(store):
    texts = ["Traceback\nKeyError: 'a'\n\n", "KeyError: 'a'", "", None]
    for n, text in enumerate(texts):
        store.write_run(failed(f"{n}", text), [])
    assert failures(store.runs()) == {"KeyError: 'a'": 2, "unknown": 2}


def test_reading_the_status_does_not_load_torch(tmp_path, store):
    store.write_sweep(sweep(["a"]))
    code = (
        "import sys; sys.argv = ['scionlab', 'status']\nfrom scionlab.cli import app\n"
        "app(standalone_mode=False); print([m for m in ('torch', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_running_sweep_is_the_state_even_if_a_later_call_was_stopped(store):
    later = NOW + timedelta(seconds=1)
    now = datetime.now(UTC)
    store.write_sweep(sweep(["a"], sweep_id="1", status="running", updated_at=now))
    store.write_sweep(sweep(["a"], sweep_id="2", status="interrupted", started_at=later))
    assert [found.state for found in statuses(store)] == ["running"]
    assert timedelta(seconds=3 * heartbeat_module.INTERVAL_S) < status_module.SILENT

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from stores import numbers

from scionlab.status import statuses
from scionlab.store import RunStore


def scionlab(*arguments, env, cwd):
    command = [sys.executable, "-m", "scionlab", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=300, check=False)


@pytest.fixture
def cli(clean_environment, tmp_path):
    return lambda *arguments: scionlab(*arguments, env=clean_environment, cwd=tmp_path)


def bad_specs(text):
    fixed = f'optimizer="scion", lr=0.1, width=32, data="path:{text}", device="cpu"'
    head = "from scionlab.spec import Experiment, Preset, Trial\n"
    wrap = 'SPEC = Experiment(name="x", title="", question="", presets={{"laptop": Preset(trials=({},))}})\n'
    trial = f"Trial(**(dict({fixed}) | dict({{}})))"
    return {
        "unknown optimizer": (
            head + wrap.format(trial.format('optimizer="sconi"')),
            "'sconi' is not known (did you mean 'scion'?)",
        ),
        "negative width": (head + wrap.format(trial.format("width=-32")), "width: -32 is not allowed"),
        "head size": (head + wrap.format(trial.format("head_dim=24")), "head_dim: 24 does not divide width 32"),
        "missing text": (head + wrap.format(trial.format('data="path:no/such.txt"')), "cannot be read: No such file"),
        "empty text": (head + wrap.format(trial.format('data="path:empty.txt"')), "'path:empty.txt' is empty"),
        "short text": (head + wrap.format(trial.format("val_tokens=2**20")), "too short for val_tokens 1048576"),
        "unknown corpus": (head + wrap.format(trial.format('data="stolib"')), "did you mean 'stdlib'"),
        "unknown option": (
            head + wrap.format(trial.format('options={"radius": 2.0}')),
            "options.radius: no such field",
        ),
        "batch beyond an epoch": (
            head + wrap.format(trial.format("batch_size=10**6, val_tokens=64")),
            "batch_size: 1000000 is not allowed",
        ),
        "unknown field": (head + wrap.format(trial.format("breadth=3")), "breadth: no such field"),
        "the same trial twice": (
            head + wrap.format(f"{trial.format('')}, {trial.format('')}"),
            "holds this trial twice",
        ),
        "no spec": ("x = 1\n", "has no SPEC"),
        "syntax": ("SPEC = (\n", "SyntaxError"),
        "an exception": ("x = 1\ny = {}['lr']\n", "bad.py:2: KeyError: 'lr'"),
    }


@pytest.mark.parametrize("case", bad_specs("x"))
def test_a_bad_spec_is_one_line_and_status_2(case, cli, tmp_path, text_file):
    code, expected = bad_specs(text_file)[case]
    (tmp_path / "bad.py").write_text(code)
    (tmp_path / "empty.txt").write_text("\n")
    done = cli("run", "bad.py", "--executor", "inline")
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "width", "--preset", "labtop"], "preset: 'labtop' is not known (did you mean 'laptop'?)"),
        (["run", "widht"], "experiment: 'widht' is not known (did you mean 'width'?)"),
        (["run", "nowhere.py"], "experiment: 'nowhere.py' is not a file"),
        (["run", "width", "--preset", "smoke", "--executor", "slurm"], "executor: 'slurm' is not known"),
        (["run", "width", "--preset", "smoke", "--results", "file"], "cannot write to 'file/runs'"),
        (["fit", "lr-transfer"], "no sweep of 'width' with preset 'laptop'"),
        (["fit"], "no sweep with preset 'laptop'"),
        (["fit", "lr-transfr"], "did you mean 'lr-transfer'"),
        (["report", "--experiment", "depth"], "no sweep of 'depth'"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments, expected, cli, tmp_path):
    (tmp_path / "file").write_text("")
    done = cli(*arguments)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_read_only_folder_loses_nothing(cli, tmp_path, spec_file):
    if os.geteuid() == 0:
        pytest.skip("root can write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    done = cli("run", spec_file([0.1]), "--preset", "smoke", "--results", "locked", "--executor", "inline")
    assert done.returncode == 2
    assert "cannot write to" in done.stderr


def test_dry_run_prints_cells_and_cost_and_writes_nothing(cli, tmp_path, spec_file):
    done = cli("run", spec_file([0.25, 0.125]), "--preset", "smoke", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "8 of 8 trials to train" in done.stdout
    assert "FLOPs, about" in done.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_from_spec_to_report(cli, tmp_path, spec_file):
    spec = spec_file([2**-7, 2**-5, 2**-3])
    done = cli("run", spec, "--preset", "smoke", "--executor", "inline")
    assert done.returncode == 0, done.stderr
    assert "mine/smoke: trained 12 of 12 trials" in done.stdout
    done = cli("report", "--experiment", "mine", "--preset", "smoke")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("report: results/report/mine.html")
    assert "Does it run?" in (tmp_path / "results/report/mine.html").read_text()
    fit = json.loads((tmp_path / "results/fits/mine/lr_transfer.json").read_text())
    assert {"optimizer", "width", "lr_opt", "lr_opt_low", "lr_opt_high", "at_edge", "val_loss_opt"} <= set(
        fit["optima"][0]
    )
    assert {"drift", "drift_low", "drift_high", "transfer_regret"} <= set(fit["transfers"][0])
    rows = pd.read_csv(tmp_path / "results/fits/mine/lr_transfer.csv")
    assert list(rows["width"]) == [16, 32]
    names = {path.name for path in (tmp_path / "results/figures/mine").iterdir()}
    assert names == {f"{n}.{s}" for n in ("transfer", "lr_optimum", "loss_curves") for s in ("svg", "png", "csv")}


# A test run in the background ignores Ctrl-C, and its children would inherit that.
FOREGROUND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from scionlab.cli import main; main()"
)


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


def test_help_is_there_without_the_heavy_libraries(clean_environment, tmp_path):
    code = "import scionlab.cli, sys; print([m for m in ('torch', 'ray', 'matplotlib') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean_environment, check=True
    )
    assert done.stdout.strip() == "[]"
    help_text = scionlab("run", "--help", env=clean_environment, cwd=tmp_path).stdout
    assert "scionlab run width --preset smoke" in help_text

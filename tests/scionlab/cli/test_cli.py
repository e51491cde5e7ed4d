import json
import os
import subprocess
import sys

import pandas as pd
import pytest


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
def test_a_bad_spec_is_one_line_and_status_2(case, call, tmp_path, text_file):
    code, expected = bad_specs(text_file)[case]
    (tmp_path / "bad.py").write_text(code)
    (tmp_path / "empty.txt").write_text("\n")
    done = call("run", "bad.py", "--executor", "inline")
    assert done.code == 2, done.err
    assert expected in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "width", "--preset", "labtop"], "preset: 'labtop' is not known (did you mean 'laptop'?)"),
        (["run", "widht"], "experiment: 'widht' is not known (did you mean 'width'?)"),
        (["run", "nowhere.py"], "experiment: 'nowhere.py' is not a file"),
        (["run", "width", "--preset", "smoke", "--executor", "slurm"], "executor: 'slurm' is not known"),
        (["run", "width", "--preset", "smoke", "--results", "file"], "cannot write to 'file/runs'"),
        (["fit", "lr-transfer"], "no sweep of 'width' in 'results/runs'"),
        (["fit"], "no sweep in 'results/runs'"),
        (["fit", "width"], "no sweep of 'width' in"),
        (["fit", "--preset", "full"], "no sweep with preset 'full' in"),
        (["fit", "lr-transfr"], "did you mean 'lr-transfer'"),
        (["report", "depth"], "no sweep of 'depth'"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments, expected, call, tmp_path):
    (tmp_path / "file").write_text("")
    done = call(*arguments)
    assert done.code == 2, done.err
    assert expected in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err


def test_a_read_only_folder_loses_nothing(cli, tmp_path, spec_file):
    if os.geteuid() == 0:
        pytest.skip("root can write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    done = cli("run", spec_file([0.1]), "--preset", "smoke", "--results", "locked", "--executor", "inline")
    assert done.returncode == 2
    assert "cannot write to" in done.stderr


def test_dry_run_prints_cells_and_cost_and_writes_nothing(call, tmp_path, spec_file):
    done = call("run", spec_file([0.25, 0.125]), "--preset", "smoke", "--dry-run")
    assert done.code == 0, done.err
    assert "8 of 8 trials to train" in done.out
    assert "FLOPs, about" in done.out
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_from_spec_to_report(shell, tmp_path, spec_file):
    spec = spec_file([2**-7, 2**-5, 2**-3])
    done = shell("run", spec, "--preset", "smoke", "--executor", "inline")
    assert done.returncode == 0, done.stderr
    assert "mine/smoke: trained 12 of 12 trials" in done.stdout
    done = shell("report", "mine")
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


def test_help_is_there_without_the_heavy_libraries(shell, clean_environment):
    code = "import scionlab.cli, sys; print([m for m in ('torch', 'ray', 'matplotlib') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean_environment, check=True
    )
    assert done.stdout.strip() == "[]"
    help_text = shell("run", "--help").stdout
    assert "scionlab run width --preset smoke" in help_text


def test_a_run_loads_only_what_it_needs(clean_environment, tmp_path, spec_file):
    arguments = ["run", str(spec_file([0.1], seeds=1)), "--preset", "smoke", "--executor", "inline", "--stack", "1"]
    code = f"""
import sys
from scionlab.cli import main
sys.argv = ["scionlab", *{arguments}]
try:
    main()
finally:
    print([m for m in ("torch._dynamo", "scipy.stats", "ray", "matplotlib") if m in sys.modules])
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment, cwd=tmp_path, check=True)
    assert "trained 2 of 2 trials" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"

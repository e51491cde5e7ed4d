"""Beside folders called `experiments` and `analysis` of the caller's: the command works, and so does their code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from own_code import MODEL

from scionlab.own.packages import share
from scionlab.spec.loading import experiment_names, load_experiment

ROOT = Path(__file__).parents[3]
MINE = """
from analysis.sizes import WIDTHS
from experiments.common import TOKENS

from scionlab.spec.grid import trials
from scionlab.spec import Experiment, Preset

FIXED = {
    "optimizer": "adam", "lr": 0.01, "model": "analysis.net:build", "tokens": TOKENS, "batch_size": 4, "seq_len": 16,
    "val_tokens": 256, "val_seq_len": 16, "device": "cpu",
}
SPEC = Experiment(
    name="mine", title="Mine", question="Does it run?", presets={"smoke": Preset(trials=trials(FIXED, width=WIDTHS))}
)
"""


@pytest.fixture(params=["regular", "namespace"])
def beside(request, tmp_path):
    """A folder of research code with an `experiments` and an `analysis` of its own."""
    for package in ("experiments", "analysis"):
        (tmp_path / package).mkdir()
        if request.param == "regular":
            (tmp_path / package / "__init__.py").write_text(f"NAME = 'my {package}'\n")
    (tmp_path / "experiments" / "common.py").write_text("TOKENS = 2**9\n")
    (tmp_path / "analysis" / "sizes.py").write_text("WIDTHS = [8, 16]\n")
    (tmp_path / "analysis" / "net.py").write_text(MODEL)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


@pytest.mark.parametrize("how", ["module", "pythonpath"])
def test_the_command_works_beside_packages_of_the_same_names(beside, clean_environment, how):
    path = f".:{ROOT}" if how == "pythonpath" else str(ROOT)
    start = ["-m", "scionlab"] if how == "module" else ["-c", "from scionlab.cli import main; main()"]

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, *start, *arguments],
            cwd=beside, env=clean_environment | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    planned = json.loads(call("run", "width", "--preset", "smoke", "--dry-run", "--json"))
    assert planned["trials"] == planned["left"] > 0
    executor = "ray" if how == "module" else "inline"
    done = json.loads(call("run", "mine.py", "--preset", "smoke", "--executor", executor, "--workers", "1", "--json"))
    assert (done["ok"], done["failed"]) == (2, 0)
    call("fit", "--preset", "smoke")


def test_a_package_of_the_callers_is_not_imported_by_the_way(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "mine.py").write_text(MINE.partition("\n\n")[2].replace("TOKENS", "2**9").replace("WIDTHS", "[8]"))
    assert load_experiment(str(tmp_path / "mine.py")).name == "mine"
    share("experiments")
    assert "experiments" not in sys.modules


def test_the_callers_experiments_stay_the_callers(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("NAME = 'mine'\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        monkeypatch.delitem(sys.modules, name)
    import experiments

    assert experiments.NAME == "mine"
    assert load_experiment("seq").name == "seq"
    assert {"width", "seq", "batch"} <= set(experiment_names())
    assert sys.modules["experiments"] is experiments
    assert not [name for name in sys.modules if name.startswith("experiments.")]
    monkeypatch.delitem(sys.modules, "experiments")

"""What all commands have in common: help, versions, mistakes, JSON, completion."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from synthetic import fill

from scionlab.cli import app, completion
from scionlab.spec.loading import experiment_names

COMMANDS = ("run", "status", "fit", "figures", "report", "plan", "import", "export", "explain", "doctor", "compact")
COMMANDS += ("tune", "transfer", "tokenize")


def command_named(name):
    return next(c for c in app.registered_commands if (c.name or c.callback.__name__.replace("_", "-")) == name)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_its_exit_codes(name, call):
    done = call(name, "--help")
    assert done.code == 0
    assert f"scionlab {name} " in done.out or f"scionlab {name}\n" in done.out.replace(" \n", "\n")
    assert "Exit status: 0" in done.out
    assert done.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_print_json(name, call):
    assert "--json" in call(name, "--help").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "error: No such command 'rnu'. Did you mean 'run'?"),
        (["run", "width", "--prest", "smoke"], "error: No such option: --prest"),
        (["run"], "error: Missing argument 'experiment'."),
        (["run", "width", "--workers", "none"], "error: Invalid value for '--workers'"),
        (["export"], "error: output: is missing; give --output FILE"),
        (["run", "width", "--track", "tb"], "error: track: 'tb' is not known"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, call):
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(message)
    assert len(done.err.splitlines()) == 1


def test_without_arguments_there_is_help(call):
    done = call()
    assert done.code == 2
    assert "Usage:" in done.out + done.err


def test_the_version_is_that_of_the_package_python_and_torch(call):
    done = call("--version")
    assert done.code == 0
    assert done.out.startswith("scionlab 0.")
    assert f"Python {sys.version.split()[0]}, torch " in done.out


def test_a_sweep_as_json_is_one_document_and_progress_is_elsewhere(call, spec_file):
    path = spec_file([2**-5])
    arguments = ["run", path, "--preset", "smoke", "--executor", "inline", "--stack", "1", "--json"]
    done = call(*arguments)
    found = json.loads(done.out)
    assert done.code == 0
    assert {"trials": 4, "trained": 4, "ok": 4, "diverged": 0, "failed": 0}.items() <= found.items()
    assert found["failures"] == {}
    assert "4/4 trials" in done.err
    assert json.loads(call(*arguments).out)["trained"] == 0
    planned = json.loads(call("run", path, "--preset", "smoke", "--dry-run", "--json").out)
    assert (planned["trials"], planned["left"], planned["flops"]) == (4, 0, 0)


def test_a_failed_trial_is_status_1_and_in_the_json(call, spec_file, monkeypatch):
    from scionlab.sweep import job

    def boom(*arguments):
        raise RuntimeError("boom")

    monkeypatch.setattr(job, "Run", boom)
    done = call("run", spec_file([2**-5]), "--preset", "smoke", "--executor", "inline", "--stack", "1", "--json")
    found = json.loads(done.out)
    assert done.code == 1
    assert found["failed"] == len(found["failures"]) == 4
    assert all("RuntimeError: boom" in text for text in found["failures"].values())


def test_import_and_compact_print_json(call, tmp_path):
    (tmp_path / "mine.csv").write_text("tokens,batch_size,seq_len,lr,val_loss\n1e6,8,64,0.1,3.0\n1e6,8,64,0.2,nan\n")
    found = json.loads(call("import", "mine.csv", "--json").out)
    assert {"name": "mine", "runs": 2, "diverged": 1, "replaced": 0}.items() <= found.items()
    fill(tmp_path / "results" / "runs", optimizers=("scion",), widths=(32,), seeds=1)
    (curves, layers, scores, runs) = json.loads(call("compact", "--json").out)["tables"]
    assert (runs["table"], runs["merged"], runs["left"]) == ("runs", 7, 1)
    assert curves["merged"] == 7
    assert layers["rows"] == scores["rows"] == 0


def completed(words, cwd, shell="bash"):
    """What a shell would be offered for the last word, and the modules that were loaded for it."""
    code = (
        "import sys, atexit; sys.argv = ['scionlab']\n"
        "atexit.register(lambda: print([m for m in ('torch', 'ray') if m in sys.modules], file=sys.stderr))\n"
        "from scionlab.cli import app; app(prog_name='scionlab')"
    )
    how = {"_SCIONLAB_COMPLETE": f"complete_{shell}", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | how, cwd=cwd, check=False
    )
    return done.stdout.split(), done.stderr.strip()


def test_a_shell_is_offered_names_without_torch(tmp_path):
    (tmp_path / "my_experiment.py").write_text("")
    offered, loaded = completed(["scionlab", "run", ""], tmp_path)
    assert {*experiment_names(), "my_experiment.py"} <= set(offered)
    assert loaded == "[]"
    offered, loaded = completed(["scionlab", "run", "width", "--optimizer", "sc"], tmp_path)
    assert offered == ["scion", "scion-light"]
    assert loaded == "[]"


@pytest.mark.parametrize("command", ["fit", "figures", "report", "export", "plan", "status"])
def test_a_shell_is_offered_the_experiments_of_the_store(command, tmp_path):
    fill(tmp_path / "results" / "runs", optimizers=("scion",), widths=(32,), seeds=1)
    offered, loaded = completed(["scionlab", command, "w"], tmp_path)
    assert (offered, loaded) == (["width"], "[]")
    if command == "fit":
        assert completed(["scionlab", command, "lr"], tmp_path)[0] == ["lr-transfer"]
    if command in ("fit", "figures", "report", "export"):
        assert completed(["scionlab", command, "width", "--preset", "sm"], tmp_path) == (["smoke"], "[]")
        assert completed(["scionlab", command, "--experiment", "width", "--preset", "sm"], tmp_path)[0] == ["smoke"]


def test_presets_are_those_of_the_experiment_on_the_line(spec_file):
    def offered(experiment, incomplete):
        return completion.complete_preset(SimpleNamespace(params={"experiment": experiment}), incomplete)

    assert offered(str(spec_file([0.1])), "") == ["smoke"]
    assert offered("nowhere.py", "l") == ["laptop"]
    assert offered("width", "g") == ["gpu"]
    line = SimpleNamespace(params={"experiment": None, "option": str(spec_file([0.1]))})
    assert completion.complete_preset(line, "") == ["smoke"]


def test_optimizers_are_those_of_the_table():
    from scionlab.optim import OPTIMIZERS

    assert completion.optimizer_names() == list(OPTIMIZERS)


def test_experiments_of_the_store_are_offered(tmp_path, caplog):
    line = SimpleNamespace(params={"results": tmp_path / "results"})
    assert completion.complete_stored(line, "") == []
    fill(tmp_path / "results" / "runs", optimizers=("scion",), widths=(32,), seeds=1)
    assert completion.complete_stored(line, "w") == ["width"]
    (tmp_path / "results" / "runs" / "sweeps" / "torn.parquet").write_bytes(b"PAR1")
    assert completion.complete_stored(line, "w") == ["width"]
    assert caplog.text == ""


def test_studies_are_offered():
    assert completion.complete_study("batch") == ["batch-scaling"]


@pytest.mark.parametrize("command", [["status"], ["doctor", "--help"]])
def test_a_terminal_without_unicode_is_no_reason_to_crash(command, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    fill(tmp_path / "results" / "runs", optimizers=("scion",), widths=(32,), seeds=1)
    done = subprocess.run(
        [sys.executable, "-m", "scionlab", *command], capture_output=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()

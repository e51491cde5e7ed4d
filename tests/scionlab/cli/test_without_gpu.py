"""A preset called gpu on a machine without one is refused before anything is planned, unless it is asked for."""

import pytest
import torch

GPU = """
from scionlab.spec.grid import trials
from scionlab.spec import Experiment, Preset

FIXED = {{
    "optimizer": "adam", "lr": 0.01, "depth": 1, "tokens": 2**9, "batch_size": 4, "seq_len": 16, "val_tokens": 256,
    "val_seq_len": 16, "device": "{device}",
}}
SPEC = Experiment(name="mine", title="T", question="Q?", presets={{"gpu": Preset(trials=trials(FIXED, width=[16]))}})
"""


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("command", [("run", "width"), ("tune",), ("transfer",)])
def test_it_is_refused_with_the_option_that_does_it_anyway(call, tmp_path, command):
    done = call(*command, "--preset", "gpu", "--results", tmp_path / "r")
    assert done.code == 2
    assert "preset: 'gpu' is not allowed here: torch sees no GPU" in done.err
    assert "--without-gpu" in done.err
    assert not (tmp_path / "r").exists()


def test_so_is_another_preset_for_gpus(call, tmp_path):
    done = call("run", "nanogpt", "--preset", "gpu-1b", "--results", tmp_path / "r")
    assert done.code == 2
    assert "preset: 'gpu-1b' is not allowed here: torch sees no GPU" in done.err


@pytest.mark.parametrize(("device", "options"), [("auto", ["--without-gpu"]), ("cpu", [])])
def test_what_is_asked_for_is_trained(call, tmp_path, device, options):
    (tmp_path / "mine.py").write_text(GPU.format(device=device))
    done = call("run", "mine.py", "--preset", "gpu", "--executor", "inline", "--results", tmp_path / "r", *options)
    assert done.code == 0, done.err


def test_a_dry_run_needs_no_gpu(call, tmp_path):
    (tmp_path / "mine.py").write_text(GPU.format(device="auto"))
    assert call("run", "mine.py", "--preset", "gpu", "--dry-run", "--results", tmp_path / "r").code == 0

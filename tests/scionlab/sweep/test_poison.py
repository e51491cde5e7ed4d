"""A worker that has lost its GPU to a CUDA error ends itself, and what it was at is handed out again."""

from types import SimpleNamespace

import pytest
import torch
from own_code import MODEL, SMALL
from rich.console import Console

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.spec import Experiment, Preset, Trial
from scionlab.sweep import How, run_sweep
from scionlab.sweep.poison import PoisonedError, poison
from scionlab.tune import inline

SAID = (
    "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported at some other call"
)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(SAID),
        torch.AcceleratorError(SAID),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("CUDA error: misaligned address"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    ],
    ids=str,
)
def test_errors_that_a_context_does_not_survive(error):
    assert poison(error)
    assert "\n" not in poison(error)
    wrapped = ValueError("in the caller's code")
    wrapped.__cause__ = error
    assert poison(wrapped) == poison(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the model has a device-side assert of its own"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: invalid configuration argument"),
        ValueError(SAID),
        ArithmeticError("CUDA"),
    ],
    ids=str,
)
def test_other_errors_are_a_trials_own(error):
    assert poison(error) is None


def test_a_gpu_that_does_not_answer_is_lost_whatever_the_error_was(monkeypatch):
    def synchronize():
        raise torch.AcceleratorError("CUDA error: something new")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert poison(KeyError("x")) == "CUDA error: something new"
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert poison(KeyError("x")) is None


# As a GPU does it: from the first such error on, every call of the process fails. A trial causes it as often as TIMES
# says for its width, in so many processes.
LOST = MODEL.replace(
    "    def forward(self, tokens):\n",
    """    def forward(self, tokens):
        self.calls = getattr(self, "calls", 0) + 1
        width = self.embed.weight.shape[1]
        if self.calls > 3 and len(list(Path(FOLDER).glob(f"{width}-*"))) < TIMES.get(width, 0):
            Path(FOLDER, f"{width}-{os.getpid()}").touch()
            LOST.append(1)
        if LOST:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
""",
).replace(
    "from torch import nn", "import os\nfrom pathlib import Path\n\nimport torch\nfrom torch import nn\n\nLOST = []", 1
)


def sweep(tmp_path, monkeypatch, times, executor, **options):
    monkeypatch.chdir(tmp_path)  # where workers, too, find the module
    monkeypatch.syspath_prepend(tmp_path)
    name = f"lost_{executor}"
    (tmp_path / f"{name}.py").write_text(f"FOLDER, TIMES = {str(tmp_path)!r}, {times}\n{LOST}")
    fields = {**SMALL, "model": f"{name}:build", "data": "sotu", "optimizer": "adam", "lr": 0.01}
    trials = tuple(Trial(**{**fields, "width": width}) for width in (24, 16, 12, 8))
    about = {"name": "mine", "title": "Mine", "question": "Does it go on?"}
    store = RunStore(tmp_path / "runs")
    experiment = Experiment(**about, presets={"laptop": Preset(trials=trials)})
    try:
        run_sweep(experiment, "laptop", store, Console(quiet=True), executor, 1, How("never", 1), **options)
    finally:
        rows = store.runs().set_index("width")
    return rows


@pytest.mark.slow
def test_another_worker_takes_the_task_until_it_is_given_up_and_the_rest_of_the_queue(tmp_path, monkeypatch, ray_here):
    from scionlab.sweep import ray_tune

    monkeypatch.setattr(ray_tune, "MAX_TRIES", 2)  # each is a new process
    rows = sweep(tmp_path, monkeypatch, {16: 1, 12: 9}, "ray", address=ray_here)
    assert dict(rows["status"]) == {8: "ok", 12: "error", 16: "ok", 24: "ok"}
    assert "the GPU was lost to this trial in 2 worker processes" in rows["error"][12]
    assert "device-side assert triggered" in rows["error"][12]
    assert len(list(tmp_path.glob("16-*"))) == 1
    assert len(list(tmp_path.glob("12-*"))) == 2


def test_in_one_process_the_sweep_ends_with_a_sentence_and_the_trials_row(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"device: this process has lost its GPU to trial .* run the same command"):
        sweep(tmp_path, monkeypatch, {16: 9}, "inline")
    rows = RunStore(tmp_path / "runs").runs().set_index("width")
    assert rows["status"][16] == "error"
    assert set(rows["status"]) <= {"ok", "error"}
    assert list(rows["status"]).count("error") == 1


def test_a_search_in_one_process_ends_with_a_sentence(tmp_path, monkeypatch):
    def lost(attempt):
        raise PoisonedError("CUDA error: device-side assert triggered")

    told = []
    trial = SimpleNamespace(params={})
    study = SimpleNamespace(
        search=SimpleNamespace(study="one", trials=1, flops=1), finished=0, ask=lambda: trial,
        tell=lambda trial, now: now,
    )  # fmt: skip
    monkeypatch.setattr("scionlab.tune.attempt.Attempt.advance", lost)
    with pytest.raises(UserError, match=r"device: this process has lost its GPU to a trial: CUDA error"):
        inline.run([study], RunStore(tmp_path), 1, lambda study, now: told.append(now))
    assert told == [None]

"""Micro-batches in sweeps: asked for or chosen, part of no identity, in the row and in a dry run."""

import json

import pytest
import torch
from rich.console import Console

from scionlab.cli import main
from scionlab.errors import UserError
from scionlab.problems.data import load
from scionlab.runs.store import RunStore
from scionlab.sweep import How, micro, plan_sweep, run_sweep
from scionlab.sweep.arrange import arrange
from scionlab.sweep.micro import MEMORY_SHARE, largest, micro_batch
from scionlab.training import memory
from scionlab.training.memory import BASE, estimate
from scionlab.training.prepare import data_of, resolve

console = Console(quiet=True)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results" / "runs")


def limit_to(monkeypatch, trial, size):
    """As much memory as parts of `size` need of it."""
    needed = estimate(trial, trial.plan[0], data_of(trial)).peak(trial.batch_size, size)
    monkeypatch.setattr(micro, "free_memory", lambda: (needed + BASE) / MEMORY_SHARE)


@pytest.mark.parametrize("size", [1, 2])
def test_what_fits_is_chosen_and_stands_in_the_row(experiment, tiny, store, tmp_path, monkeypatch, size):
    trial = resolve(tiny())
    assert micro_batch(trial, data_of(trial), None, 1) == 0
    limit_to(monkeypatch, trial, size)
    assert micro_batch(trial, data_of(trial), None, 1) == size
    assert micro_batch(trial, data_of(trial), 0, 1) == 0
    run_sweep(experiment(tiny()), "smoke", store, console, "inline", how=How("never", 1))
    other = RunStore(tmp_path / "whole" / "runs")
    run_sweep(experiment(tiny()), "smoke", other, console, "inline", how=How("never", 1, micro_batch=0))
    (row,), (whole,) = (at.runs().to_dict("records") for at in (store, other))
    assert (row["micro_batch"], whole["micro_batch"]) == (size, 0)
    assert row["trial_id"] == whole["trial_id"]
    assert row["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-5)


def test_workers_share_what_is_free(tiny, monkeypatch):
    trial = resolve(tiny())
    limit_to(monkeypatch, trial, 2)
    monkeypatch.setattr(micro.provenance, "cpu_count", lambda: 4)
    needed = micro.free_memory()
    assert micro.memory_share("cpu", 3) == needed / 3
    assert micro.memory_share("cpu", 64) == needed / 4  # no more of them are on this machine
    assert micro_batch(trial, data_of(trial), None, 2) == 1


def test_a_machine_that_does_not_say_reads_whole(tiny, monkeypatch):
    monkeypatch.setattr(micro, "free_memory", lambda: None)
    trial = resolve(tiny())
    assert micro_batch(trial, data_of(trial), None, 1) == 0


def test_of_a_gpu_it_is_what_is_free_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6e9, 8e9))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert micro.memory_share("cuda", 2) == 6e9
    assert micro.memory_share("cuda", 3) == 3e9


def test_trials_whose_batches_are_cut_as_asked_are_not_stacked(experiment, tiny, store, tmp_path):
    trials = [tiny(batch_size=size, lr=lr) for size in (4, 8) for lr in (0.1, 0.2)]
    plan = plan_sweep(experiment(*trials), "smoke", store)
    for size, stacked in {None: 2, 0: 2, 4: 1, 2: 0}.items():
        tasks = arrange(plan, 1, tmp_path / "cache", How("never", 2, micro_batch=size))
        assert sum(task.stacked for task in tasks) == stacked
        assert {(task.micro_batch, task.workers) for task in tasks} == {(size, 1)}


def test_a_stack_says_that_it_is_read_whole(experiment, tiny, store):
    run_sweep(experiment(tiny(), tiny(lr=2**-6)), "smoke", store, console, "inline", how=How("never", 2))
    rows = store.runs()
    assert list(rows["stack"]) == [2, 2]
    assert list(rows["micro_batch"]) == [0, 0]


def test_out_of_memory_to_the_last_is_an_error_row_that_says_so(experiment, tiny, store, monkeypatch):
    def fail(self, *arguments):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("scionlab.training.oracle.ModelOracle._read", fail)
    run_sweep(experiment(), "smoke", store, console, "inline", how=How("never", 1))
    (row,) = store.runs().to_dict("records")
    assert row["status"] == "error"
    assert row["error"].endswith("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
                                 "the batch of 4 was read in parts of 1\n")  # fmt: skip


def test_the_largest_trial_is_told(experiment, tiny, store, monkeypatch):
    plan = plan_sweep(experiment(tiny(), tiny(width=32), tiny(width=32, seed=1)), "smoke", store)
    wide = next(cell.trial for cell in plan.cells if cell.trial.width == 32)
    told = largest(plan.todo, None, 1)
    assert (told.cell.trial.width, told.micro_batch) == (32, 0)
    assert told.bytes == estimate(wide, wide.plan[0], data_of(wide)).peak(4) + BASE
    assert largest(plan.todo, 2, 1).micro_batch == 2
    assert largest(plan.todo, 2, 1).bytes == estimate(wide, wide.plan[0], data_of(wide)).peak(4, 2) + BASE
    assert largest([], None, 1) is None


def test_nothing_is_tried_that_clearly_fits(tiny, monkeypatch):
    """A small trial does not pay for finding out its optimizer's state."""
    monkeypatch.setattr(memory, "_state", lambda trial, model: pytest.fail("was asked"))
    trial = resolve(tiny())
    assert micro_batch(trial, load(trial.data), None, 1) == 0


@pytest.mark.parametrize("said", ["-1", "two", "1.5", ""])
def test_what_is_no_number_is_refused(said, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["scionlab", "run", "width", "--micro-batch", said, "--dry-run"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    expected = f"error: micro_batch: {said!r} is not allowed: it must be auto, or a number of examples, at least 0\n"
    assert capsys.readouterr().err == expected
    with pytest.raises(UserError, match="micro_batch: -1 is not allowed"):
        How(micro_batch=-1)


def test_a_dry_run_says_what_the_largest_trial_takes(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(
        "from scionlab.spec import Experiment, Preset, Trial\n"
        f"trial = Trial.model_validate_json({tiny().model_dump_json()!r})\n"
        "SPEC = Experiment(name='mine', title='t', question='q?', presets={'smoke': Preset(trials=(trial,))})\n"
    )

    def dry_run(*options):
        monkeypatch.setattr("sys.argv", ["scionlab", "run", str(path), "--preset", "smoke", "--dry-run", *options])
        with pytest.raises(SystemExit) as caught:
            main()
        assert not caught.value.code
        return capsys.readouterr().out

    monkeypatch.setattr(micro, "free_memory", lambda: 8e9)
    free = "of 8.0 GB free to a worker for the largest trial (scion, width 16, batch 4)"
    assert f"memory: about 0.3 GB {free}, batches read whole\n" in dry_run("--workers", "1")
    told = dry_run("--workers", "1", "--micro-batch", "2")
    assert f"memory: about 0.3 GB {free}, batches read in parts of 2\n" in told
    told = json.loads(dry_run("--json", "--workers", "1", "--micro-batch", "2"))
    assert told["micro_batch"] == 2
    assert BASE < told["memory_bytes"] < BASE + 1e7

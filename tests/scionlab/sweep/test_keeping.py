"""Trials that are stopped, killed and taken up again: their numbers are those of trials that were not."""

import errno
import math
import signal

import pytest
import torch
from trainings import CORPUS, OTHER_LENGTH, numbers, staged

from scionlab import training
from scionlab.runs.store import RunStore
from scionlab.sweep import keeping
from scionlab.sweep.keeping import Keeper, StoppedError

ASKED = staged("scion", OTHER_LENGTH, steps=40)


class KilledError(Exception):
    """The process is gone: nothing is done about it."""


@pytest.fixture(autouse=True)
def one_step_at_a_time(monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_UP_S", 0.0)
    monkeypatch.setattr(keeping, "WORTH_S", 0.0)


@pytest.fixture
def checkpoints(tmp_path):
    store = RunStore(tmp_path / "runs")
    store.check_writable()
    return store.checkpoints


@pytest.fixture(scope="module")
def uninterrupted():
    return numbers(training.train(ASKED, CORPUS))


def make(steps=math.inf, error=KilledError):
    """A run; at most so many steps are taken before the process is gone."""
    run = training.Run(ASKED, CORPUS)
    left = [steps]

    def advance():
        if left[0] <= 0:
            raise error
        left[0] -= 1
        return training.Run.advance(run)

    run.advance = advance
    return run


def files(checkpoints):
    return sorted(path.name for path in checkpoints.place.path.glob("*")) if checkpoints.place.path.exists() else []


def test_a_run_that_is_killed_again_and_again_ends_with_the_numbers_of_one_that_was_not(checkpoints, uninterrupted):
    tries = 0
    while True:
        tries += 1
        try:
            outcome = Keeper(checkpoints, "a", 0.0).train(lambda: make(steps=5))
            break
        except KilledError:
            torch.manual_seed(tries)
    # Five steps a try, all of them saved but for the one it was killed in; the last try validates.
    assert tries == math.ceil(ASKED.steps / 5)
    assert numbers(outcome) == uninterrupted


def test_asked_to_stop_it_saves_and_goes_on_from_there(checkpoints, uninterrupted):
    asked = iter([False] * 7 + [True])
    with pytest.raises(StoppedError):
        Keeper(checkpoints, "a", math.inf, lambda: next(asked)).train(make)
    assert torch.load(checkpoints.place.path / "a.pt", weights_only=True)["step"] == 8
    assert numbers(Keeper(checkpoints, "a", math.inf).train(lambda: make(ASKED.steps - 8))) == uninterrupted


def test_a_run_shorter_than_the_interval_writes_nothing(checkpoints, uninterrupted):
    assert numbers(Keeper(checkpoints, "a", 300.0).train(make)) == uninterrupted
    assert files(checkpoints) == []


def torn(content):
    return content[: len(content) // 2]


def of_another_trial(content):
    other = training.Run(staged("scion", OTHER_LENGTH, steps=40, seed=1), CORPUS)
    return keeping.as_bytes(other.state_dict())


def without_a_part(content):
    return keeping.as_bytes({"trial_id": training.Run(ASKED, CORPUS).state_dict()["trial_id"]})


@pytest.mark.parametrize("damage", [torn, of_another_trial, without_a_part, lambda content: b"no checkpoint at all"])
def test_a_checkpoint_that_cannot_be_gone_on_from_is_a_warning_and_the_trial_begins_again(
    checkpoints, uninterrupted, damage, capsys
):
    with pytest.raises(KilledError):
        Keeper(checkpoints, "a", 0.0).train(lambda: make(steps=9))
    checkpoints.save("a", damage(checkpoints.load("a")))
    assert numbers(Keeper(checkpoints, "a", math.inf).train(make)) == uninterrupted
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: checkpoint")
    assert "a.pt' cannot be gone on from, and the trial begins again: " in line


def test_a_full_disk_is_a_warning_and_the_trial_goes_on(checkpoints, uninterrupted, monkeypatch, capsys):
    def full(self, name, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(checkpoints.place), "put", full)
    assert numbers(Keeper(checkpoints, "a", 0.0).train(make)) == uninterrupted
    lines = capsys.readouterr().err.splitlines()
    assert all("is not kept, and the trial goes on: checkpoint: cannot write" in line for line in lines)
    assert len(lines) == 1


@pytest.fixture
def foreground():
    """Ctrl-C interrupts, also where the test run is in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("foreground")
def test_a_signal_waits_for_the_step_under_way_and_a_second_one_does_not():
    with keeping.held_signals() as held:
        assert held == []
        signal.raise_signal(signal.SIGINT)
        assert held == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("foreground")
def test_ctrl_c_in_the_last_validation_keeps_the_trained_run(checkpoints, uninterrupted):
    run = make()
    validate = run.validate

    def interrupted():
        signal.raise_signal(signal.SIGINT)
        return validate()

    run.validate = interrupted
    with pytest.raises(KeyboardInterrupt):
        Keeper(checkpoints, "a", math.inf).train(lambda: run)
    assert torch.load(checkpoints.place.path / "a.pt", weights_only=True)["step"] == ASKED.steps
    assert numbers(Keeper(checkpoints, "a", math.inf).train(lambda: make(steps=0))) == uninterrupted


def test_what_took_no_time_worth_it_is_not_saved_when_asked_to_stop(checkpoints, monkeypatch):
    monkeypatch.setattr(keeping, "WORTH_S", 3600.0)
    with pytest.raises(StoppedError):
        Keeper(checkpoints, "a", math.inf, lambda: True).train(make)
    assert files(checkpoints) == []


def test_a_warning_goes_where_it_is_heard(checkpoints, capsys):
    checkpoints.save("a", b"no checkpoint at all")
    heard = []
    Keeper(checkpoints, "a", math.inf, warn=heard.append).train(make)
    assert len(heard) == 1
    assert "cannot be gone on from" in heard[0]
    assert capsys.readouterr().err == ""

"""Stems that fail, are stopped or killed: rows that were written stay, and all are those of the trials alone."""

import math
from dataclasses import replace

import pytest
from rich.console import Console
from stores import numbers

from scionlab import training
from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep import How, branching, job, keeping, plan_sweep, run_sweep
from scionlab.sweep.job import run_task
from scionlab.sweep.keeping import StoppedError
from scionlab.sweep.poison import PoisonedError
from scionlab.sweep.tasks import Task
from scionlab.training import part

WSD = {"schedule": "trapezoid", "decay_fraction": 0.25, "warmup": 0.0}
CONSOLE = Console(quiet=True)


class KilledError(BaseException):
    """The process is gone: nothing is done about it."""


@pytest.fixture(scope="module", autouse=True)
def few_rows():
    """Losses wait for their row, at other steps for every budget."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training.log, "MAX_CURVE_ROWS", 8)
        yield


@pytest.fixture(scope="module")
def trials(tiny):
    """Three budgets; the stem is left after 16 steps and after 31."""
    return [tiny(tokens=64 * steps, optimizer="adam", lr=2**-7, clip_norm=0.5, **WSD) for steps in (20, 40, 56)]


@pytest.fixture
def store(tmp_path):
    made = RunStore(tmp_path / "runs")
    made.check_writable()
    return made


@pytest.fixture
def task(trials, experiment, store):
    """The stem of the three, saved as often as asked."""
    return Task(plan_sweep(experiment(*trials), "smoke", store).cells, stem=True)


@pytest.fixture(scope="module")
def alone(trials, tmp_path_factory):
    """The store of the trials alone."""
    from scionlab.spec import Experiment, Preset

    made = RunStore(tmp_path_factory.mktemp("alone") / "runs")
    spec = Experiment(name="tiny", title="", question="", presets={"smoke": Preset(trials=trials)})
    run_sweep(spec, "smoke", made, CONSOLE, "inline", how=How(stem="never", stack=1))
    return made


@pytest.fixture
def steps(monkeypatch):
    """Counts the steps of all runs; `steps.left` is after how many more the process is gone."""

    class Steps:
        taken, left = 0, math.inf

    counted, advance = Steps(), training.Run.advance

    def one(run):
        if counted.left <= 0:
            raise KilledError
        counted.left -= 1
        counted.taken += 1
        return advance(run)

    monkeypatch.setattr(training.Run, "advance", one)
    return counted


@pytest.fixture
def at_every_look(monkeypatch):
    """A look-up after 1, 2, 4, 8, … steps, at each of which work is worth to be saved."""
    monkeypatch.setattr(keeping, "LOOK_UP_S", 1e6)
    monkeypatch.setattr(keeping, "WORTH_S", 0.0)


def same_rows(one, other):
    assert numbers(one).equals(numbers(other))
    tables = [s.curves().sort_values(["trial_id", "step"], kind="stable", ignore_index=True) for s in (one, other)]
    assert tables[0].equals(tables[1])


@pytest.mark.usefixtures("at_every_look")
def test_a_stem_that_is_stopped_again_and_again_takes_no_step_twice(task, store, alone, steps):
    rest, tries = task, 0
    while rest.cells and tries < 1000:
        tries += 1
        asked = iter([False, False, True])  # after seven steps, or where a trial is to leave
        try:
            run_task(rest, store, stopping=lambda asked=asked: next(asked))
        except StoppedError:
            rest = task.without(store.finished())
            continue
        break
    assert tries > 5
    assert steps.taken == part([cell.trial for cell in task.cells]).trained
    same_rows(store, alone)
    assert store.checkpoints.trial_ids() == set()


# 16 steps of all, 4 of the first trial, 15 of the stem, 9 of the second, and 25 of the last, whose file is the stem's
@pytest.mark.usefixtures("at_every_look")
@pytest.mark.parametrize("after", [10, 18, 30, 40, 42, 50])
def test_a_stem_that_is_stopped_once_takes_no_step_twice(task, store, alone, steps, after):
    with pytest.raises(StoppedError):
        run_task(task, store, stopping=lambda: steps.taken >= after)
    run_task(task.without(store.finished()), store)
    assert steps.taken == part([cell.trial for cell in task.cells]).trained
    same_rows(store, alone)
    assert store.checkpoints.trial_ids() == set()


@pytest.mark.usefixtures("at_every_look")
def test_the_branch_of_the_trial_that_the_stem_is_kept_for_takes_nothing_from_the_others(task, store, alone, steps):
    """Trials come in any order, and all of these leave after the same step."""
    both = replace(task, cells=task.cells[:0:-1], interval_s=0.0)
    steps.left = 31 + 9 + 10  # the stem, the shorter trial, and some of the longer one
    with pytest.raises(KilledError):
        run_task(both, store)
    assert store.finished() == {task.cells[1].trial_id}
    steps.left = 25
    run_task(both.without(store.finished()), store)
    assert store.finished() == {cell.trial_id for cell in both.cells}


@pytest.mark.usefixtures("at_every_look")
@pytest.mark.parametrize("interval_s", [0.0, math.inf])
def test_a_stem_that_is_killed_again_and_again_ends_with_the_rows_of_the_trials_alone(
    task, store, alone, steps, interval_s
):
    rest, tries = replace(task, interval_s=interval_s), 0
    while rest.cells and tries < 1000:
        tries += 1
        steps.left = 10 if interval_s == 0 else 60
        try:
            run_task(rest, store)
        except KilledError:
            rest = rest.without(store.finished())
            continue
        break
    assert tries > 1
    same_rows(store, alone)
    assert store.checkpoints.trial_ids() == set()


@pytest.mark.usefixtures("at_every_look")
def test_what_was_kept_of_a_stem_is_gone_on_from_without_stems(task, store, alone, steps):
    asked = iter([False] * 3 + [True])
    with pytest.raises(StoppedError):
        run_task(task, store, stopping=lambda: next(asked))
    before = steps.taken
    assert before == 15
    assert store.checkpoints.trial_ids() == {task.cells[2].trial_id}
    for cell in task.cells:
        run_task(Task((cell,)), store)
    assert steps.taken == 20 + 40 + 56
    same_rows(store, alone)


@pytest.mark.usefixtures("at_every_look")
def test_a_trial_with_a_checkpoint_of_its_own_goes_on_from_it(task, store, alone, steps):
    asked = iter([False] * 3 + [True])
    with pytest.raises(StoppedError):
        run_task(Task(task.cells[1:2]), store, stopping=lambda: next(asked))
    run_task(task, store)
    others = part([task.cells[n].trial for n in (0, 2)]).trained
    assert steps.taken == 40 + others
    same_rows(store, alone)


def test_a_checkpoint_that_cannot_be_read_is_a_warning_and_its_trial_begins_again(task, store, alone):
    store.checkpoints.save(task.cells[2].trial_id, b"no checkpoint at all")
    heard = []
    run_task(task, store, warn=heard.append)
    assert len(heard) == 1
    assert "cannot be gone on from, and the trial begins again: " in heard[0]
    assert sorted(store.runs()["stem_steps"]) == [0, 16, 16]
    same_rows(store, alone)


@pytest.mark.usefixtures("at_every_look")
def test_a_stem_of_another_version_is_a_warning_and_begins_again(task, store, alone, monkeypatch):
    asked = iter([False] * 3 + [True])
    with monkeypatch.context() as older:
        older.setattr(training.run, "STATE_VERSION", 0)
        with pytest.raises(StoppedError):
            run_task(task, store, stopping=lambda: next(asked))
    heard = []
    run_task(task, store, warn=heard.append)
    assert [line.rpartition(": ")[2] for line in heard] == ["it was saved by another version of scionlab"]
    assert sorted(store.runs()["stem_steps"]) == [16, 31, 31]
    same_rows(store, alone)


def test_a_trial_that_fails_in_a_stem_is_trained_alone_and_the_others_go_on(task, store, alone, monkeypatch):
    real = training.Stem.branch

    def no_memory(stem, n):
        if n == 1:
            raise MemoryError("for two")
        return real(stem, n)

    monkeypatch.setattr(training.Stem, "branch", no_memory)
    reports = run_task(task, store)
    assert [report.trial_id for report in reports] == [cell.trial_id for cell in task.cells]
    assert [report.status for report in reports] == ["ok"] * 3
    assert list(store.runs().sort_values("steps")["stem_steps"]) == [16, 0, 31]
    same_rows(store, alone)


def test_where_the_stem_fails_each_trial_is_trained_alone_and_only_the_one_at_fault_fails(task, store, monkeypatch):
    def boom(*arguments):
        raise RuntimeError("boom")

    real = job.Run

    def fails_on_one(trial, *more):
        if trial.steps == 40:
            raise RuntimeError("its own fault")
        return real(trial, *more)

    monkeypatch.setattr(training.Stem, "run_steps", boom)
    monkeypatch.setattr(job, "Run", fails_on_one)
    reports = run_task(task, store)
    assert [report.status for report in reports] == ["ok", "error", "ok"]
    assert "its own fault" in store.runs().set_index("status")["error"]["error"]


def test_a_lost_gpu_is_nobodys_error(task, store, monkeypatch):
    def lost(*arguments):
        raise RuntimeError("CUDA error: device-side assert triggered")

    for name in ("branch", "run_steps"):
        with monkeypatch.context() as broken:
            broken.setattr(training.Stem, name, lost)
            with pytest.raises(PoisonedError, match="device-side assert"):
                run_task(task, store)
    assert store.runs().empty


def test_data_that_have_changed_are_an_error_of_every_trial_whose_they_are(task, store):
    changed = replace(task.cells[1], data_sha256="0" * 64)
    reports = run_task(replace(task, cells=(task.cells[0], changed, task.cells[2])), store)
    assert [report.status for report in reports] == ["ok", "error", "ok"]
    assert "has changed since the sweep began" in reports[1].error


def test_a_row_that_cannot_be_written_ends_the_task_and_the_stem_is_kept(task, store, alone, monkeypatch):
    monkeypatch.setattr(keeping, "WORTH_S", 0.0)

    def full(self, *row):
        raise UserError("results: no room is left")

    with monkeypatch.context() as broken:
        broken.setattr(RunStore, "write_run", full)
        with pytest.raises(UserError, match="no room is left"):
            run_task(task, store)
    assert store.checkpoints.trial_ids() == {task.cells[2].trial_id}
    run_task(task, store)
    assert sorted(store.runs()["stem_steps"]) == [16, 31, 31]
    same_rows(store, alone)


def test_one_cell_is_no_stem(task, store, monkeypatch):
    monkeypatch.setattr(branching, "Stem", None)
    (report,) = run_task(replace(task, cells=task.cells[:1]), store)
    assert report.status == "ok"
    assert list(store.runs()["stem_steps"]) == [0]

"""Trackers: TensorBoard's files hold the rows of the store; Weights & Biases is called as its documentation says.

The latter is not installed: a stand-in takes its place, which knows only the calls that are made.
"""

import io
import sys
from types import ModuleType

import pytest
from rich.console import Console

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep import How, run_sweep
from scionlab.trackers import TRACKERS, Tracked, start_trackers
from scionlab.trackers.feed import Tracking


@pytest.fixture
def sweep(experiment, tiny, tmp_path):
    """Trains an experiment of two trials, one of which diverges, with trackers; the store and what was printed."""

    def run(trackers):
        console, store = Console(file=io.StringIO(), width=200), RunStore(tmp_path / "runs")
        spec = experiment(tiny(), tiny(optimizer="sgd", lr=1e4))
        run_sweep(spec, "smoke", store, console, "inline", how=How("never", 1), trackers=trackers)
        return store, console.file.getvalue()

    return run


def row(step):
    return {"step": step, "tokens": 64 * step, "lr": 0.1, "train_loss": 5.0 / step}


class Recorder:
    def __init__(self):
        self.calls = []

    def row(self, trial, row):
        self.calls.append((trial.trial_id, row["step"]))

    def ended(self, trial, result):
        self.calls.append((trial.trial_id, result))

    def close(self):
        self.calls.append("closed")


def trial(trial_id="abcdef0123456789"):
    return Tracked(trial_id, "scion width 16 residual 1/L", "mine", "smoke", {"width": 16})


def test_tensorboard_gets_the_curves_of_the_store(sweep, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    store, _ = sweep(start_trackers(["tensorboard"], tmp_path, "tiny"))
    folders = list((tmp_path / "tensorboard" / "tiny").iterdir())
    runs = store.runs().set_index("trial_id")
    assert sorted(folder.name[-8:] for folder in folders) == sorted(name[:8] for name in runs.index)
    assert set(runs["status"]) == {"ok", "diverged"}
    for folder in folders:
        (trial_id,) = (name for name in runs.index if folder.name.endswith(name[:8]))
        events = EventAccumulator(str(folder)).Reload()
        curve = store.curves([trial_id])
        losses = events.Scalars("loss/train")
        assert [point.step for point in losses] == list(curve["step"])
        assert [point.value for point in losses] == pytest.approx(list(curve["train_loss"]), rel=1e-6)
        assert [point.value for point in events.Scalars("lr")] == pytest.approx(list(curve["lr"]), rel=1e-6)
        found = events.Scalars("loss/validation") if "loss/validation" in events.Tags()["scalars"] else []
        expected = runs.loc[[trial_id], "val_loss"].dropna()
        assert [point.value for point in found] == pytest.approx(list(expected), rel=1e-6)
        (text,) = events.Tensors("trial/text_summary")
        assert b"| width | 16 |" in text.tensor_proto.string_val[0]


def test_validations_on_the_way_are_in_the_curve(experiment, tiny, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    spec = experiment(tiny(validate_every=256))
    trackers, store = start_trackers(["tensorboard"], tmp_path, "tiny"), RunStore(tmp_path / "runs")
    run_sweep(spec, "smoke", store, Console(file=io.StringIO()), "inline", how=How("never", 1), trackers=trackers)
    (folder,) = (tmp_path / "tensorboard" / "tiny").iterdir()
    curve = store.curves().dropna(subset="val_loss")
    points = EventAccumulator(str(folder)).Reload().Scalars("loss/validation")
    assert [point.step for point in points] == [*curve["step"], 16] == [4, 8, 12, 16, 16]
    assert [point.value for point in points[:-1]] == pytest.approx(list(curve["val_loss"]), rel=1e-6)


def test_a_trial_that_is_tried_again_replaces_its_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in ((1, 2, 3), (1, 2)):
        (tracker,) = start_trackers(["tensorboard"], tmp_path, "mine").values()
        for step in steps:
            tracker.row(trial(), row(step))
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "mine" / trial().name)).Reload()
    assert [point.step for point in events.Scalars("loss/train")] == [1, 2]


class Run:
    def __init__(self, **settings):
        self.settings, self.logged, self.summary, self.exit_code = settings, [], {}, None

    def log(self, data, step):
        self.logged.append((step, data))

    def finish(self, exit_code=None):
        self.exit_code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package, with the runs it was asked for."""
    module, runs = ModuleType("wandb"), []

    def init(*, project, dir, group, name, config, reinit):
        runs.append(Run(project=project, dir=dir, group=group, name=name, config=config, reinit=reinit))
        return runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delitem(sys.modules, TRACKERS["wandb"], raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    yield runs
    sys.modules.pop(TRACKERS["wandb"], None)


def test_wandb_gets_a_run_for_every_trial_with_its_curve(sweep, tmp_path, wandb):
    store, _ = sweep(start_trackers(["wandb"], tmp_path, "tiny"))
    runs = store.runs().set_index("trial_id")
    assert len(wandb) == 2
    for run in wandb:
        trial_id = run.settings["config"]["trial_id"]
        curve = store.curves([trial_id])
        assert [step for step, _ in run.logged] == list(curve["step"])
        assert [data["train_loss"] for _, data in run.logged] == list(curve["train_loss"])
        status, loss = runs.loc[trial_id, ["status", "val_loss"]]
        assert run.summary == {"status": status} | ({"val_loss": loss} if status == "ok" else {})
        assert run.exit_code == 0
        assert (run.settings["project"], run.settings["group"]) == ("scionlab", "tiny")
        assert run.settings["reinit"] == "create_new"
        assert run.settings["config"]["width"] == 16


def test_wandb_takes_project_and_folder_from_its_own_variables(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "elsewhere")
    monkeypatch.setenv("WANDB_DIR", "/somewhere")
    (tracker,) = start_trackers(["wandb"], tmp_path, "mine").values()
    tracker.row(trial(), row(1))
    tracker.close()
    assert (wandb[0].settings["project"], wandb[0].settings["dir"]) == ("elsewhere", "/somewhere")
    assert wandb[0].exit_code == 1  # it never ended


def test_a_missing_package_is_one_sentence_with_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, TRACKERS["wandb"], raising=False)
    with pytest.raises(UserError, match=r"^track: 'wandb' needs a package .*; pip install 'scionlab\[wandb\]'$"):
        start_trackers(["wandb"], tmp_path, "mine")


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"track: 'tensorbord' is not known \(did you mean 'tensorboard'\?\)"):
        start_trackers(["tensorbord"], tmp_path, "mine")


@pytest.mark.parametrize("when", ["row", "ended", "close"])
def test_a_tracker_that_fails_is_one_warning_and_the_sweep_goes_on(when, sweep):
    class Fails(Recorder):
        pass

    def boom(*_):
        raise ConnectionError("no route to host")

    setattr(Fails, when, boom)
    other = Recorder()
    store, printed = sweep({"mine": Fails(), "other": other})
    assert len(store.runs()) == 2
    assert printed.count("warning: mine gets no more rows") == 1
    assert "ConnectionError: no route to host" in printed
    assert other.calls[-1] == "closed"


def test_rows_that_were_missed_while_the_trial_trained_follow_when_it_ends():
    recorder, warnings = Recorder(), []
    tracking = Tracking({"it": recorder}, [trial("a"), trial("b")], warnings.append)
    for step in (1, 3, 3, 2):
        tracking.row("a", row(step))
    tracking.row("unknown", row(1))
    tracking.ended("a", [row(step) for step in range(1, 6)], {"status": "ok", "val_loss": 2.0})
    tracking.ended("b", [row(1)], {"status": "diverged", "val_loss": None})
    tracking.row("a", row(9))
    tracking.close()
    last = {"status": "ok", "val_loss": 2.0, "steps": 5}
    also = {"status": "diverged", "val_loss": None, "steps": 1}
    assert recorder.calls == [("a", 1), ("a", 3), ("a", 4), ("a", 5), ("a", last), ("b", 1), ("b", also), "closed"]
    assert warnings == []


def test_a_validation_missed_on_the_way_follows_where_its_step_is_still_to_come():
    recorder = Recorder()
    tracking = Tracking({"it": recorder}, [trial("a")], [].append)
    validations = [{"step": step, "val_loss": 3.0} for step in (2, 4)]
    tracking.row("a", row(1))
    tracking.row("a", row(3))
    tracking.ended(
        "a", [row(1), validations[0], row(2), row(3), validations[1], row(4)], {"status": "ok", "val_loss": 2.0}
    )
    assert [call[1] for call in recorder.calls[:-1]] == [1, 3, 4, 4]


def test_names_of_folders_hold_no_separators():
    assert trial().name == "scion-width-16-residual-1-L-abcdef01"

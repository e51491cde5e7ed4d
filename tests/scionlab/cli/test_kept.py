"""A long trial that is stopped or killed goes on where it was, in real processes: same numbers, no step twice."""

import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from forked import Forked
from processes import slow_model
from stores import numbers

from scionlab.runs.status import statuses
from scionlab.runs.store import RunStore
from scionlab.sweep.job import DIED

STEPS = 600
TRIED = 20  # forward passes at most by which a call tries the model before it trains
STEP_S = 0.005  # at least, so that the trial takes some seconds on any machine
SPEC = """
from scionlab.spec import Experiment, Preset, Trial

TRIAL = Trial(
    optimizer="scion", lr=2**-5, width=16, model="slow_model:build", depth=1, batch_size=4, seq_len=16,
    tokens={steps} * 64, val_tokens=256, val_seq_len=16, data="path:{text}", device="cpu",
)
SPEC = Experiment(name="slow", title="Slow", question="Does it go on?", presets={{"smoke": Preset(trials=(TRIAL,))}})
"""


class World:
    """A folder with the experiment, calls of its sweep, and what they left."""

    def __init__(self, folder: Path, text: Path, env: dict[str, str]):
        self.folder, self.steps_of = folder, folder / "steps"
        self.steps_of.mkdir()
        self.env = env | {"STEPS_OF": str(self.steps_of)}
        (folder / "slow_model.py").write_text(slow_model(STEP_S))
        (folder / "slow.py").write_text(SPEC.format(steps=STEPS, text=text))
        self.store = RunStore(folder / "results" / "runs")

    def start(self, *options):
        arguments = ["run", "slow.py", "--preset", "smoke", "--stack", "1", "--compile", "never", *options]
        return Forked(arguments, self.env, self.folder, self.folder / "output.txt")

    def call(self, *options):
        process = self.start(*options)
        process.wait(timeout=120)
        return process.returncode

    def status(self):
        (found,) = statuses(self.store)
        return found

    @property
    def output(self):
        return (self.folder / "output.txt").read_text()

    def trained(self):
        """Forward passes of all processes so far, those that only tried the model included."""
        return sum(path.stat().st_size for path in self.steps_of.iterdir())

    def worker(self):
        """The process that trains: no other gets beyond trying the model."""
        training = (path for path in self.steps_of.iterdir() if path.stat().st_size > TRIED)
        return next((int(path.name.split("-")[1]) for path in training), None)

    def kept_step(self):
        """The step that the trial's checkpoint is of, if there is one."""
        paths = list((self.store.root / "checkpoints").glob("*.pt"))
        return torch.load(paths[0], weights_only=True)["step"] if paths else None

    def wait_for(self, condition, process=None):
        deadline = time.monotonic() + 90
        while not condition():
            assert process is None or process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def wait_for_silence(self):
        """Until no process trains any more."""
        last = None
        while last != (last := self.trained()):
            time.sleep(1.5)


@pytest.fixture
def world(tmp_path, text_file, clean_environment):
    return World(tmp_path, text_file, clean_environment)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, text_file):
    """The store of the same trial in one go."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "RAY", "TUNE"))}
    whole = World(tmp_path_factory.mktemp("whole"), text_file, env)
    assert whole.call("--executor", "inline") == 0, whole.output
    assert STEPS <= whole.trained() <= STEPS + TRIED
    assert not (whole.store.root / "checkpoints").exists()  # it was shorter than the interval
    return whole.store


def assert_ended_as_if_never_interrupted(world, uninterrupted):
    pd.testing.assert_frame_equal(numbers(world.store), numbers(uninterrupted), check_exact=True)
    pd.testing.assert_frame_equal(world.store.curves(), uninterrupted.curves(), check_exact=True)
    assert list((world.store.root / "checkpoints").iterdir()) == []
    assert (world.status().state, world.status().kept) == ("done", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "asked"), [("inline", signal.SIGINT), ("ray", signal.SIGTERM)], ids=["inline, Ctrl-C", "ray, SIGTERM"]
)
def test_a_trial_that_is_asked_to_stop_loses_no_step(executor, asked, world, uninterrupted):
    process = world.start("--executor", executor)
    world.wait_for(lambda: world.worker() is not None, process)
    time.sleep(1.2)  # less is not worth a checkpoint
    process.send_signal(asked)
    process.wait(timeout=60)
    assert process.returncode == 130, world.output
    assert "run the same command to go on" in world.output
    assert "Traceback" not in world.output
    assert world.store.runs().empty
    step = world.kept_step()
    assert 0 < step < STEPS
    assert step <= world.trained() <= step + TRIED
    assert (world.status().state, world.status().left, world.status().kept) == ("interrupted", 1, 1)

    assert world.call("--executor", executor) == 0, world.output
    assert STEPS <= world.trained() <= STEPS + 2 * TRIED
    assert_ended_as_if_never_interrupted(world, uninterrupted)


@pytest.mark.slow
def test_a_driver_that_is_killed_loses_what_came_after_the_checkpoint(world, uninterrupted):
    process = world.start("--executor", "ray", "--checkpoint-minutes", "0.005")
    world.wait_for(lambda: world.kept_step() is not None, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    world.wait_for_silence()  # Ray ends its workers
    assert world.store.runs().empty  # nobody says that the trial failed
    step, trained = world.kept_step(), world.trained()
    assert 0 < step < STEPS
    assert (world.status().state, world.status().left, world.status().kept) == ("killed", 1, 1)

    assert world.call("--executor", "inline") == 0, world.output  # wherever it goes on
    assert world.trained() - trained <= STEPS - step + TRIED
    assert_ended_as_if_never_interrupted(world, uninterrupted)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_a_failed_trial_that_goes_on_in_the_next_call(world, uninterrupted):
    process = world.start("--executor", "ray", "--checkpoint-minutes", "0.005")
    world.wait_for(lambda: world.kept_step() is not None and world.worker() is not None, process)
    os.kill(world.worker(), signal.SIGKILL)
    process.wait(timeout=60)
    assert process.returncode == 1, world.output
    assert world.store.runs()["error"].tolist() == [DIED]
    step, trained = world.kept_step(), world.trained()
    assert 0 < step < STEPS
    assert (world.status().failed, world.status().left, world.status().kept) == (1, 1, 1)

    assert world.call("--executor", "inline") == 0, world.output  # wherever it goes on
    assert world.trained() - trained <= STEPS - step + TRIED
    assert_ended_as_if_never_interrupted(world, uninterrupted)

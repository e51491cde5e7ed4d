"""The scores table: validation by class, alone, in stacks and through a sweep, against sums over single images."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from scionlab.problems.data import load
from scionlab.runs.store import RunStore
from scionlab.spec import Trial
from scionlab.sweep.job import run_task
from scionlab.sweep.plan import make_plan
from scionlab.sweep.tasks import Task
from scionlab.training import Run, train, train_stack
from scionlab.training.prepare import resolve

COUNT = 300


def trial(**fields):
    sizes = {"model": "mlp", "data": "digits", "width": 16, "depth": 1, "batch_size": 8, "seq_len": 1}
    few = {"val_seq_len": 1, "val_tokens": COUNT, "tokens": 160, "device": "cpu"}
    return resolve(Trial(**{"optimizer": "adam", "lr": 0.01, **sizes, **few, **fields}))


def by_hand(model):
    """Loss, accuracy and number of images of every class."""
    digits = load("digits")
    images, labels = digits.unpack(digits.held_out(COUNT, 1))
    logits = model(images).detach()
    losses = F.cross_entropy(logits, labels, reduction="none").double().numpy()
    frame = pd.DataFrame({"class": labels, "loss": losses, "accuracy": (logits.argmax(1) == labels).double()})
    return frame.groupby("class").agg(loss=("loss", "mean"), accuracy=("accuracy", "mean"), examples=("loss", "size"))


def wide(rows):
    frame = pd.DataFrame(rows)
    assert set(frame["split"]) == {"validation"}
    return frame.pivot(index="group", columns="metric", values="value")[["loss", "accuracy", "examples"]]


def test_every_class_has_its_loss_accuracy_and_count():
    run = Run(trial(), load("digits"))
    run.run_stage()
    outcome = run.outcome()
    with run.passes.evaluating():
        expected = by_hand(run.model)
    found = wide(outcome.scores)
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # float32 rounding
    assert {row["step"] for row in outcome.scores} == {20}
    counts = found["examples"]
    assert counts.sum() == COUNT
    assert math.isclose((found["loss"] * counts).sum() / COUNT, outcome.summary["val_loss"], rel_tol=1e-6)
    assert math.isclose((found["accuracy"] * counts).sum() / COUNT, outcome.summary["val_accuracy"], rel_tol=1e-9)


def test_validations_on_the_way_have_rows_and_the_last_has_them_once():
    rows = pd.DataFrame(train(trial(validate_every=80), load("digits")).scores)
    assert sorted(set(rows["step"])) == [10, 20]
    assert not rows.duplicated(["step", "group", "metric"]).any()


def test_a_stack_gives_those_of_each_alone():
    trials = [trial(seed=0), trial(seed=1), trial(seed=2, lr=1e4)]
    stacked = train_stack(trials, load("digits"))
    for one, outcome in zip(trials, stacked, strict=True):
        alone = train(one, load("digits"))
        assert outcome.summary["status"] == alone.summary["status"]
        if not alone.scores:
            assert outcome.scores == []
        else:
            torch.testing.assert_close(
                torch.tensor(wide(outcome.scores).to_numpy()),
                torch.tensor(wide(alone.scores).to_numpy()),
                rtol=1e-4,  # of 20 steps of Adam, whose first divide by small second moments
                atol=1e-5,
            )


@pytest.mark.parametrize(
    "fields", [{"model": "gpt", "data": "sotu", "seq_len": 16, "val_seq_len": 16, "val_tokens": 32}]
)
def test_data_without_groups_have_none(fields):
    assert train(trial(**fields), load("sotu")).scores == []


def test_they_are_a_table_of_the_store(tmp_path):
    store = RunStore(tmp_path)
    (cell,) = make_plan([trial()], store, "tiny", "smoke").todo
    run_task(Task((cell,)), store)
    found = store.scores([cell.trial_id])
    assert list(found.columns) == ["trial_id", "schema_version", "step", "split", "group", "metric", "value"]
    assert len(found) == 30
    store.compact()
    pd.testing.assert_frame_equal(store.scores(), found)
    assert store.scores(["none"]).empty

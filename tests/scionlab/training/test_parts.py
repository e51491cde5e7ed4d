"""Batches in parts: the same numbers, memory that runs out and what then, and batches that must stay whole."""

import pytest
import torch
from torch import nn

from scionlab.optim.method import Batch
from scionlab.problems.data import load
from scionlab.problems.data.base import IGNORED
from scionlab.spec import Trial
from scionlab.training import Run, train
from scionlab.training.oracle import ModelOracle
from scionlab.training.parts import Parts, cut, equal_size
from scionlab.training.passes import Passes
from scionlab.training.prepare import build, data_of, resolve

# A few steps in float32, whose sums are in another order: hundreds of roundings of 6e-8.
ROUNDING = {"rtol": 1e-4, "atol": 1e-6}
IMAGES = {"data": "digits", "seq_len": 1, "val_seq_len": 1, "val_tokens": 64, "batch_size": 8, "tokens": 64}


class Layers(nn.Module):
    """A body of one's own, and a head."""

    def __init__(self, *between):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), *between)
        self.head = nn.Linear(8, 10)

    def forward(self, images):
        return self.head(self.body(images))


class Seen(nn.Module):
    """Counts its examples."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += len(x)
        return x


def plain(width, depth):
    """As a model of the caller's."""
    return Layers(nn.ReLU())


def normalizing(width, depth):
    """Over the batch."""
    return Layers(nn.BatchNorm1d(8, affine=False))


def drawing(width, depth):
    """Not by a module."""
    return Layers(Drawing())


def gathering(width, depth):
    """Statistics of its batches."""
    return Layers(Seen())


class Drawing(nn.Module):
    """Dropout by a function."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5, self.training)


def trial_of(**fields):
    sizes = {"optimizer": "adam", "lr": 2**-7, "width": 16, "depth": 1, "batch_size": 8, "seq_len": 16, "tokens": 512}
    return resolve(Trial(**{**sizes, "val_tokens": 256, "val_seq_len": 16, "device": "cpu", **fields}))


def own_trial(function, **fields):
    rules = ("body.*=input", "head.*=output")
    return trial_of(**IMAGES, model=f"{__name__}:{function.__name__}", rules=rules, **fields)


def oracle_of(trial, micro_batch=0):
    source = data_of(trial)
    return ModelOracle(Passes(build(trial, source.shape)[0], source, trial), micro_batch=micro_batch)


def batch_of(trial, count=8):
    return Batch(data_of(trial).training(count, trial.seq_len, 0).next_batch())


class Small:
    """A GPU of this many examples: `ModelOracle._read` fails beyond them, after the pass has gathered statistics."""

    def __init__(self, oracle, most):
        self.read, self.most, self.asked = oracle._read, most, []
        oracle._read = self

    def __call__(self, batch, *others):
        self.asked.append(len(batch))
        found = self.read(batch, *others)
        if len(batch) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return found


# --- cutting ---


def test_shares_are_those_of_the_examples():
    source = load("digits")
    batch = source.training(5, 1, 0).next_batch()
    shares, parts = zip(*cut(source, batch, 2), strict=True)
    assert shares == (0.4, 0.4, 0.2)
    assert torch.equal(torch.cat(parts), batch)


class Counting:
    """Targets of which some do not count."""

    is_cross_entropy = True

    def unpack(self, batch):
        return batch, batch


def test_targets_that_do_not_count_have_no_share_and_parts_without_any_are_left_out():
    batch = torch.tensor([[1, 2, 3], [4, IGNORED, IGNORED], [IGNORED] * 3, [IGNORED] * 3])
    assert [(share, len(part)) for share, part in cut(Counting(), batch, 1)] == [(0.75, 1), (0.25, 1)]
    ((share, part),) = cut(Counting(), torch.full((4, 3), IGNORED), 2)  # undefined as the whole batch's is
    assert (share, len(part)) == (1.0, 2)


@pytest.mark.parametrize(
    ("batch", "most", "size"), [(64, 40, 32), (64, 63, 32), (24, 7, 6), (7, 4, 4), (13, 5, 5), (13, 6, 5), (5, 1, 1)]
)
def test_parts_are_equal_where_that_costs_no_more_than_half(batch, most, size):
    assert equal_size(batch, most) == size
    rest = batch % size
    assert rest == 0 or size - rest < size  # nearly equal: never more parts than `most` would need
    assert -(-batch // size) <= 2 * -(-batch // most)


# --- a run ---


@pytest.mark.parametrize("fields", [{}, {"model": "cnn", **IMAGES}, {"optimizer": "scion-light"}, {"clip_norm": 0.1}])
def test_a_run_in_parts_is_the_run_up_to_rounding_and_says_so(fields):
    trial = trial_of(**fields)
    whole, parts = (train(trial, data_of(trial), micro_batch=size) for size in (0, 2))
    assert (whole.summary["micro_batch"], parts.summary["micro_batch"]) == (0, 2)
    assert whole.summary["micro_batch_note"] is parts.summary["micro_batch_note"] is None
    assert whole.summary["gradient_calls"] == parts.summary["gradient_calls"] == trial.steps
    for name in ("initial_loss", "train_loss", "val_loss"):
        assert parts.summary[name] == pytest.approx(whole.summary[name], rel=1e-5)


def test_parts_that_hold_the_batch_change_no_bit_and_are_none():
    trial = trial_of()
    whole, same = (train(trial, data_of(trial), micro_batch=size) for size in (0, 128))
    assert same.summary["micro_batch"] == 0
    assert same.curve == whole.curve
    assert same.summary["val_loss"] == whole.summary["val_loss"]


def test_validation_is_read_in_parts_of_as_many_tokens():
    trial = trial_of(val_seq_len=32)
    run = Run(trial, data_of(trial), micro_batch=4)
    sizes = []
    run.model.register_forward_pre_hook(lambda module, arguments: sizes.append(len(arguments[0])))
    loss, _ = run.validate()
    assert sizes == [2] * 4  # 256 tokens as windows of 32, where a part has 4 of 16
    assert loss == pytest.approx(Run(trial, data_of(trial)).validate()[0], rel=1e-6)


def test_validation_of_images_in_parts_counts_what_is_right():
    trial = trial_of(model="mlp", **IMAGES)
    whole, parts = (Run(trial, data_of(trial), micro_batch=size).validate() for size in (0, 3))
    assert parts == pytest.approx(whole, rel=1e-6)
    assert 0 < whole[1] < 1


# --- memory that runs out ---


@pytest.mark.parametrize(("asked", "sizes"), [(0, [8, 4, 2, 2, 2, 2]), (5, [5, 3, 2, 2, 2, 2])])
def test_out_of_memory_the_reading_is_taken_again_in_parts_of_half(asked, sizes):
    trial = trial_of()
    oracle, batch = oracle_of(trial, asked), batch_of(trial)
    expected = oracle_of(trial).at(batch)
    small = Small(oracle, 2)
    found = oracle.at(batch)
    assert small.asked == sizes
    assert oracle.calls == 1
    torch.testing.assert_close(found.loss, expected.loss, **ROUNDING)
    torch.testing.assert_close(found.gradients, expected.gradients, **ROUNDING)
    small.asked.clear()
    oracle.at(batch)
    assert small.asked == [2] * 4  # the size is kept
    before = asked or "whole batches"
    note = f"CUDA ran out of memory: halved from {before} to 2"
    assert oracle.parts.columns() == {"micro_batch": 2, "micro_batch_note": note}


def test_below_one_example_the_error_is_raised_and_says_what_was_tried():
    oracle = oracle_of(trial_of())
    Small(oracle, 0)
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        oracle.at(batch_of(trial_of()))
    assert caught.value.__notes__ == ["the batch of 8 was read in parts of 1"]


def test_a_run_that_was_halved_on_its_way_is_the_run_up_to_rounding():
    trial = trial_of(optimizer="scion-light", tokens=1024)
    whole = train(trial, data_of(trial))
    run = Run(trial, data_of(trial))
    run.run_steps(3)
    Small(run.oracle, 3)
    run.run_stage()
    found = run.outcome()
    assert found.summary["micro_batch"] == 2
    assert "halved from whole batches to 2" in found.summary["micro_batch_note"]
    assert found.summary["gradient_calls"] == trial.steps
    assert found.summary["val_loss"] == pytest.approx(whole.summary["val_loss"], rel=1e-5)
    assert found.curve[:3] == whole.curve[:3]


def test_a_checkpoint_keeps_what_was_halved():
    trial = trial_of(tokens=1024)
    run = Run(trial, data_of(trial))
    Small(run.oracle, 3)
    run.run_steps(3)
    state = run.state_dict()
    for asked, size in {0: 2, 4: 2, 1: 1}.items():
        again = Run(trial, data_of(trial), micro_batch=asked)
        again.load_state_dict(state)
        assert again.oracle.parts.size == size
    plain_run = Run(trial, data_of(trial), micro_batch=4)
    plain_run.run_steps(3)
    again = Run(trial, data_of(trial))
    again.load_state_dict(plain_run.state_dict())
    assert again.oracle.parts.size == 0  # what was asked for is a matter of the call


def test_what_a_failed_reading_gathered_is_undone_and_its_draws_are_the_same():
    trial = own_trial(gathering)
    oracle, batch = oracle_of(trial), batch_of(trial)
    Small(oracle, 4)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        oracle.at(batch)  # stays whole: a part would gather otherwise
    assert oracle.parts.kept_whole == "batches stay whole: the model gathers statistics of them"

    model = Passes(build(own_trial(plain), data_of(trial).shape)[0], data_of(trial), own_trial(plain))
    model.model.register_buffer("failures", torch.zeros(()))
    parts, asked = Parts(model), []

    def read(pieces):
        model.model.failures += 1
        asked.append((len(pieces), float(model.model.failures)))
        if len(pieces) < 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return "read"

    assert parts.reading(batch, read) == "read"
    assert asked == [(1, 1.0), (2, 1.0), (4, 1.0)]


# --- batches that stay whole ---


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (normalizing, "batches stay whole: the model normalizes over them"),
        (drawing, "batches stay whole: the model draws, as dropout does, and would draw otherwise for parts"),
        (gathering, "batches stay whole: the model gathers statistics of them"),
        (plain, None),
    ],
)
def test_a_batch_is_cut_only_where_that_changes_nothing(function, why):
    trial = own_trial(function)
    oracle, batch = oracle_of(trial, 2), batch_of(trial)
    expected = oracle_of(trial).at(batch)
    found = oracle.at(batch)
    assert oracle.parts.columns() == {"micro_batch": 0 if why else 2, "micro_batch_note": why}
    close = {"rtol": 0, "atol": 0} if why else ROUNDING
    torch.testing.assert_close(found.loss, expected.loss, **close)
    torch.testing.assert_close(found.gradients, expected.gradients, **close)
    seen = dict(oracle.buffers).get("body.2.seen")
    assert seen is None or seen == len(batch)  # asking whether it may be cut has left nothing behind

"""Batches that a function of the caller's gives: kept as bytes, epoch after epoch, with the loss that suits them."""

import importlib
import math
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from own_code import SMALL
from torch.utils.data import DataLoader, TensorDataset

from scionlab.errors import UserError
from scionlab.problems.data import Sizes
from scionlab.problems.data.own import OwnData
from scionlab.problems.data.packed import Packing
from scionlab.runs.store import RunStore
from scionlab.spec import Trial
from scionlab.sweep.plan import make_plan

SIZES = Sizes(batch_size=4, seq_len=1, val_tokens=8, val_seq_len=1)
DTYPES = [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32, torch.float64, torch.bfloat16]
SHAPES = st.lists(st.integers(1, 4), max_size=3)


def data(function, sizes=SIZES):
    """The source that a function of this module would give."""
    return OwnData("here:function", sys.modules[__name__], function, sizes)


def loader(split, batch_size, seq_len, seed):
    """Ten examples, the numbers 0 to 9, with themselves as targets."""
    numbers = torch.arange(10.0)[:, None]
    return DataLoader(TensorDataset(numbers, numbers), batch_size, shuffle=split == "train")


def endless(split, batch_size, seq_len, seed):
    number = 0
    while True:
        number += 1
        yield torch.full((batch_size, 2), float(number)), torch.full((batch_size,), number % 3)


def inputs_of(source, batches):
    return source.unpack(batches.next_batch())[0].flatten().tolist()


@given(st.sampled_from(DTYPES), st.sampled_from(DTYPES), SHAPES, SHAPES, st.integers(1, 5), st.data())
def test_what_is_packed_is_unpacked_unchanged_also_in_parts(of_inputs, of_targets, left, right, count, draw):
    seed = draw.draw(st.integers(0, 99))
    generator = torch.Generator().manual_seed(seed)
    inputs = (torch.randn(count, *left, generator=generator) * 9).to(of_inputs)
    targets = (torch.randn(count, *right, generator=generator) * 9).to(of_targets)
    packing = Packing("here")
    rows = packing.pack((inputs, targets), 1)
    assert len(rows) == count
    for start, part in enumerate(rows.split(1)):
        for given_, found in zip((inputs, targets), packing.unpack(part), strict=True):
            assert found.dtype == given_.dtype
            assert torch.equal(found, given_[start : start + 1])


def test_a_data_loader_is_gone_through_epoch_by_epoch_and_its_last_small_batch_left_out():
    source = data(loader)
    batches = source.training(4, 1, seed=0)
    seen = [inputs_of(source, batches) for _ in range(4)]
    assert batches.epochs == 1 + 2 / 3
    assert len(set(seen[0] + seen[1])) == 8
    assert seen[:2] != seen[2:]
    assert inputs_of(source, source.training(4, 1, seed=0)) == seen[0]
    assert inputs_of(source, source.training(4, 1, seed=1)) != seen[0]


def test_an_order_goes_on_from_a_saved_place():
    source = data(loader)
    batches = source.training(4, 1, seed=0)
    for _ in range(3):
        batches.next_batch()
    place = batches.state_dict()
    other = source.training(4, 1, seed=0)
    other.load_state_dict(place)
    assert [inputs_of(source, batches) for _ in range(3)] == [inputs_of(source, other) for _ in range(3)]
    assert other.epochs == batches.epochs


def test_another_batch_size_begins_another_epoch_also_after_it_was_saved():
    source = data(loader)
    batches = source.training(4, 1, seed=0)
    batches.next_batch()
    batches.batch_size = 2
    other = source.training(2, 1, seed=0)
    other.load_state_dict(batches.state_dict())
    assert [len(inputs_of(source, batches)) for _ in range(3)] == [2, 2, 2]
    assert batches.epoch == 1
    again = [inputs_of(source, other) for _ in range(3)]
    assert inputs_of(source, batches) == inputs_of(source, other)
    assert len(again) == 3


def test_data_without_end_are_never_asked_for_again():
    source = data(endless)
    batches = source.training(4, 1, seed=0)
    assert [inputs_of(source, batches)[0] for _ in range(5)] == [1, 2, 3, 4, 5]
    assert batches.epochs == 0
    assert source.shape.kind == "image"
    assert source.held_out(8, 1).shape == (8, 2 * 4 + 8)


def test_losses_are_cross_entropy_for_integers_and_squares_for_others():
    logits, classes = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    source = data(endless)
    torch.testing.assert_close(source.loss(logits, classes), F.cross_entropy(logits, classes))
    assert source.correct(logits, classes) == (logits.argmax(1) == classes).sum()
    sequences = torch.randn(2, 5, 3), torch.randint(3, (2, 5))
    expected = F.cross_entropy(sequences[0].transpose(1, 2), sequences[1])
    torch.testing.assert_close(source.loss(*sequences), expected)
    assert source.correct(*sequences) is None
    numbers = torch.randn(4, 2)
    torch.testing.assert_close(source.loss(numbers, numbers + 1), torch.tensor(1.0))


def test_a_functions_own_loss_replaces_them():
    def batches(split, batch_size, seq_len, seed):
        return loader(split, batch_size, seq_len, seed)

    batches.loss = lambda outputs, targets: (outputs - targets).abs().max()
    source = data(batches)
    assert source.loss(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 2.0])) == 3
    assert source.correct(torch.zeros(2, 3), torch.tensor([0, 1])) is None


def test_a_limit_is_the_functions_own():
    with pytest.raises(UserError, match="train_limit: 8 is not allowed"):
        data(loader).training(4, 1, 0, limit=8)


def test_the_hash_of_the_data_follows_what_they_give():
    def other(split, batch_size, seq_len, seed):
        return [(inputs + 1, targets) for inputs, targets in loader(split, batch_size, seq_len, seed)]

    def trained(split, batch_size, seq_len, seed):
        return (other if split == "train" else loader)(split, batch_size, seq_len, seed)

    plain, changed, half = data(loader), data(other), data(trained)
    assert data(loader).split_sha256 == plain.split_sha256
    assert changed.sha256 != plain.sha256 == half.sha256
    assert len({plain.split_sha256, changed.split_sha256, half.split_sha256}) == 3
    assert math.isclose(plain.unpack(plain.held_out(8, 1))[0].sum(), sum(range(8)))


COUNTED = """
import torch

CALLS = []


def batches(split, batch_size, seq_len, seed):
    CALLS.append(split)
    for _ in range(100):
        windows = torch.randint(256, (batch_size, seq_len + 1))
        yield windows[:, :-1], windows[:, 1:]


batches.n_outputs = 256
"""


def test_planning_calls_a_loader_as_seldom_as_can_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "counted_data.py").write_text(COUNTED)
    fields = {**SMALL, "data": "counted_data:batches", "optimizer": "adam", "head_dim": 8}
    sizes = [
        {"batch_size": batch, "width": width, "lr": lr} for batch in (4, 8) for width in (8, 16) for lr in (0.1, 1)
    ]
    make_plan([Trial(**{**fields, **size}) for size in sizes], RunStore(tmp_path / "runs"), "mine", "smoke")
    calls = importlib.import_module("counted_data").CALLS
    assert calls.count("validation") == 2  # once to be kept, once to see that it comes again
    assert calls.count("train") == 2 * 2  # of each batch size, to be hashed and to be tried

"""How many batches are prepared ahead of their steps."""

import pytest

from scionlab.problems.data import load
from scionlab.training.feed import AHEAD, AHEAD_BYTES, example_bytes, steps_ahead


@pytest.mark.parametrize(("data", "seq_len"), [("sotu", 64), ("digits", 1), ("digits,enlarge=4", 1)])
def test_an_example_takes_about_as_many_bytes_as_its_batch_says(data, seq_len):
    batch = load(data).training(8, seq_len, seed=0).next_batch()
    most = 8 * example_bytes(load(data), seq_len)
    assert batch.untyped_storage().nbytes() <= most <= 9 * max(batch.untyped_storage().nbytes(), 64)


def test_large_batches_are_prepared_one_by_one():
    cifar, imagenet = 2000 * 4 * 3 * 32**2, 4096 * 4 * 3 * 224**2
    assert steps_ahead("cuda", cifar) == AHEAD["cuda"]
    assert steps_ahead("cuda", AHEAD_BYTES // 3) == 3
    assert steps_ahead("cuda", imagenet) == 1
    assert steps_ahead("cpu", 1) == AHEAD["cpu"]

"""Random streams of the caller's code: no two uses draw the same numbers."""

import itertools
import random

import numpy as np
import torch
from own_code import MODEL, SMALL

from scionlab.own.randomness import Stream, Use
from scionlab.spec import Trial
from scionlab.training.prepare import data_of, identity, resolve

LENGTHS = {
    Use.MODEL: 1,
    Use.COUNTS: 0,
    Use.VALIDATION_DATA: 0,
    Use.TRAINING_DATA: 3,
    Use.TRAINING_SEED: 4,
    Use.TRAINING_STEP: 2,
    Use.EVALUATION: 2,
    Use.DROP_PATH: 2,
}


def test_no_two_uses_and_keys_share_their_draws():
    seeds = {}
    for use in Use:
        for key in itertools.product((0, 1, 2, 5), repeat=LENGTHS[use]):
            seeds[use, key] = tuple(Stream(use, *key).seeds)
    assert len(set(seeds.values())) == len(seeds)


def test_a_stream_goes_on_where_it_was_and_leaves_the_outside_alone():
    outside = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    whole, parts = Stream(Use.MODEL, 3), Stream(Use.MODEL, 3)
    with whole.entered():
        expected = [random.random(), *np.random.rand(2), *torch.rand(2).tolist(), random.random()]
    with parts.entered():
        found = [random.random(), *np.random.rand(2)]
    with parts.entered():
        found += [*torch.rand(2).tolist(), random.random()]
    assert found == expected
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == outside


# A model and data that draw: what they draw must have nothing to do with each other.
RANDOM = """
import torch
from torch import nn

DRAWN = {}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(256, 8)
        self.head = nn.Linear(8, 256)
        self.register_buffer("features", torch.rand(4))
        DRAWN.setdefault("model", []).append(self.features.tolist())

    def forward(self, tokens):
        DRAWN.setdefault("train" if self.training else "evaluation", []).append(torch.rand(4).tolist())
        return self.head(self.embed(tokens))


def build(width, depth):
    return Net()


def batches(split, batch_size, seq_len, seed):
    for _ in range(100):
        DRAWN.setdefault(split, []).append(torch.rand(4).tolist())
        windows = torch.randint(256, (batch_size, seq_len + 1))
        yield windows[:, :-1], windows[:, 1:]
"""


def test_model_data_dropout_and_evaluation_draw_different_numbers(tmp_path, monkeypatch):
    import importlib

    from scionlab.training import train

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "random_net.py").write_text(RANDOM)
    fields = {**SMALL, "model": "random_net:build", "data": "random_net:batches", "optimizer": "adam", "lr": 0.01}
    asked = resolve(Trial(**fields, seed=0))
    data = data_of(asked)
    drawn = importlib.import_module("random_net").DRAWN
    drawn.clear()
    train(asked, data)
    assert set(drawn) == {"model", "train", "evaluation"}  # validation data were read before
    numbers = [tuple(row) for rows in drawn.values() for row in rows]
    steps, evaluations = 8, len({tuple(row) for row in drawn["evaluation"]})
    assert len(set(numbers)) == len({tuple(row) for row in drawn["model"]}) + 2 * steps + evaluations


def test_only_trials_with_code_of_the_callers_know_the_version_of_the_streams(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "versioned_net.py").write_text(MODEL)
    fields = {**SMALL, "head_dim": 8, "data": "sotu", "optimizer": "adam", "lr": 0.01}
    asked = [resolve(Trial(**fields, model=model)) for model in ("gpt", "versioned_net:build")]
    before = [identity(trial, data_of(trial)) for trial in asked]
    monkeypatch.setattr("scionlab.training.prepare.STREAMS_VERSION", 99)
    after = [identity(trial, data_of(trial)) for trial in asked]
    assert after[0] == before[0]
    assert after[1] != before[1]

"""Trials on shards: gone on with within an epoch, in nats a token and a byte, at the size of the vocabulary."""

import json
import math

import numpy as np
import pytest
from token_files import headed
from trainings import numbers

from scionlab import training
from scionlab.problems.data import load
from scionlab.problems.models import chunks, gpt
from scionlab.training.prepare import data_of, identity

SIZES = {"width": 16, "head_dim": 8, "depth": 1, "batch_size": 4, "seq_len": 16, "val_tokens": 64, "val_seq_len": 16}


@pytest.fixture
def shards(tmp_path):
    """Forty windows of a text whose tokens go in circles of 500, with a manifest."""
    walk = np.random.default_rng(0).integers(1, 4, 1000).cumsum() % 500
    splits = {"train": walk[:641], "val": walk[-100:]}
    for name, tokens in splits.items():
        headed(tmp_path / f"{name}.bin", tokens)
    files = {
        name: [{"name": f"{name}.bin", "tokens": len(tokens), "sha256": "0" * 64, "header_bytes": 1024}]
        for name, tokens in splits.items()
    }
    manifest = {"dtype": "uint16", "vocabulary": 500, "padded": 512, "train": {"files": files["train"]}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"val": {"files": files["val"], "text_bytes": 350}}))
    return f"tokens:{tmp_path}"


def trial_on(make, data, **fields):
    return training.resolve(make(data=data, **{**SIZES, "tokens": 25 * 64, "val_seq_len": 16, **fields}))


@pytest.mark.parametrize("at", [1, 3, 13, 24])  # ten steps are an epoch
def test_a_run_goes_on_within_an_epoch_bit_for_bit(tiny, shards, at):
    trial = trial_on(tiny, shards, clip_norm=1.0, warmup=0.2, optimizer="adam", lr=2**-7)
    data = data_of(trial)
    whole = training.train(trial, data)
    first = training.Run(trial, data)
    first.run_steps(at)
    load.cache_clear()
    second = training.Run(trial, load(shards))
    second.load_state_dict(first.state_dict())
    second.run_steps(trial.steps)
    assert numbers(second.outcome()) == numbers(whole)
    assert whole.summary["epochs"] == 2.5


def test_losses_are_in_nats_a_token_and_a_byte(tiny, shards):
    trial = trial_on(tiny, shards)
    summary = training.train(trial, data_of(trial)).summary
    assert summary["vocab_size"] == 512
    assert abs(summary["initial_loss"] - math.log(512)) < 1
    assert summary["val_loss_per_byte"] == pytest.approx(summary["val_loss"] * 100 / 350)


def test_of_a_text_of_bytes_both_are_the_same(tiny):
    trial = training.resolve(tiny())
    summary = training.train(trial, data_of(trial)).summary
    assert summary["val_loss_per_byte"] == summary["val_loss"]


def test_where_bytes_are_not_known_there_is_no_loss_a_byte(tiny, shards):
    trial = trial_on(tiny, f"{shards}/*.bin,vocabulary=500")
    assert training.train(trial, data_of(trial)).summary["val_loss_per_byte"] is None
    images = training.resolve(tiny(data="digits", model="mlp", seq_len=1, val_seq_len=1, val_tokens=32))
    assert training.train(images, data_of(images)).summary["val_loss_per_byte"] is None


def test_trials_are_known_by_their_data(tiny, shards):
    first, other = (trial_on(tiny, data) for data in (shards, f"{shards}/manifest.json"))
    assert identity(first, data_of(first)) == identity(other, data_of(other))
    padded = trial_on(tiny, f"{shards}/*.bin,vocabulary=500,multiple=128")
    assert identity(first, data_of(first)) != identity(padded, data_of(padded))


def test_a_stack_trains_on_them_as_single_trials_do(tiny, shards):
    trials = [trial_on(tiny, shards, seed=seed) for seed in (0, 1)]
    data = data_of(trials[0])
    for alone, stacked in zip(
        (training.train(t, data) for t in trials), training.train_stack(trials, data), strict=True
    ):
        assert stacked.summary["val_loss"] == pytest.approx(alone.summary["val_loss"], rel=1e-4)
        assert stacked.summary["val_loss_per_byte"] == pytest.approx(alone.summary["val_loss_per_byte"], rel=1e-4)


def test_a_large_vocabularys_logits_are_never_whole(tiny, shards, monkeypatch):
    trial = trial_on(tiny, shards)
    whole = training.train(trial, load(shards)).summary["val_loss"]
    used = []

    def counted(*arguments):
        used.append(arguments)
        return chunks.mean_cross_entropy(*arguments)

    monkeypatch.setattr(gpt, "mean_cross_entropy", counted)
    for bound, value in (("LARGE_VOCABULARY", 500), ("WHOLE", 0), ("CHUNK", 512)):
        monkeypatch.setattr(chunks, bound, value)
    assert training.train(trial, load(shards)).summary["val_loss"] == pytest.approx(
        whole, rel=1e-4
    )  # float32, 25 steps
    assert len(used) > trial.steps

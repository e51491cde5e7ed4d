"""Trials of several budgets from one stem: their numbers are those of the trials alone, bit for bit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trainings import CORPUS, SIZES, TIMES, staged, trial

from scionlab import training
from scionlab.errors import UserError
from scionlab.training import part, shared_steps, stem_key, train_stem
from scionlab.training.stem import Stem

APART = (*TIMES, "stem_steps")
WSD = {"schedule": "trapezoid", "decay_fraction": 0.25, "warmup": 0.0}


def budget(optimizer, steps, **fields):
    """A trial of so many steps of 2 × 16 tokens, its last quarter a decay."""
    return trial(optimizer, tokens=32 * steps, **{**SIZES, **WSD, **fields})


def numbers(outcome):
    summary = {name: value for name, value in outcome.summary.items() if name not in APART}
    return str((summary, outcome.curve, outcome.layers))  # as text: NaN is not equal to itself


def same_as_alone(trials, corpus=CORPUS):
    """The outcomes of the stem, after they were compared."""
    outcomes = train_stem(trials, corpus)
    for one, outcome in zip(trials, outcomes, strict=True):
        assert numbers(outcome) == numbers(training.train(one, corpus))
    return outcomes


# --- the same numbers ---


@pytest.mark.parametrize("optimizer", ["scion", "uscion", "scion-light", "adam", "muon", "shampoo"])
def test_every_budget_of_a_stem_is_the_trial_alone(optimizer):
    outcomes = same_as_alone([budget(optimizer, steps) for steps in (12, 48, 24)])
    # the steps before the last quarter, and the first of it, which has the whole rate yet
    assert [outcome.summary["stem_steps"] for outcome in outcomes] == [10, 19, 19]


@pytest.mark.parametrize(
    ("optimizer", "fields"),
    [
        ("adam", {"clip_norm": 0.05, "ema": 0.9}),
        ("scion", {"clip_norm": 0.5, "clip_by": "dual"}),
        ("scion", {"momentum_schedule": "vanishing"}),
        ("scion", {"validate_every": 96, "ema": 0.5}),
        ("adam", {"train_limit": 640, "min_lr_ratio": 0.1, "decay": "sqrt"}),
        ("adam", {"schedule": "constant"}),
    ],
)
@pytest.mark.parametrize("rows", [128, 4])
def test_what_a_trial_measures_and_keeps_is_that_of_the_trial_alone(optimizer, fields, rows, monkeypatch):
    monkeypatch.setattr(training.log, "MAX_CURVE_ROWS", rows)  # with 4, losses wait for rows of other steps
    same_as_alone([budget(optimizer, steps, **fields) for steps in (13, 24, 50)])


def test_other_decays_of_the_same_budget_branch_off_too():
    decays = [{"decay_fraction": 0.5}, {}, {"schedule": "constant"}, {"decay": "cosine", "min_lr_ratio": 0.5}]
    # a ratio of 0.5 makes 0.5 + 0.5 of the whole rate, which is exact
    outcomes = same_as_alone([budget("adam", 16, **fields) for fields in decays])
    assert [outcome.summary["stem_steps"] for outcome in outcomes] == [9, 13, 13, 13]


def test_warm_ups_of_the_same_length_are_shared_and_those_of_the_same_share_are_not():
    same_length = [budget("adam", steps, warmup=4 / steps) for steps in (16, 32)]
    assert [outcome.summary["stem_steps"] for outcome in same_as_alone(same_length)] == [13, 13]
    same_share = [budget("adam", steps, warmup=0.25) for steps in (16, 32)]
    assert [outcome.summary["stem_steps"] for outcome in same_as_alone(same_share)] == [0, 0]


def test_divergence_in_the_stem_is_seen_at_each_trials_own_rows(monkeypatch):
    monkeypatch.setattr(training.log, "MAX_CURVE_ROWS", 8)
    trials = [budget("adam", steps, lr=3.0) for steps in (60, 90, 400)]
    outcomes = same_as_alone(trials)
    assert {outcome.summary["status"] for outcome in outcomes} == {"diverged"}
    assert len({outcome.summary["steps_done"] for outcome in outcomes}) == 3  # rows lie at other steps
    assert all(o.summary["stem_steps"] <= o.summary["steps_done"] < 0.7 * o.summary["steps"] for o in outcomes)


def test_divergence_by_another_rule_ends_one_trial_and_not_the_others(monkeypatch):
    rules = [{"divergence_factor": 1.01, "divergence_scale": 1e-6}, {}, {"divergence_factor": 1e6}]
    trials = [budget("adam", 40, lr=2**-1, **rule) for rule in rules] + [budget("adam", 64, lr=2**-1)]
    outcomes = same_as_alone(trials)
    assert outcomes[0].summary["status"] == "diverged"
    assert outcomes[2].summary["status"] == "ok"


def test_divergence_after_the_stem_is_the_trials_own():
    trials = [budget("adam", 16), budget("adam", 32)]
    stem = Stem(trials, CORPUS)
    stem.run_steps(100)
    run = stem.branch(0)
    run.method.step = lambda oracle, batch: torch.tensor(math.nan)
    while not run.finished:
        run.run_stage()
    assert run.outcome().summary["status"] == "diverged"
    stem.leave(0)
    (n,) = stem.leaving()
    run = stem.branch(n)
    run.run_stage()
    assert numbers(run.outcome()) == numbers(training.train(trials[1], CORPUS))


def test_a_model_that_draws_and_gathers_statistics(tmp_path, monkeypatch, text_file):
    (tmp_path / "stem_net.py").write_text(NORMED)
    monkeypatch.syspath_prepend(tmp_path)
    from scionlab.training.prepare import data_of

    fields = {"model": "stem_net:build", "data": f"path:{text_file}"}
    trials = [budget("adam", steps, **fields) for steps in (12, 24)]
    outcomes = same_as_alone(trials, data_of(trials[0]))
    assert outcomes[0].summary["stem_steps"] == 10


NORMED = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed, self.head = nn.Embedding(256, width), nn.Linear(width, 256)
        self.norm, self.drop = nn.BatchNorm1d(width), nn.Dropout(0.5)

    def forward(self, tokens):
        x = self.norm(self.embed(tokens).transpose(1, 2)).transpose(1, 2)
        return self.head(self.drop(x))


def build(width, depth):
    return Net(width)
"""


# --- where trials part ---

SHAPES = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 40),
        "schedule": st.sampled_from(["trapezoid", "linear", "cosine", "constant"]),
        "warmup": st.sampled_from([0.0, 0.1, 0.25, 0.5]),
        "decay_fraction": st.sampled_from([0.1, 0.2, 0.25, 0.5]),
        "decay": st.sampled_from(["linear", "cosine", "sqrt"]),
        "min_lr_ratio": st.sampled_from([0.0, 0.1, 0.3]),
    }
)


def rates(one):
    """The rate of every step, as the run takes it."""
    run = training.Run(one, CORPUS)
    return [run.shape(step * run.unit / run.unit) * one.lr for step in range(one.steps)]


@settings(max_examples=60, deadline=None)
@given(SHAPES, SHAPES)
def test_shared_steps_are_those_whose_rates_are_the_same(one, other):
    pair = [budget("adam", **fields) for fields in (one, other)]
    first, second = map(rates, pair)
    shorter = min(len(first), len(second))
    expected = next((k for k in range(shorter) if first[k] != second[k]), shorter)
    assert shared_steps(*pair) == shared_steps(*reversed(pair)) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(SHAPES, min_size=1, max_size=5))
def test_no_trial_follows_a_stem_whose_rates_are_not_its_own_and_steps_are_counted_once(shapes):
    trials = [budget("adam", **fields) for fields in shapes]
    parting = part(trials)
    stem = rates(trials[parting.trunk])
    for one, point in zip(trials, parting.points, strict=True):
        assert rates(one)[:point] == stem[:point]
    rest = [one.steps - point for one, point in zip(trials, parting.points, strict=True)]
    assert parting.trained == max(parting.points) + sum(rest)
    assert parting.alone == sum(one.steps for one in trials) >= parting.trained


def test_four_budgets_of_a_decay_share_what_is_before_it():
    trials = [budget("adam", steps) for steps in (8, 16, 32, 64)]
    parting = part(trials)
    assert (parting.trunk, parting.points) == (3, (7, 13, 25, 25))
    assert (parting.trained, parting.alone) == (25 + 1 + 3 + 7 + 39, 120)


def test_trials_of_a_stem_differ_in_budget_and_schedule_alone():
    key = stem_key(budget("adam", 16))
    free = [{"schedule": "constant"}, {"warmup": 0.25}, {"decay_fraction": 0.5}, {"decay": "sqrt"}, {"min_lr_ratio": 1}]
    assert {stem_key(budget("adam", 32, **fields)) for fields in free} == {key}
    other = [{"lr": 2**-8}, {"seed": 1}, {"batch_size": 4}, {"momentum_schedule": "constant", "momentum": 0.2}]
    other += [{"ema": 0.5}, {"validate_every": 64}, {"train_limit": 640}, {"clip_norm": 1.0}, {"width": 8}]
    keys = [stem_key(budget("scion", 16, **fields)) for fields in other]
    assert len({stem_key(budget("scion", 16)), key, *keys}) == len(other) + 2
    assert {stem_key(budget("adam", 16, **{field: 1})) for field in ("probe", "noise_probe", "watch")} == {None}
    assert stem_key(staged("adam", (4, 4, 16, 2**-6))) is None
    with pytest.raises(UserError, match="stem: these trials cannot be trained together"):
        Stem([budget("adam", 16), budget("scion", 16)], CORPUS)


# --- saved, and what it costs ---


@pytest.mark.parametrize("taken", [3, 13, 17])
def test_a_stem_that_was_saved_goes_on_to_the_same_numbers(taken, monkeypatch):
    monkeypatch.setattr(training.log, "MAX_CURVE_ROWS", 4)
    trials = [budget("adam", steps, clip_norm=0.05, validate_every=96, ema=0.9) for steps in (16, 32, 64)]
    stem = Stem(trials, CORPUS)
    while stem.step < taken:
        for n in stem.leaving():
            stem.leave(n)
        stem.run_steps(taken - stem.step)
    state = stem.state_dict()
    stem.run_steps(5)  # what is saved is a copy
    left = [one for n, one in enumerate(trials) if n in stem.followers]
    again = Stem(left, CORPUS)
    again.load_state_dict(state)
    while not again.finished:
        for n in again.leaving():
            run = again.branch(n)
            while not run.finished:
                run.run_stage()
            assert numbers(run.outcome()) == numbers(training.train(left[n], CORPUS))
            again.leave(n)
        again.run_steps(100)


def test_a_saved_stem_is_the_checkpoint_of_its_longest_trial():
    trials = [budget("adam", steps, clip_norm=0.05) for steps in (16, 64)]
    stem = Stem(trials, CORPUS)
    stem.run_steps(10)
    run = training.Run(trials[1], CORPUS)
    run.load_state_dict(stem.state_dict())
    run.run_stage()
    assert numbers(run.outcome()) == numbers(training.train(trials[1], CORPUS))
    with pytest.raises(UserError, match=r"checkpoint: trial [0-9a-f]{16} is not in it"):
        Stem([*trials, budget("adam", 24, clip_norm=0.05)], CORPUS).load_state_dict(stem.state_dict())
    with pytest.raises(UserError, match=r"checkpoint: trial [0-9a-f]{16} is not in it"):
        Stem(trials, CORPUS).load_state_dict(run.state_dict())
    with pytest.raises(UserError, match="checkpoint: it was saved by another version"):
        Stem(trials, CORPUS).load_state_dict(stem.state_dict() | {"version": 0})


def test_seconds_and_tokens_of_a_stem_are_shared_out_once():
    trials = [budget("adam", steps) for steps in (16, 32, 64)]
    stem, took, trained = Stem(trials, CORPUS), {}, 0.0
    stem.run_steps(5)
    while not stem.finished:
        stem.trunk.clock.seconds += 3000.0  # while there are three, and again while there are two
        stem.run_steps(100)
        for n in stem.leaving():
            run = stem.branch(n)
            while not run.finished:
                run.run_stage()
            summary = run.outcome().summary
            took[n] = summary["wall_time_s"]
            trained += summary["tokens_per_s"] * summary["wall_time_s"]
            stem.leave(n)
    assert trained == pytest.approx(32 * part(trials).trained, rel=1e-9)  # float64 rounding
    assert part(trials).trained == 25 + 3 + 7 + 39
    for n, seconds in enumerate([1000, 2500, 2500]):
        assert seconds < took[n] < seconds + 100


def test_every_trial_hears_of_its_own_rows():
    trials = [budget("adam", steps, validate_every=96) for steps in (12, 24)]
    heard = [[], []]
    stem = Stem(trials, CORPUS, on_rows=[rows.append for rows in heard])
    while not stem.finished:
        for n in stem.leaving():
            run = stem.branch(n)
            while not run.finished:
                run.run_stage()
            stem.leave(n)
        if not stem.finished:
            stem.run_steps(100)
    for one, rows in zip(trials, heard, strict=True):
        alone = []
        training.train(one, CORPUS, on_row=alone.append)
        assert rows == alone
        assert np.isfinite([row.get("val_loss", row.get("train_loss")) for row in rows]).all()

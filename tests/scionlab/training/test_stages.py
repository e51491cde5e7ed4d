"""Stages: batch size, sequence length and learning rate restarted in the middle of a run, and saved runs."""

import math

import numpy as np
import pytest
import torch
from trainings import CORPUS, OTHER_LENGTH, SAME_LENGTH, numbers, run, saved_and_loaded, staged

from scionlab import training
from scionlab.errors import UserError
from scionlab.optim import recipe
from scionlab.problems.data import Corpus
from scionlab.spec import Stage
from scionlab.training import feed
from scionlab.training.prepare import architecture, train_flops


def train(*args, **fields) -> training.Outcome:
    return training.train(staged(*args, **fields), CORPUS)


# --- saved and loaded ---


@pytest.mark.parametrize("second", [SAME_LENGTH, OTHER_LENGTH], ids=["same length", "other length"])
@pytest.mark.parametrize(
    "optimizer", ["scion", "uscion", "scion-light", "adam", "adam-mup", "muon", "shampoo", "adagrad"]
)
def test_a_run_saved_between_its_stages_is_the_run_that_was_not(optimizer, second):
    asked = staged(optimizer, second, steps=12)
    state = training.Run(asked, CORPUS)
    state.run_stage()
    torch.manual_seed(1234)
    state = saved_and_loaded(state)
    assert not state.finished
    state.run_stage()
    assert numbers(state.outcome()) == numbers(training.train(asked, CORPUS))


@pytest.mark.parametrize("taken", [1, 6])  # of 4 steps and 4 twice as long
@pytest.mark.parametrize(
    ("optimizer", "fields"),
    [
        *((optimizer, {}) for optimizer in ("scion", "scion-light", "adam")),
        ("adam", {"warmup": 0.3, "clip_norm": 0.05, "ema": 0.9}),
        ("scion", {"probe": 2, "noise_probe": 2, "watch": 4, "validate_every": 96}),
    ],
)
def test_a_run_saved_between_any_two_steps_is_the_run_that_was_not(monkeypatch, optimizer, fields, taken):
    monkeypatch.setattr(training.log, "MAX_CURVE_ROWS", 4)  # losses wait for their row
    monkeypatch.setattr(training.run, "NOISE_WINDOWS", 64)
    asked = staged(optimizer, OTHER_LENGTH, steps=12, **fields)
    state = training.Run(asked, CORPUS)
    while state.step < taken:
        state.run_steps(taken - state.step)
    torch.manual_seed(1234)
    state = saved_and_loaded(state)
    while not state.finished:
        state.run_stage()
    went_on, whole = state.outcome(), training.train(asked, CORPUS)
    assert numbers(went_on) == numbers(whole)
    assert (went_on.layers, went_on.scores) == (whole.layers, whole.scores)


def test_batches_drawn_ahead_are_drawn_again(monkeypatch):
    monkeypatch.setattr(feed, "AHEAD", {"cpu": 5})
    asked = staged("adam", OTHER_LENGTH, steps=12)
    state = training.Run(asked, CORPUS)
    for taken in (3, 6):  # a stage ends with 4
        while state.step < taken:
            state.run_steps(taken - state.step)
        state = saved_and_loaded(state)
    while not state.finished:
        state.run_stage()
    assert numbers(state.outcome()) == numbers(training.train(asked, CORPUS))


@pytest.mark.parametrize("probe", [0, 6])
def test_losses_not_yet_logged_and_probes_are_saved(monkeypatch, probe):
    monkeypatch.setattr(training.log, "MAX_CURVE_ROWS", 4)  # rows 1, 4, 8, 12: stage boundaries lie between them
    asked = staged("adam", (3, 2, 16, 2**-6), (6, 2, 32, 2**-7), (10, 4, 32, 2**-8), steps=16, probe=probe)
    state = training.Run(asked, CORPUS)
    while not state.finished:
        state.run_stage()
        state = saved_and_loaded(state)
    outcome = state.outcome()
    assert numbers(outcome) == numbers(training.train(asked, CORPUS))
    assert len([row for row in outcome.curve if "train_loss" in row]) <= 4


def test_seconds_add_up_over_saving():
    state = training.Run(staged("adam", SAME_LENGTH), CORPUS)
    state.run_stage()
    state.clock.seconds = 1000.0
    state = saved_and_loaded(state)
    state.run_stage()
    assert 1000 < state.outcome().summary["wall_time_s"] < 1100


def test_a_saved_state_is_a_copy_that_may_be_loaded_twice():
    state = training.Run(staged("adam", SAME_LENGTH), CORPUS)
    state.run_stage()
    kept = state.state_dict()
    state.run_stage()
    outcomes = [numbers(state.outcome())]
    for _ in range(2):
        again = training.Run(state.trial, CORPUS)
        again.load_state_dict(kept)
        again.run_stage()
        outcomes.append(numbers(again.outcome()))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_diverged_run_is_saved_as_such():
    state = training.Run(staged("adam", SAME_LENGTH, lr=1e4), CORPUS)
    state.run_stage()
    loaded = saved_and_loaded(state)
    assert loaded.finished
    assert str(numbers(loaded.outcome())) == str(numbers(state.outcome()))  # NaN is not equal to itself


@pytest.mark.parametrize("other", ["trial", "text"])
def test_the_state_of_another_run_is_refused(other):
    state = training.Run(staged("adam", SAME_LENGTH), CORPUS)
    asked = staged("adam", SAME_LENGTH, seed=1) if other == "trial" else state.trial
    text = Corpus("words", CORPUS.sha256, CORPUS.train[:-1], CORPUS.validation) if other == "text" else CORPUS
    with pytest.raises(UserError, match="checkpoint: it is of another trial"):
        training.Run(asked, text).load_state_dict(state.state_dict())


@pytest.mark.parametrize("version", [None, 0])
def test_the_state_of_another_version_is_refused(version):
    state = training.Run(staged("adam", SAME_LENGTH), CORPUS)
    with pytest.raises(UserError, match="checkpoint: it was saved by another version of scionlab"):
        state.load_state_dict(state.state_dict() | {"version": version})


def test_stages_are_run_once_and_summed_up_at_the_end():
    state = training.Run(staged("adam", SAME_LENGTH), CORPUS)
    with pytest.raises(AssertionError, match="a stage is left"):
        state.outcome()
    state.run_stage()
    state.run_stage()
    with pytest.raises(AssertionError, match="no stage is left"):
        state.run_stage()


# --- what a restart changes, and what it keeps ---


@pytest.mark.parametrize("schedule", ["linear", "trapezoid", "constant"])
@pytest.mark.parametrize("optimizer", ["scion", "adam", "muon"])
def test_a_restart_with_the_same_values_changes_nothing(optimizer, schedule):
    lr = training.Run(staged(optimizer), CORPUS).trial.lr
    same = train(optimizer, (3, 2, 16, lr), schedule=schedule)
    assert numbers(same) == numbers(train(optimizer, schedule=schedule))


def test_the_first_stage_is_that_of_the_run_without_a_second_one():
    alone = train("adam", steps=4, schedule="constant", warmup=0.0).curve
    assert train("adam", OTHER_LENGTH, steps=8, schedule="constant", warmup=0.0).curve[:4] == alone


@pytest.mark.parametrize("optimizer", ["scion", "uscion", "adam", "muon", "adagrad"])
def test_averages_and_moments_go_on_and_rates_are_the_stages(optimizer):
    state = training.Run(staged(optimizer, (4, 4, 16, 2**-9), schedule="constant"), CORPUS)
    for _ in range(4):
        state.advance()
    before = [dict(o.state) for o in state.method.optimizers]
    kept = [{p: {k: v.clone() for k, v in s.items()} for p, s in o.items()} for o in before]
    state.stage = 1
    state._enter_stage()
    for optimizer_state, held in zip((o.state for o in state.method.optimizers), kept, strict=True):
        assert set(optimizer_state) == set(held)
        assert all(torch.equal(optimizer_state[p][k], v) for p, s in held.items() for k, v in s.items())
    fresh = recipe(state.trial).optimizers(state.claims, 2**-9, 0.1, 16)
    rates = [[group["lr"] for group in o.param_groups] for o in (*state.method.optimizers, *fresh)]
    assert rates[: len(fresh)] == rates[len(fresh) :]


def test_rates_follow_the_schedule_over_all_tokens_times_the_stages_own_rate():
    # 4 steps of 32 tokens, 2 of 64, 2 of 128: 512 tokens, of which step k has seen `seen` before
    stages = [(4, 4, 16, 2**-6), (8, 4, 32, 2**-8)]
    seen, own = [0, 32, 64, 96, 128, 192, 256, 384], [2**-7] * 4 + [2**-6] * 2 + [2**-8] * 2
    shapes = {
        "constant": lambda t: 1.0,
        "linear": lambda t: (512 - t) / 512,
        "trapezoid": lambda t: min(1.0, (512 - t) / (0.25 * 512)),
    }
    for schedule, shape in shapes.items():
        asked = staged("adam", *stages, steps=16, schedule=schedule, decay_fraction=0.25, warmup=0.0)
        state = training.Run(asked, CORPUS)
        used = []
        while not state.finished:
            for _ in range(state._now.steps):
                state.advance()
                used.append(state.method.groups[0]["lr"])
            state.stage += 1
            if not state.finished:
                state._enter_stage()
        expected = [lr * shape(t) for lr, t in zip(own, seen, strict=True)]
        assert used == pytest.approx(expected, rel=1e-12)  # float64 rounding
        assert [row["lr"] for row in state.log.curve] == pytest.approx(expected, rel=1e-12)


def test_tokens_operations_and_passes_are_summed_over_the_stages():
    asked = staged("adam", (4, 4, 16, 2**-6), (8, 1, 64, 2**-6), (12, 2, 64, 2**-7), steps=20)
    assert [(s.batch_size, s.seq_len, s.steps) for s in asked.plan] == [(2, 16, 4), (4, 16, 2), (1, 64, 2), (2, 64, 2)]
    outcome = training.train(asked, CORPUS)
    summary = outcome.summary
    assert (summary["steps"], summary["steps_done"]) == (10, 10)
    assert summary["tokens"] == 4 * 32 + 2 * 64 + 2 * 64 + 2 * 128
    assert [row["tokens"] for row in outcome.curve] == [32, 64, 96, 128, 192, 256, 320, 384, 512, 640]
    short, long = (architecture(asked.replace(seq_len=s, stages=()), CORPUS.shape) for s in (16, 64))
    assert long.train_flops_per_token > short.train_flops_per_token
    flops = short.train_flops_per_token * 256 + long.train_flops_per_token * 384
    assert summary["flops"] == train_flops(asked, CORPUS.shape) == flops
    windows = [(len(CORPUS.train) - 1) // s for s in (16, 64)]
    assert summary["epochs"] == pytest.approx(16 / windows[0] + 6 / windows[1])
    assert summary["tokens_per_s"] == pytest.approx(640 / summary["wall_time_s"])


def test_a_run_that_diverges_in_a_later_stage_counts_what_it_did():
    outcome = train("adam", (4, 4, 16, 1e4), steps=40)
    summary = outcome.summary
    assert summary["status"] == "diverged"
    done = summary["steps_done"]
    assert 4 < done < summary["steps"]
    short = architecture(staged("adam"), CORPUS.shape).train_flops_per_token
    assert summary["flops"] == short * (4 * 32 + (done - 4) * 64)
    assert outcome.curve[-1]["tokens"] == 4 * 32 + (done - 4) * 64


class Recorder(training.Run):
    """Keeps the batches instead of learning from them."""

    def _step(self) -> torch.Tensor:
        self.batches = [*getattr(self, "batches", []), self.windows.next_batch()]
        return torch.tensor(1.0)


def batches(*stages, steps: int = 8, **fields) -> list[torch.Tensor]:
    state = Recorder(staged("adam", *stages, steps=steps, **fields), CORPUS)
    while not state.finished:
        state.run_stage()
    return state.batches


def test_a_larger_batch_goes_on_in_the_same_order():
    plain, larger = batches(steps=12), batches((4, 4, 16, 2**-6), steps=12)
    assert [len(batch) for batch in larger] == [2] * 4 + [4] * 4
    assert torch.equal(torch.cat(larger), torch.cat(plain))


def test_another_length_draws_an_order_of_its_own():
    first = batches(steps=4)
    drawn = [batches((4, 2, s, 2**-6), steps=12) for s in (16, 32)]
    assert all(torch.equal(torch.cat(d[:4]), torch.cat(first)) for d in drawn)
    longer = torch.cat(drawn[1][4:])
    assert longer.shape == (8, 33)
    from_the_start = torch.cat(batches(steps=8, seq_len=32, batch_size=2))[: len(longer)]
    assert not torch.equal(longer, from_the_start[: len(longer)])
    assert torch.equal(longer, torch.cat(batches((4, 2, 32, 2**-6), steps=12)[4:]))


def test_every_stages_rate_is_checked():
    with pytest.raises(UserError, match=r"lr: 1\.5 is not allowed"):
        staged("scion", (4, 4, 16, 1.5))
    assert staged("uscion", (4, 4, 16, 1.5)).stages[0].lr == 1.5


def test_windows_of_a_probe_have_the_length_of_their_stage():
    outcome = train("adam", OTHER_LENGTH, steps=12, probe=2)
    lengths = {row["step"]: row["probe_seq_len"] for row in reversed(outcome.curve) if "probe_seq_len" in row}
    assert lengths == {4: 16, 8: 32}


def test_the_loss_a_stage_starts_from_is_that_of_the_weights_it_got():
    # trained to a loss far below the start's, then restarted: no jump back
    outcome = run("adam", tokens=256 * 60, stages=[Stage(from_tokens=256 * 50, batch_size=16, seq_len=32, lr=2**-9)])
    losses = {row["step"]: row["train_loss"] for row in outcome.curve}
    assert losses[51] == pytest.approx(losses[50], rel=0.2)
    assert losses[51] < 0.5 * math.log(256)
    assert np.isfinite(numbers(outcome)[0]["val_loss"])

"""What a trial says of its training beside the method: clipping, averages of weights, validations, divergence."""

import copy
import math

import pytest
import torch
from trainings import CORPUS, TUNED, numbers, run, saved_and_loaded, staged, trial

from scionlab.errors import UserError
from scionlab.optim import geometry
from scionlab.optim.recipes.conditional import network_norm
from scionlab.training import Run, train, train_stack
from scionlab.training.log import Log

SMALL = {"width": 16, "depth": 1, "head_dim": 8, "batch_size": 4, "seq_len": 16, "val_tokens": 64, "val_seq_len": 16}

# Sums of some 10^4 squares in float32, 2^-24 each.
ROUNDING = 1e-5


def moved(optimizer="sgd", **fields):
    """How far the first step of a plain gradient method at a constant rate moves the weights, by parameter."""
    made = Run(trial(optimizer, momentum=1.0, schedule="constant", lr=1.0, **SMALL, **fields), CORPUS)
    before = [claim.parameter.detach().clone() for claim in made.claims]
    made.advance()
    return made, [old - claim.parameter.detach() for old, claim in zip(before, made.claims, strict=True)]


def test_clipped_gradients_have_the_norm_that_is_asked_for_and_their_direction():
    _, free = moved()
    norm = math.sqrt(sum(float(step.square().sum()) for step in free))
    made, clipped = moved(clip_norm=norm / 4)
    for step, whole in zip(clipped, free, strict=True):
        assert torch.allclose(step, whole / 4, rtol=ROUNDING, atol=1e-7)
    assert made.log.curve[0]["grad_norm"] == pytest.approx(norm, rel=ROUNDING)
    _, untouched = moved(clip_norm=norm * 1.001)
    assert all(torch.equal(step, whole) for step, whole in zip(untouched, free, strict=True))


def test_the_dual_norm_of_the_network_is_clipped_where_that_is_asked_for():
    made, free = moved()
    norm = network_norm(made.claims, geometry(made.trial))
    whole = float(norm.dual(free))
    _, clipped = moved(clip_norm=whole / 4, clip_by="dual")
    # Steps of differences of weights: cancellation leaves some 1e-4 of them.
    assert float(norm.dual(clipped)) == pytest.approx(whole / 4, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "muon", "scion"])
def test_how_often_gradients_were_clipped_is_recorded(optimizer):
    never, always = (run(optimizer, clip_norm=limit, **SMALL) for limit in (1e9, 1e-6))
    assert (never.summary["clipped_share"], always.summary["clipped_share"]) == (0.0, 1.0)
    plain = run(optimizer, **SMALL)
    assert "clipped_share" not in plain.summary
    assert never.summary["val_loss"] == plain.summary["val_loss"]  # bit for bit


def test_stacked_trials_clip_as_they_do_alone():
    asked = [trial("adam", **{**SMALL, "seed": seed, "lr": lr}, clip_norm=1.0) for seed, lr in ((0, 0.01), (1, 0.02))]
    for stacked, one in zip(train_stack(asked, CORPUS), asked, strict=True):
        alone = train(one, CORPUS)
        assert stacked.summary["clipped_share"] == alone.summary["clipped_share"] > 0
        for mine, other in zip(stacked.curve, alone.curve, strict=True):
            assert mine.pop("grad_norm") == pytest.approx(other.pop("grad_norm"), rel=1e-3)
        assert stacked.summary["val_loss"] == pytest.approx(alone.summary["val_loss"], rel=2 * ROUNDING)


def test_scion_light_cannot_clip():
    with pytest.raises(UserError, match=r"clip_norm: .* is not allowed with optimizer 'scion-light'"):
        trial("scion-light", clip_norm=1.0)


def test_the_validated_weights_are_the_exponential_average():
    made = Run(trial("adam", ema=0.7, **SMALL), CORPUS)
    average = None
    while not made.finished:
        made.run_steps(1)
        now = {name: weight.detach().clone() for name, weight in made.model.named_parameters()}
        average = now if average is None else {name: 0.7 * old + 0.3 * now[name] for name, old in average.items()}
    last, _ = made.passes.validate(made.validation)[0].tolist()
    reference = copy.deepcopy(made.model)
    reference.load_state_dict(average, strict=False)
    made.passes.model = reference
    expected, _ = made.passes.validate(made.validation)[0].tolist()
    found = made.outcome().summary["val_loss"]
    assert found == pytest.approx(expected, rel=ROUNDING)
    assert found != last


def test_a_run_is_validated_on_its_way_and_does_not_change():
    sizes = {**SMALL, "batch_size": 4, "seq_len": 16}
    plain, watched = (run("adam", steps=8, **sizes, **fields) for fields in ({}, {"validate_every": 3 * 64}))
    rows = [row for row in watched.curve if "val_loss" in row]
    assert [row["tokens"] for row in rows] == [192, 384]
    assert all(math.isfinite(row["val_loss"]) and row["val_accuracy"] is None for row in rows)
    assert [row for row in watched.curve if "val_loss" not in row] == plain.curve
    assert watched.summary["val_loss"] == plain.summary["val_loss"]
    last = run("adam", steps=8, **sizes, validate_every=64).curve[-1]
    assert last["val_loss"] == plain.summary["val_loss"]


def test_a_saved_run_goes_on_with_its_average_its_count_and_its_validations():
    asked = staged("adam", (4, 4, 16, 2**-6), ema=0.8, clip_norm=0.5, validate_every=64)
    whole = train(asked, CORPUS)
    made = Run(asked, CORPUS)
    made.run_stage()
    made = saved_and_loaded(made)
    while not made.finished:
        made.run_stage()
    assert numbers(made.outcome()) == numbers(whole)


@pytest.mark.parametrize("field", [{"warmup": 0.5}, {"schedule": "cosine"}, {"min_lr_ratio": 0.5}, {"ema": 0.5}])
def test_the_recipe_changes_the_numbers(field):
    assert run("scion", **SMALL, **field).summary["val_loss"] != run("scion", **SMALL).summary["val_loss"]


def test_a_warm_up_scales_the_first_steps():
    log = run("scion", steps=8, warmup=0.5, schedule="constant", **SMALL)
    assert [row["lr"] / TUNED["scion"] for row in log.curve] == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("losses", "fields", "ok"),
    [
        ([5.5, 21.9], {}, True),  # of positive losses: four times the first
        ([5.5, 22.1], {}, False),
        ([-2.98, -3.5, -1.0], {}, True),
        ([-2.98, 5.9], {}, True),  # -2.98 + 3 * 2.98
        ([-2.98, 6.0], {}, False),
        ([0.0, 0.5, 2.9], {}, True),
        ([0.0, 3.1], {}, False),
        ([1e-4, 1.0], {}, True),
        ([0.0, 3.1], {"divergence_scale": 2.0}, True),
        ([-2.98, 6.0], {"divergence_factor": 5.0}, True),
        ([-2.98, math.nan], {}, False),
        ([-2.98, math.inf], {}, False),
    ],
)
def test_a_run_has_diverged_by_its_rise(losses, fields, ok):
    log = Log(trial("adam", **fields))
    found = [log.append({"step": i, "tokens": i, "lr": 0.1}, [loss]) for i, loss in enumerate(losses)]
    assert found == [True] * (len(losses) - 1) + [ok]

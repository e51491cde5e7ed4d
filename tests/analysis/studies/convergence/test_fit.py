import json

import numpy as np
import pandas as pd
import pytest
from synthetic_layers import convergence_arms, convergence_rows, convergence_tables

from analysis.fits.intervals import Estimate
from analysis.fits.outcomes import Outcome
from analysis.pipeline import _finite
from analysis.studies.convergence.arms import Arm, noiseless
from analysis.studies.convergence.fit import fit_convergence, mean_dual, verdict
from analysis.studies.convergence.page import grid
from scionlab.errors import UserError

REACHES, SLOWER, NO_THEOREM, CANNOT_TELL = Outcome.REACHES, Outcome.SLOWER, Outcome.NO_THEOREM, Outcome.CANNOT_TELL
STALLS, FALLS, RISES, DESCENDS = Outcome.STALLS, Outcome.FALLS, Outcome.RISES, Outcome.DESCENDS
NOISE = "noise:gaussian-0.5"
NAME = "scion, constant, noise:none"


def fit(*arms, **settings):
    return fit_convergence(convergence_tables(*arms, **settings))


def only(*arms, **settings):
    (found,) = fit(*arms, **settings).arms
    return found


def power(exponent, floor=0.0):
    return lambda n: 3.0 * n**exponent + floor


@pytest.mark.parametrize(
    ("planted", "says"), [(-0.5, REACHES), (-0.9, REACHES), (-0.4, SLOWER), (-0.25, SLOWER), (0.0, SLOWER)]
)
def test_planted_rates_without_noise_are_recovered(planted, says):
    found = only(convergence_rows(metric=power(planted)))
    assert found.exponent.low - 0.01 <= planted <= found.exponent.high + 0.01
    assert (found.arm.name, found.arm.rate, found.verdict) == (NAME, -0.5, says)
    assert found.horizons == (64, 128, 256, 512, 1024, 2048)


@pytest.mark.parametrize(("planted", "says"), [(-0.25, REACHES), (-0.21, REACHES), (-0.15, SLOWER)])
def test_planted_rates_with_vanishing_momentum_are_recovered(planted, says):
    found = only(convergence_rows("uscion", "vanishing", NOISE, power(planted), lambda n: 0.75 * n**-0.75, noise=0.01))
    assert (found.arm.rate, found.verdict) == (-0.25, says)


@pytest.mark.parametrize("optimizer", ["scion", "uscion", "almond"])
def test_a_planted_floor_is_where_an_arm_stalls(optimizer):
    found = only(convergence_rows(optimizer, data=NOISE, metric=power(-0.5, 2.0)))
    assert (found.arm.rate, found.arm.may_stall, found.verdict) == (None, True, STALLS)
    assert found.level.value == pytest.approx(3 * 2048**-0.5 + 2, rel=0.03)
    assert found.level.low < found.level.value < found.level.high


def test_an_arm_that_might_stall_but_does_not_goes_on_falling():
    assert only(convergence_rows(data=NOISE, metric=power(-0.3))).verdict == FALLS
    assert only(convergence_rows(data=NOISE, metric=power(0.5))).verdict == RISES


def test_a_line_that_falls_and_then_stalls_does_not_reach_its_rate():
    horizons = tuple(2**k for k in range(4, 14))
    steep = convergence_rows(metric=lambda n: max(30.0 / n, 30.0 / 512), horizons=horizons, noise=0.001)
    found = only(steep)
    assert found.exponent.value < -0.5
    assert found.last.value > -0.2
    assert found.verdict in (SLOWER, CANNOT_TELL)


def test_one_seed_cannot_tell():
    found = only(convergence_rows(seeds=1))
    assert (found.verdict, found.exponent.low, found.level.low) == (CANNOT_TELL, None, None)
    assert found.exponent.value == pytest.approx(-0.5, abs=0.05)


def test_runs_without_any_scatter_are_judged_by_their_distance_from_the_line():
    found = only(convergence_rows(metric=power(-0.6), noise=0))
    assert found.verdict == REACHES
    assert found.exponent.high == pytest.approx(-0.6)


def test_noise_that_hides_the_exponent_leaves_it_open():
    assert only(convergence_rows(metric=power(-0.45), noise=0.3)).verdict == CANNOT_TELL


def test_runs_that_diverged_are_left_out_and_no_rate_is_reached_with_them():
    runs, layers, curves = convergence_rows()
    lost = runs[0]["trial_id"]
    runs[0] |= {"status": "diverged", "val_loss": None}
    wild = [row | {"grad_dual": 1e6} if row["trial_id"] == lost else row for row in layers]
    found = fit((runs, wild, curves))
    assert lost not in set(found.points["trial_id"])
    assert (found.arms[0].n_diverged, found.arms[0].verdict) == (1, CANNOT_TELL)
    assert found.arms[0].exponent.value == pytest.approx(-0.5, abs=0.03)


def test_theory_holds_for_its_own_step_sizes_only():
    cases = [
        ("scion", "constant", "noise:none", -0.5, (-0.5, False)),
        ("uscion", "constant", "noise:none", -0.5, (-0.5, False)),
        ("scion", "constant", "noise:none", -0.75, (None, False)), ("scion", "constant", NOISE, -0.5, (None, True)),
        ("scion", "vanishing", NOISE, -0.75, (-0.25, False)), ("scion", "vanishing", NOISE, -0.5, (None, False)),
        ("scion", "vanishing", "noise:none", -0.75, (-0.25, False)), ("almond", "constant", NOISE, -0.5, (None, True)),
        ("almond", "constant", "noise:none", -0.5, (None, False)),
        ("adam", "constant", "noise:none", -0.5, (None, False)),
        ("clipped-scion", "constant", "noise:none", 0, (-0.5, False)),
        ("clipped-uscion", "constant", "noise:none", -0.5, (-0.5, False)),
        ("clipped-uscion", "constant", NOISE, 0, (None, False)),
    ]  # fmt: skip
    for optimizer, schedule, data, exponent, expected in cases:
        rows = convergence_rows(
            optimizer, schedule, data, lr=lambda n, e=exponent: 0.5 * n**e, seeds=1, horizons=(64, 256)
        )
        arm = only(rows).arm
        assert (arm.rate, arm.may_stall) == expected, (optimizer, schedule, data, exponent)
        assert arm.lr_exponent == pytest.approx(exponent)


def test_step_sizes_that_decay_or_follow_no_power_have_no_theorem():
    runs, layers, curves = convergence_rows()
    assert only(([run | {"schedule": "linear"} for run in runs], layers, curves)).verdict == NO_THEOREM
    odd = [run | {"lr": 0.5 if run["steps"] == 256 else run["lr"]} for run in runs]
    found = only((odd, layers, curves))
    assert (found.verdict, found.arm.lr_exponent) == (NO_THEOREM, None)


def test_settings_state_rates_and_floors_and_name_arms():
    rows = convergence_rows(metric=power(-0.3))
    assert only(rows, rates={NAME: -0.25}).verdict == REACHES
    assert only(rows, floors=[NAME]).verdict == FALLS
    named = only(rows, series=["optimizer", "options.beta2"])
    assert named.arm.name == "scion, beta2 0.95"
    with pytest.raises(UserError, match=r"settings\.rates: 'scion' is not known"):
        only(rows, rates={"scion": -0.25})
    with pytest.raises(UserError, match=r"settings\.arms"):
        only(rows, arms=[])


def test_which_data_have_no_noise():
    assert all(map(noiseless, ("noise:none", "noise:gaussian-0", "noise:skewed-0.0")))
    assert not any(map(noiseless, ("noise:gaussian-0.5", "noise:skewed-1", "sotu", "digits", "path:none")))


ARM = Arm("a", "scion", "constant", "noise:none", -0.5, False, -0.5)


@pytest.mark.parametrize(
    ("exponent", "last", "says"),
    [
        (Estimate(-0.5, -0.52, -0.48), Estimate(-0.5, -0.6, -0.4), REACHES),
        (Estimate(-0.5, -0.52, -0.45), Estimate(-0.3, -0.5, -0.1), REACHES),
        (Estimate(-0.5, -0.52, -0.44), Estimate(-0.5, -0.6, -0.5), CANNOT_TELL),
        (Estimate(-0.6, -0.7, -0.5), Estimate(-0.2, -0.3, -0.1), SLOWER),
        (Estimate(-0.4, -0.44, -0.36), Estimate(-0.5, -0.6, -0.4), SLOWER),
        (Estimate(-0.5), Estimate(-0.5), CANNOT_TELL),
        (None, None, CANNOT_TELL),
    ],
)
def test_what_the_exponents_say(exponent, last, says):
    assert verdict(ARM, exponent, last) == says
    assert verdict(ARM, exponent, last, n_diverged=1) == (CANNOT_TELL if says == REACHES else says)


def test_clipped_steps_descend_and_a_rise_is_found():
    good, bad = fit(convergence_rows("clipped-scion")), fit(convergence_rows("clipped-scion", rise=0.03))
    assert [(d.verdict, d.rise) for d in good.descents] == [(DESCENDS, 0.0)]
    (descent,) = bad.descents
    assert descent.verdict == RISES
    assert descent.rise == pytest.approx(0.03, rel=0.1)
    assert descent.n_runs == 18
    assert bad.arms[0].arm.clipped


def test_a_rise_of_the_last_digits_is_rounding_and_one_run_is_enough_to_rise():
    runs, layers, curves = convergence_rows("clipped-scion")
    trial = runs[4]["trial_id"]
    for share, says in ((5e-7, DESCENDS), (2e-6, RISES)):
        curve = [dict(row) for row in curves[trial]]
        curve[-1]["train_loss"] = curve[-2]["train_loss"] + share * curve[0]["train_loss"]
        (descent,) = fit((runs, layers, {**curves, trial: curve})).descents
        assert (descent.verdict, descent.rise) == (says, pytest.approx(share, rel=1e-3))
        assert descent.horizon == runs[4]["steps"]


def test_descent_is_no_matter_of_noisy_arms_or_lost_curves():
    assert fit(convergence_rows("clipped-scion", data=NOISE, lr=lambda n: 0.5)).descents == ()
    runs, layers, _ = convergence_rows("clipped-scion")
    assert fit((runs, layers, {})).descents == ()


def test_the_metric_is_the_mean_over_the_steps_after_the_start_of_the_sum_over_layers():
    rows = pd.DataFrame(
        {
            "trial_id": ["t"] * 8 + ["u"] * 2,
            "step": [0, 0, 1, 1, 2, 3, 3, 3, 0, 1],
            "grad_dual": [2.0, 4.0, 1.0, 1.0, 3.0, 0.0, 2.0, np.nan, 5.0, np.nan],
        }
    )
    found = mean_dual(rows)
    assert found.loc["t"].to_dict() == {"grad_dual": pytest.approx((2 + 3 + 2) / 3), "start": 6.0}
    assert found.loc["u", "start"] == 5
    assert np.isnan(found.loc["u", "grad_dual"])


@pytest.mark.parametrize(("level", "says"), [(0.0, REACHES), (1e-7, REACHES), (1e-4, SLOWER)])
def test_what_float32_leaves_of_a_gradient_has_no_exponent(level, says):
    runs, layers, curves = convergence_rows("clipped-scion", lr=lambda n: 1.0)
    flat = [row | ({"grad_dual": level if row["step"] else 1.0} if row["grad_dual"] else {}) for row in layers]
    rough = [
        row | {"grad_dual": row["grad_dual"] * (1 + 0.01 * (i % 7))} if row["grad_dual"] else row
        for i, row in enumerate(flat)
    ]
    found = only((runs, rough, curves))
    assert (found.converged, found.verdict) == (says == REACHES, says)
    lost = [run | {"status": "diverged"} if i == 0 else run for i, run in enumerate(runs)]
    assert only((lost, rough, curves)).verdict == (CANNOT_TELL if says == REACHES else SLOWER)


def test_tables_that_say_nothing_of_convergence_are_refused():
    runs, layers, curves = convergence_rows(seeds=1)
    with pytest.raises(UserError, match="none of them watched"):
        fit((runs, [], curves))
    with pytest.raises(UserError, match="no arm has two horizons"):
        fit(convergence_rows(horizons=(64,)))
    again = runs[0] | {"trial_id": "again"}
    with pytest.raises(UserError, match=f"several runs of '{NAME}' have steps 64, seed 0"):
        fit(([*runs, again], [*layers, layers[0] | {"trial_id": "again"}], curves))


def test_what_is_written_is_json_with_a_row_for_every_arm():
    found = fit(*convergence_arms())
    written = json.loads(json.dumps(_finite(found.as_dict()), allow_nan=False))
    frames = found.frames()
    assert len(written["arms"]) == len(frames["convergence"]) == 6
    assert list(frames["descent"]["verdict"]) == [DESCENDS, RISES, RISES]
    assert len(frames["horizons"]) == 6 * 6 * 3
    assert dict(zip(frames["convergence"]["name"], frames["convergence"]["verdict"], strict=True)) == {
        "almond, constant, noise:skewed-0.5": STALLS, "clipped-scion, constant, noise:none": REACHES,
        NAME: REACHES, "scion, vanishing, noise:gaussian-0.5": REACHES,
        "uscion, constant, noise:gaussian-0.5": CANNOT_TELL, "uscion, constant, noise:none": REACHES,
    }  # fmt: skip
    assert [title for title, _ in found.summaries()] == [
        "Convergence (exponents of the horizon n)",
        "Descent without noise",
    ]


def test_the_grid_of_a_store_older_than_momentum_schedules_has_constant_ones():
    runs = convergence_tables(convergence_rows("scion")).runs
    (row,) = grid(runs.assign(momentum_schedule=None))
    assert row["momentum"] == "constant"

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.fits.lr_curve import LrCurve
from analysis.fits.parabola import curvature
from analysis.fits.points import Points
from analysis.fits.valley import read_valleys

X = np.arange(-12.0, -5.0)


def curve_of(losses, seeds):
    rows = pd.DataFrame({"lr": 2.0 ** np.repeat(X, 1), "seed": seeds, "val_loss": losses, "status": "ok"})
    return LrCurve.of(rows, 1.0)


def test_seeds_that_share_no_rate_do_not_move_the_losses():
    losses = 3 + 0.02 * (X + 9) ** 2
    own_seed_each = curve_of(losses, np.arange(len(X)))
    assert own_seed_each.mean == pytest.approx(losses)
    assert not own_seed_each.freedoms.any()
    two_halves = curve_of(losses, np.where(X < -9, 0, 1))
    assert two_halves.mean == pytest.approx(losses)


def test_the_offset_of_a_seed_that_shares_rates_is_taken_out():
    losses = np.full((7, 2), np.nan)
    losses[:, 0] = 3 + 0.02 * (X + 9) ** 2
    losses[2:5, 1] = losses[2:5, 0] + 0.1
    assert LrCurve(1.0, X, losses, (0, 1)).mean == pytest.approx(losses[:, 0])


def test_a_rate_right_beside_another_does_not_bend_the_curve():
    x = np.sort(np.append(X, -9 + 1e-8))
    y = 3 + 0.02 * (x + 9) ** 2 + np.where(x == -9 + 1e-8, 0.004, 0.0)
    assert curvature(x, y) == pytest.approx(0.02, rel=0.01)
    assert curvature(x[3:], y[3:]) < 0.1  # the best rate ends the grid


# --- rates that broke ---

# 429M parameters, 40e9 tokens, 2,048 sequences, of the step law's public table: the last two runs broke, and ended.
STEP_LAW = [2.36, 2.347, 2.334, 2.333, 2.322, 2.337, 2.34, 2.345, 2.352, 6.884, 6.854]
HALVES = np.arange(-11.0, -5.5, 0.5)


def test_runs_that_broke_and_ended_are_no_part_of_the_valley():
    losses = np.array(STEP_LAW)[:, None]
    curve = LrCurve(1.0, HALVES, losses)
    assert curve.broken.tolist() == [False] * 9 + [True] * 2
    assert (curve.n_diverged, curve.trains_beside) == (2, (True, True))
    variance = 0.003**2
    whole, fitting = (Points(x, y, np.full(len(x), variance)) for x, y in ((HALVES, losses[:, 0]), valley_of(curve)))
    before, after = (read_valleys([points], 200, np.random.default_rng(0))[0] for points in (whole, fitting))
    lowest = min(STEP_LAW)
    assert before.bottom[1][0] < lowest - 0.05  # what the rule is for
    assert lowest - 3 * 0.003 < after.bottom[1][0] < lowest + 0.02
    assert abs(after.optimum() - (-9)) < 0.5


def valley_of(curve):
    return curve.x[curve.finite], curve.mean[curve.finite]


def test_a_break_on_both_sides_is_seen_and_one_beside_the_best_rate_leaves_it_open():
    losses = np.array([9.0, 2.32, 2.31, 2.3, 2.31, 8.0])
    curve = LrCurve(1.0, np.arange(6.0), losses[:, None])
    assert curve.broken.tolist() == [True, False, False, False, False, True]
    beside = LrCurve(1.0, np.arange(6.0), np.array([2.33, 2.32, 2.31, 2.3, 8.0, 8.5])[:, None])
    assert not beside.resolved


@given(
    st.floats(-1.5, 1.5), st.floats(-2.0, 12.0), st.sampled_from([0.25, 0.5, 1.0]), st.floats(-5.0, 5.0),
    st.floats(0.001, 1.0),
)  # fmt: skip
def test_no_valley_that_can_be_read_is_called_broken(tilt, optimum, spacing, floor, size):
    u = (np.arange(10) - optimum) * spacing
    bent = u**2 if abs(tilt) < 1e-3 else (np.expm1(tilt * u) - tilt * u) * 2 / tilt**2
    curve = LrCurve(1.0, u + optimum, (floor + size * bent)[:, None])
    assert not curve.broken.any()


def test_a_small_step_from_a_flat_valley_is_no_break():
    losses = np.array([2.000, 2.001, 2.000, 2.001, 2.002, 2.3])
    assert not LrCurve(1.0, np.arange(6.0), losses[:, None]).broken.any()
    few = np.array([2.0, 2.01, 2.02, 7.0])  # of three rates nobody knows how steep the valley is
    assert not LrCurve(1.0, np.arange(4.0), few[:, None]).broken.any()

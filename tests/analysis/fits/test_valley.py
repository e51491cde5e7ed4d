"""Valleys of known shape, found again between the points of an octave grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import curve_fit

from analysis.fits import valley
from analysis.fits.lr_curve import LrCurve
from analysis.fits.noise import measure_noise
from analysis.fits.points import Points
from analysis.fits.reading import read_curves
from analysis.fits.valley import lowest, read_valleys

X = np.arange(-9.0, 1.0)
SHAPES = {
    "parabola": lambda u: 0.04 * u**2,
    "steep": lambda u: 0.08 * (np.exp(0.83 * u) - 1 - 0.83 * u) / 0.83**2,
    "walled": lambda u: 0.04 * u**2 + 0.25 * np.maximum(u - 0.75, 0) ** 2,
}


def read(y, sd=1e-4, x=X, seed=0):
    return read_valleys([Points(x, np.asarray(y), np.full(len(x), sd**2))], 400, np.random.default_rng(seed))[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("best", [-5.0, -4.7, -4.5, -4.25])
def test_quiet_losses_give_the_optimum_and_the_regret_between_grid_points(shape, best):
    valley = read(2 + SHAPES[shape](X - best))
    # Octaves and nats: a fortieth of the grid's step, and of the regret two octaves up the steep side.
    assert valley.optimum() == pytest.approx(best, abs=0.025)
    for u in (-0.6, 0.4, 2.0):
        assert valley.excess(best + u) == pytest.approx(SHAPES[shape](np.array(u)), rel=0.05, abs=5e-4)


@pytest.mark.parametrize("tilt", [0.3, 0.83, 1.2])
def test_a_steep_quiet_valley_gives_its_optimum_as_sharply_as_its_exact_shape_does(tilt):
    # High up, losses tell the tilt to a thousandth; where it is looked for more coarsely, no curve fits them.
    sd, best = 0.003, -4.7

    def losses(parameters):
        level, at, scale, b = parameters
        return level + scale * (np.exp(b * (X - at)) - 1 - b * (X - at)) / b**2

    truth = np.array([2.0, best, 0.08, tilt])
    steps = 1e-5 * np.eye(4)
    jacobian = np.stack([(losses(truth + step) - losses(truth - step)) / 2e-5 for step in steps], axis=1)
    exact = sd * np.sqrt(np.linalg.inv(jacobian.T @ jacobian)[1, 1])  # Cramér and Rao's bound
    valley = read(losses(truth), sd)
    assert abs(valley.optimum() - best) < exact
    # A grid of tilts and 400 draws (±3.5%) may miss a fifth of it; a free form adds less than as much again.
    assert 0.8 * exact < np.std(valley.optima()) < 2 * exact


@pytest.mark.parametrize("best", [-4.9, -4.7, -4.45])
@pytest.mark.parametrize("sd", [0.0017, 0.0003])
def test_a_quiet_walled_valley_gives_its_optimum_as_sharply_as_its_exact_shape_does(best, sd):
    # High up the wall, losses tell its knee to a thousandth of an octave, too.
    def losses(parameters):
        level, at, scale, tilt, height, knee = parameters
        u = X - at
        # To the first order in the tilt, about which it is differentiated at 0.
        return level + scale * (u**2 + tilt * u**3 / 3) + height * np.maximum(X - knee, 0) ** 2

    truth = np.array([2.0, best, 0.04, 0.0, 0.25, best + 0.75])
    steps = 1e-5 * np.eye(6)
    jacobian = np.stack([(losses(truth + step) - losses(truth - step)) / 2e-5 for step in steps], axis=1)
    exact = sd * np.sqrt(np.linalg.inv(jacobian.T @ jacobian)[1, 1])  # Cramér and Rao's bound
    valley = read(losses(truth), sd)
    # Losses without noise: what is missed is the reading's own error, and small beside the bound.
    assert abs(valley.optimum() - best) < exact / 10
    # 400 draws (±3.5%), and what the priors of tilt and wall know, may miss a fifth of it.
    assert 0.8 * exact < np.std(valley.optima()) < 1.2 * exact


@pytest.mark.parametrize("ratio", [1 / 3, 1, 3])
def test_what_points_miss_a_curve_by_tells_the_noise_beside_the_seeds(ratio, monkeypatch):
    # Seeds tell a standard deviation `ratio` times the points' own, with few degrees of freedom.
    monkeypatch.setattr(valley, "ROUGHNESS", np.zeros(1))
    monkeypatch.setattr(valley, "WALLS", np.zeros(1))
    sd, freedom = 0.003, 6

    def losses(x, level, at, scale, b):
        return level + scale * (np.exp(b * (x - at)) - 1 - b * (x - at)) / b**2

    truth = (2.0, -4.7, 0.08, 0.83)
    y = losses(X, *truth) + sd * np.random.default_rng(5).standard_normal(len(X))
    found, covariance = curve_fit(losses, X, y, truth, sigma=np.full(len(X), sd), absolute_sigma=True)
    left = np.sum((y - losses(X, *found)) ** 2)
    known = freedom + len(X) - len(truth)
    pooled = np.sqrt((freedom * (ratio * sd) ** 2 + left) / known)
    (read,) = read_valleys([Points(X, y, np.full(len(X), (ratio * sd) ** 2), freedom)], 2000, np.random.default_rng(0))
    half = np.diff(np.quantile(read.optima(), [0.025, 0.975]))[0] / 2
    # Student's interval of nonlinear least squares. The prior of the tilt stands for one degree of freedom, and the
    # quantiles of 2,000 draws err by 3%.
    assert half == pytest.approx(stats.t.ppf(0.975, known) * pooled / sd * np.sqrt(covariance[1, 1]), rel=0.1)


def test_the_reading_does_not_depend_on_the_units_of_loss_and_rate():
    # One stream of random numbers: only rounding differs.
    rng = np.random.default_rng(3)
    y = 2 + SHAPES["steep"](X + 4.6) + 0.01 * rng.standard_normal(len(X))
    nats, bits = read(y, 0.01), read(y / np.log(2) + 7, 0.01 / np.log(2))
    assert bits.optimum() == pytest.approx(nats.optimum(), abs=1e-6)
    assert np.quantile(bits.optima(), 0.9) == pytest.approx(np.quantile(nats.optima(), 0.9), abs=1e-6)
    moved = read(y, 0.01, X + 3)
    assert moved.optimum() == pytest.approx(nats.optimum() + 3, abs=1e-6)


@pytest.mark.parametrize("span", [1.0, 1.01, 1.05])
def test_rates_within_little_more_than_an_octave_can_be_read(span):
    # Half an octave from either end leaves no room, or next to none, for a wall.
    x = np.linspace(0, span, 6)
    # A hundredth of an octave: the losses' noise is a hundredth of what they rise by over half an octave.
    assert read(2 + (x - 0.4) ** 2, 0.0025, x).optimum() == pytest.approx(0.4, abs=0.01)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=8), st.floats(1e-4, 0.1))
@settings(max_examples=40, deadline=None)
def test_any_curve_can_be_read_and_no_regret_is_negative(losses, sd):
    x = np.cumsum(np.linspace(0.3, 1.5, len(losses)))
    valley = read(losses, sd, x)
    assert x[0] <= valley.optimum() <= x[-1]
    assert np.isfinite(valley.draws).all()
    for at in (x[0] - 5, x.mean(), x[-1] + 5):
        assert valley.excess(float(at)) >= 0


def test_the_lowest_point_of_a_parabola_on_nodes_is_exact():
    nodes = np.linspace(0, 4, 65)
    at, value = lowest(nodes, np.stack([3 * (nodes - c) ** 2 + 1 for c in (0.37, 2.5, 3.91)]))
    # Rounding of squares of numbers below 10 on steps of 1/16.
    assert at == pytest.approx([0.37, 2.5, 3.91], abs=1e-9)
    assert value == pytest.approx([1, 1, 1], abs=1e-9)


def noisy(best, sd, seeds, rng, shape="parabola", at=32.0):
    losses = (2 + SHAPES[shape](X - best))[:, None] + sd * rng.standard_normal((len(X), seeds))
    return LrCurve(at, X, losses, tuple(range(seeds)))


def test_a_quiet_curve_beside_a_noisy_one_keeps_its_noise():
    rng = np.random.default_rng(0)
    points = measure_noise([noisy(-4.7, 0.03, 3, rng), noisy(-4.7, 0.003, 3, rng)]).points
    ratio = np.sqrt(points[0].variance.mean() / points[1].variance.mean())
    assert 5 < ratio < 20  # 10, give or take a factor of 2: eighteen degrees of freedom each


def test_two_seeds_have_noise_and_one_has_none():
    rng = np.random.default_rng(0)
    assert measure_noise([noisy(-4.7, 0.01, 2, rng)]).points[0].variance is not None
    assert measure_noise([noisy(-4.7, 0.01, 1, rng)]).points[0].variance is None
    assert read_curves([noisy(-4.7, 0.001, 1, rng)], 200, rng)[0].optimum.low is None


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_intervals_of_optimum_and_regret_hold_the_truth(shape):
    held, costs = np.zeros(2), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        narrow, wide = rng.uniform(-4.5, -3.5), rng.uniform(-5.5, -4.5)
        curves = [noisy(best, 0.01, 2, rng, shape) for best in (narrow, wide)]
        first, last = read_curves(curves, 400, rng)
        regret, truth = last.regret_of(first), float(SHAPES[shape](np.array(narrow - wide)))
        held += [last.optimum.low <= wide <= last.optimum.high, regret.low <= truth <= regret.high]
        costs.append(regret.value - truth)
    # 60 draws of a nominal 95%: fewer than 50 come once in 2,000 times; `make coverage` has more.
    assert (held >= 50).all()
    assert abs(np.mean(costs)) < 0.01

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import Law, planted_runs

from analysis.fits.cells import Budget, Cell, budgets_of, table_of_cells
from analysis.fits.lr_curve import LrCurve
from analysis.fits.profile import (
    Profile,
    best_batch,
    drawn_profile,
    largest_batch,
    left_to_gain,
    lr_along,
    profile,
    read_budgets,
    ties,
)


def budget_of(*curves, first=-9):
    """A budget with a cell for every curve of losses over an octave grid of rates; 2⁵, 2⁶, … tokens a step."""
    cells = []
    for octave, losses in enumerate(curves, start=5):
        x = first + np.arange(len(losses), dtype=float)
        cells.append(Cell(2.0**16, 2.0**octave / 32, 32, LrCurve(2.0**octave, x, np.array(losses)[:, None])))
    return Budget(2.0**16, tuple(cells))


def measured(budget, form="valley"):
    _, readings = read_budgets([budget], 200, np.random.default_rng(0))
    return profile(budget, readings[0], form)


def flat(*losses, x=None, resolved=True, lr=None):
    """A profile of one resample."""
    y = np.array([losses], dtype=float)
    x = 5 + np.arange(y.shape[1], dtype=float) if x is None else np.array(x, dtype=float)
    rates = np.zeros_like(y) if lr is None else np.array([lr], dtype=float)
    return Profile(x, y, rates, np.full(y.shape, resolved))


def only(pair):
    """Value and flag of a profile of one resample."""
    value, flag = pair
    return float(value[0]), bool(flag[0])


# The best learning rate of a cell


@given(best=st.floats(-7.49, -6.51), bend=st.floats(1e-3, 0.08), floor=st.floats(0.5, 3))
@settings(deadline=None, max_examples=20)
def test_on_a_parabola_rate_and_loss_are_exact(best, bend, floor):
    x = np.arange(-9.0, -4.0)
    found = measured(budget_of(floor + bend * (x - best) ** 2))
    # Without noise losses are taken to be known to 1e-4 of the curvature (`valley.QUIET`).
    assert found.lr[0, 0] == pytest.approx(best, abs=1e-3)
    assert found.loss[0, 0] == pytest.approx(floor, abs=1e-3 * bend)
    assert found.resolved[0, 0]


def test_the_form_of_the_grid_is_the_lowest_measured_loss():
    x = np.arange(-9.0, -4.0)
    budget = budget_of(2 + 0.05 * (x + 6.7) ** 2)
    assert measured(budget, "grid").loss[0, 0] == min(budget.cells[0].curve.mean)
    assert measured(budget, "grid").lr == pytest.approx(measured(budget).lr)


@pytest.mark.parametrize("losses", [(2.1, 2.0, np.inf), (2.0, 2.1, 2.2), (2.1, 2.0)])
def test_beside_a_divergence_and_at_an_edge_the_measured_loss_counts(losses):
    # The line or parabola through so few points goes through them, but for rounding.
    assert measured(budget_of(losses)).loss[0, 0] == pytest.approx(2.0, abs=1e-9)


@pytest.mark.parametrize(
    ("losses", "resolved"),
    [((2.1, 2.0, 2.2), True), ((2.0, 2.1, 2.2), False), ((2.2, 2.1, 2.0), False), ((2.1, 2.0, np.inf), False)],
)
def test_rates_at_an_edge_or_beside_divergence_are_not_resolved(losses, resolved):
    found = measured(budget_of(losses))
    assert found.resolved[0, 0] == resolved
    assert np.isfinite(found.loss).all()


def test_a_divergence_far_from_the_best_rate_changes_nothing():
    losses = 2 + 0.05 * (np.arange(-9.0, -4.0) + 7.8) ** 2
    near, far = measured(budget_of(losses)), measured(budget_of([*losses[:-1], np.inf]))
    assert far.resolved[0, 0]
    # As exact as a parabola is read (`test_on_a_parabola_rate_and_loss_are_exact`).
    assert far.lr[0, 0] == pytest.approx(near.lr[0, 0], abs=1e-3)
    assert far.loss[0, 0] == pytest.approx(near.loss[0, 0], abs=1e-4)


def test_a_rate_at_which_some_draws_are_lowest_at_the_grids_end_is_not_resolved_in_these():
    rng, x = np.random.default_rng(1), np.arange(-9.0, -4.0)
    losses = (2 + 0.01 * (x + 8.8) ** 2)[:, None] + rng.normal(0, 0.01, (5, 3))
    budget = Budget(2.0**16, (Cell(2.0**16, 1, 32, LrCurve(32.0, x, losses, (0, 1, 2))),))
    _, readings = read_budgets([budget], 400, rng)
    found = drawn_profile(budget, readings[0])
    assert ((found.lr[:, 0] > -9) == found.resolved[:, 0]).all()
    assert 0.02 < np.mean(~found.resolved) < 0.9
    assert (found.at_edge == ~found.resolved).all()


# The best batch of a budget


@given(best=st.floats(6.6, 7.4), bend=st.floats(1e-3, 1))
@settings(deadline=None)
def test_the_best_batch_of_a_parabola_is_exact_with_three_cells_and_with_five(best, bend):
    x = np.arange(5.0, 10.0)
    found = flat(*(1 + bend * (x - best) ** 2))
    for shape in ("five", "vertex"):
        assert only(best_batch(found, shape)) == (pytest.approx(best, abs=1e-9), True)


@pytest.mark.parametrize(("losses", "inside"), [((1.0, 1.1, 1.3, 1.6), False), ((1.6, 1.3, 1.1, 1.0), False)])
def test_a_lowest_cell_at_the_edge_is_flagged_and_is_the_cell(losses, inside):
    at, flag = only(best_batch(flat(*losses)))
    assert (at, flag) == (5.0 + np.argmin(losses), inside)


def test_five_cells_average_what_three_take_at_their_word():
    rng, x = np.random.default_rng(0), np.arange(4.0, 11.0)
    losses = 1 + 0.02 * (x - 7.2) ** 2 + rng.normal(0, 0.005, (4000, len(x)))
    found = Profile(x, losses, np.zeros_like(losses), np.ones_like(losses, bool))
    five, three = best_batch(found)[0], best_batch(found, "vertex")[0]
    assert np.std(five) < 0.7 * np.std(three)


def test_a_grid_of_two_cells_has_no_best_batch_inside():
    assert only(best_batch(flat(1.0, 1.1))) == (5.0, False)
    assert only(best_batch(flat(1.0))) == (5.0, False)


# The largest batch without loss


@given(rise=st.floats(0.0101, 1), left=st.floats(0.0, 1.0))
@settings(deadline=None)
def test_the_largest_batch_without_loss_is_where_the_next_line_crosses_the_tolerance(rise, left):
    found = flat(2 + left + 1e-6, 2.0, 2.0 + rise, 3.5)
    assert only(largest_batch(found, 0.01)) == (pytest.approx(6 + 0.01 / rise), True)


def test_the_last_crossing_counts_and_the_tolerance_moves_it():
    bumpy = flat(2.1, 2.0, 2.03, 2.005, 2.105)
    assert only(largest_batch(bumpy, 0.01)) == (pytest.approx(8 + 0.005 / 0.1), True)
    assert only(largest_batch(bumpy, 0.05)) == (pytest.approx(8 + 0.045 / 0.1), True)
    assert only(largest_batch(bumpy, 0.001)) == (pytest.approx(6 + 0.001 / 0.03), True)


def test_without_starvation_or_without_noise_on_the_grid_it_is_flagged():
    assert only(largest_batch(flat(2.1, 2.0, 2.005), 0.01)) == (7.0, False)
    # The lowest cell is the smallest batch: an unmeasured smaller one may be lower, and the tolerance start there.
    assert not only(largest_batch(flat(2.0, 2.05, 2.2), 0.01))[1]


@given(st.lists(st.floats(1, 3), min_size=2, max_size=7), st.floats(1e-3, 0.5), st.floats(1e-3, 0.5))
@settings(deadline=None)
def test_more_tolerance_never_means_a_smaller_batch(losses, first, second):
    small, large = sorted((first, second))
    found = flat(*losses)
    assert only(largest_batch(found, small))[0] <= only(largest_batch(found, large))[0] + 1e-9


def test_what_is_left_to_gain_is_above_the_floor_or_else_the_spread_and_never_negative():
    found = Profile(np.array([5.0, 6.0]), np.array([[2.0, 2.5], [1.5, 1.25]]), np.zeros((2, 2)), np.ones((2, 2), bool))
    assert left_to_gain(found, 1.5).tolist() == [0.5, 0.0]
    assert left_to_gain(found, None).tolist() == [0.5, 0.25]


@pytest.mark.parametrize("edge", range(5))
def test_a_best_rate_at_its_grids_edge_beside_the_lowest_cell_leaves_no_batch_inside(edge):
    inner, outer = (2.2, 2.0, 2.1), (2.0, 2.1, 2.2)
    curves = [[value + 0.05 * (cell - 2) ** 2 for value in (outer if cell == edge else inner)] for cell in range(5)]
    found = measured(budget_of(*curves))
    assert found.lowest[0] == 2
    assert only(best_batch(found))[1] == (edge in (0, 4))
    assert only(largest_batch(found, 0.01))[1] == (edge in (0, 4))


# The learning rate along a path


def test_the_rate_between_two_cells_lies_on_their_line():
    found = flat(2, 2, 2, x=[5, 6, 8], lr=[-9, -8, -5])
    at = [(5.0, -9.0), (5.5, -8.5), (6.0, -8.0), (7.0, -6.5), (8.0, -5.0), (4.0, -9.0), (9.0, -5.0)]
    for where, rate in at:
        assert only(lr_along(found, np.array([where]))) == (pytest.approx(rate), True)
    assert only(lr_along(flat(2.0, lr=[-7]), np.array([5.0]))) == (-7.0, True)


def test_a_rate_is_resolved_where_the_cells_it_is_read_from_are():
    found = Profile(np.array([5.0, 6, 7]), np.full((1, 3), 2.0), np.zeros((1, 3)), np.array([[True, True, False]]))
    for at, resolved in ((5.0, True), (5.5, True), (6.0, True), (6.5, False), (7.0, False)):
        assert only(lr_along(found, np.array([at])))[1] == resolved


# Ties


def tied_cells(law, noise, seed=0, seeds=2):
    found = []
    runs = planted_runs(law, seed, noise, noise, seeds)
    budgets = budgets_of(table_of_cells(runs))
    _, readings = read_budgets(budgets, 400, np.random.default_rng(0))
    for budget, of_budget in zip(budgets, readings, strict=True):
        found.append(ties(profile(budget, of_budget), drawn_profile(budget, of_budget)))
    return budgets, found


def test_equal_cells_are_tied_and_clearly_worse_ones_are_not():
    # On the maximum with a flat stretch from 2^6 to 2^9 every cell of the stretch has one and the same loss.
    law = Law(sharpness=None, corner1=6, corner2=9)
    for draw in range(10):
        budgets, found = tied_cells(law, 0.005, draw)
        stretch = (budgets[0].x >= 6) & (budgets[0].x <= 9)
        assert stretch.sum() == 4
        # 97.5% intervals of the difference of four cells from the lowest of them: one may be lost by chance.
        assert np.sum(np.array(found[0])[stretch]) >= 3
        assert not np.array(found[0])[law.loss(2**16, 2 ** budgets[0].x) > law.floor + law.level + 0.05].any()


def test_the_lowest_cell_is_always_among_its_ties_and_quiet_ones_are_alone():
    budgets, found = tied_cells(Law(), 1e-6)
    for budget, tied in zip(budgets, found, strict=True):
        assert [i for i, tie in enumerate(tied) if tie] == [int(measured(budget).lowest[0])]


def test_without_resamples_there_are_no_ties_to_speak_of():
    assert ties(flat(2.0, 2.1), None) is None

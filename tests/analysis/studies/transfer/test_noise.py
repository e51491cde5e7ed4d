"""The standard error of a regret: what it is made of, who lends whom, and how often intervals hold a planted truth."""

import numpy as np
import pytest
from planted_searches import planted_differences

from analysis.studies.transfer.noise import Noise, noises, regret

TRUTH = 0.7


def shares_held(methods, draws=1000, truth=TRUTH):
    """Share of intervals that hold the truth, over so many draws: (methods, targets). `methods` make differences."""
    names = [f"m{i}" for i, make in enumerate(methods) for _ in make()]
    held = []
    for _ in range(draws):
        cells = [cell for make in methods for cell in make()]
        found = [regret(*pair) for pair in zip(cells, noises(cells, names), strict=True)]
        held.append([each.low <= truth <= each.high for each in found])
    return np.mean(held, axis=0).reshape(len(methods), -1)


@pytest.mark.parametrize("noise", [(0.01, 0.01, 0.01), (0.03, 0.01, 0.003)])
def test_intervals_of_one_search_hold_the_truth_as_often_as_they_say(noise):
    # One standard deviation for all cells held a regret whose noise is 0.03 in 76%, and one of 0.003 always.
    rng = np.random.default_rng(1)
    methods = [lambda sd=sd: [0.02 + sd * rng.standard_normal((1, 4)) for _ in range(3)] for sd in noise]
    shares = shares_held(methods, truth=0.02).mean(axis=1)
    # 3,000 intervals a method scatter by 0.4%; in 4,500 the truth lay inside in 93% to 95%.
    assert (shares >= 0.92).all()
    assert (shares <= 0.98).all()


# Luck of a search in units of the noise, and the share of the noise that a seed has in all searches alike. Asked for
# are 92% to 98%, within three standard deviations of a share of 1,200 intervals, 2.5% at 92%. Two searches whose luck
# is five times the noise do not reach that: benchmarks/coverage_regret.py finds 91.6%, and 90% is asked for.
LEAST, MOST, SCATTER = 0.92, 0.98, 0.025


@pytest.mark.parametrize("common", [0.0, 0.9])
@pytest.mark.parametrize("luck", [0.0, 1.0, 5.0])
@pytest.mark.parametrize(("searches", "seeds"), [(2, 2), (3, 2), (5, 4)])
def test_intervals_of_several_searches_hold_luck_and_noise(searches, seeds, luck, common):
    rng = np.random.default_rng([searches, seeds, round(luck), round(10 * common)])
    shares = shares_held([lambda: planted_differences(rng, (luck,) * 3, searches, seeds, common, truth=TRUTH)], 400)
    least = 0.90 if (searches, luck) == (2, 5.0) else LEAST
    assert least - SCATTER <= shares.mean() <= MOST + SCATTER


def test_the_spread_of_search_means_alone_would_hold_too_little():
    """Why the seeds have a term of their own: what a seed does in all searches is not in the spread between them."""
    rng = np.random.default_rng(3)
    planted = [planted_differences(rng, (0.0,), 3, 2, common=0.9, truth=TRUTH)[0] for _ in range(600)]
    spread = np.array([cell.mean(axis=1).std(ddof=1) / np.sqrt(3) for cell in planted])
    missed = np.array([abs(cell.mean() - TRUTH) for cell in planted])
    assert np.mean(missed <= 4.30 * spread) < 0.7  # Student's t of two degrees of freedom
    assert np.mean([regret(cell, noises([cell], ["a"])[0]).high >= TRUTH for cell in planted]) > 0.9


def test_the_standard_error_is_that_of_a_two_way_layout():
    cell = np.array([[0.1, 0.3], [0.2, 0.8]])  # means 0.2, 0.5 of searches; 0.15, 0.55 of seeds; residuals ±0.1
    found = noises([cell], ["a"])[0]
    of_search, of_seed, rest = 0.045, 0.08, 0.04
    assert found.searches == pytest.approx(np.sqrt(of_search))
    assert found.seeds == pytest.approx(np.sqrt(of_seed))
    assert found.error == pytest.approx(np.sqrt(of_search / 2 + of_seed / 2 - rest / 4))
    spread = (of_search / 2) ** 2 + (of_seed / 2) ** 2 + (rest / 4) ** 2
    assert found.degrees == pytest.approx(max(1, found.error**4 / spread))
    assert regret(cell, found).value == pytest.approx(0.35)


def test_seeds_that_agree_leave_the_luck_of_the_searches():
    cell = np.array([[0.10, 0.11], [0.21, 0.20], [0.30, 0.31]])  # what a seed does is less than what is left
    found = noises([cell], ["a"])[0]
    assert found.error == pytest.approx(found.searches / np.sqrt(3))
    assert found.degrees == pytest.approx(2)


def test_a_loud_method_widens_no_other_ones_interval():
    rng = np.random.default_rng(2)
    for searches in (1, 3):
        quiet = [0.001 * rng.standard_normal((searches, 4)) for _ in range(3)]
        alone = noises(quiet, ["a"] * 3)
        assert noises([*quiet, 0.1 * rng.standard_normal((searches, 4))], ["a"] * 3 + ["b"])[:3] == alone


def test_cells_of_one_search_and_of_several_lend_each_other_none():
    rng = np.random.default_rng(4)
    one, several = rng.standard_normal((1, 4)), rng.standard_normal((3, 4))
    assert noises([one, several], ["a", "a"]) == [*noises([one], ["a"]), *noises([several], ["a"])]
    assert noises([one], ["a"])[0].searches is None


def test_without_noise_to_estimate_there_is_no_interval():
    unknown = noises([np.array([[0.1]]), np.array([[0.2, 0.2]]), np.array([[0.1], [0.2]])], ["adam", "scion", "muon"])
    assert unknown == [Noise()] * 3
    alone = regret(np.array([[0.1]]), unknown[0])
    assert (alone.value, alone.low) == (pytest.approx(0.1), None)


def test_searches_that_found_the_same_values_leave_the_noise_of_their_seeds():
    """Their trials are the same, so they are one search's, and no spread of 0 is taken for a measured one."""
    seeds = np.array([0.1, 0.3, 0.2])
    found = noises([np.tile(seeds, (3, 1))], ["a"])[0]
    assert found.error == pytest.approx(seeds.std(ddof=1) / np.sqrt(3))
    assert (found.degrees, found.searches) == (pytest.approx(2), None)


def test_the_same_values_both_ways_are_exactly_zero_and_lend_nothing():
    rng = np.random.default_rng(5)
    other = rng.standard_normal((3, 2))
    found = noises([np.zeros((3, 2)), other], ["a", "a"])
    zero = regret(np.zeros((3, 2)), found[0])
    assert (zero.value, zero.low, zero.high) == (0.0, 0.0, 0.0)
    assert found[1] == noises([other], ["a"])[0]


def test_a_diverged_run_leaves_no_regret_and_lends_nothing():
    rng = np.random.default_rng(6)
    broken, other = np.array([[np.inf, 0.1], [0.2, 0.3]]), rng.standard_normal((2, 2))
    found = noises([broken, other], ["a", "a"])
    assert regret(broken, found[0]) is None
    assert found[1] == noises([other], ["a"])[0]

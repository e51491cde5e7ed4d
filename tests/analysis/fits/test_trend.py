import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.fits.trend import trend

SIZES = np.repeat([16.0, 32.0, 64.0, 128.0], 3)


def planted(exponent, noise, rng, sizes=SIZES):
    return pd.Series(3 * sizes**exponent * 2 ** rng.normal(0, noise, len(sizes)))


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 1.0])
def test_a_power_law_is_recovered(exponent):
    found = trend(pd.Series(SIZES), planted(exponent, 0, np.random.default_rng(0)))
    assert found.slope.value == pytest.approx(exponent)
    assert (found.slope.low, found.slope.high) == pytest.approx((exponent, exponent))
    assert found.at(np.array([16.0, 1000.0])) == pytest.approx([3 * 16**exponent, 3 * 1000**exponent])
    assert (found.n_sizes, found.n_seeds) == (4, 3)


def test_the_slope_and_its_error_are_those_of_textbook_regression():
    rng = np.random.default_rng(1)
    values = planted(0.5, 0.1, rng)
    found = trend(pd.Series(SIZES), values)
    x, y = np.log2(SIZES), np.log2(values)
    assert found.slope.value == pytest.approx(stats.linregress(x, y).slope)
    pooled = np.sqrt(y.groupby(x).var().mean())
    means = y.groupby(x).mean()
    off = np.sqrt(3 * ((means - np.polyval(np.polyfit(means.index, means, 1), means.index)) ** 2).sum() / 2)
    assert found.misfit == pytest.approx(off / pooled)
    of_value = max(stats.t.ppf(0.975, 8) * pooled, stats.t.ppf(0.975, 2) * off)
    half = of_value / np.sqrt(((x - x.mean()) ** 2).sum())
    assert found.slope.high - found.slope.value == pytest.approx(half)


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_interval_contains_the_truth_as_often_as_it_says(seeds):
    rng = np.random.default_rng(2)
    sizes = np.repeat([16.0, 32.0, 64.0, 128.0], seeds)
    found = [trend(pd.Series(sizes), planted(0.3, 0.1, rng, sizes)).slope for _ in range(200)]
    # The wider of two intervals errs on the safe side.
    assert np.mean([slope.low <= 0.3 <= slope.high for slope in found]) > 0.93


@pytest.mark.parametrize("departure", [0.02, 0.1])
def test_the_interval_covers_the_exponent_of_means_that_miss_the_line(departure):
    rng = np.random.default_rng(6)
    sizes = np.repeat(2.0 ** np.arange(5, 9), 3)
    found = []
    for _ in range(300):
        values = planted(0.3, 0.02, rng, sizes) * 2 ** np.repeat(rng.normal(0, departure, 4), 3)
        found.append(trend(pd.Series(sizes), values).slope)
    # 95% less three standard deviations of 300 draws; with Birge's ratio on the seeds' quantile it was 87%
    assert np.mean([slope.low <= 0.3 <= slope.high for slope in found]) > 0.91


def test_a_bend_widens_the_interval():
    rng = np.random.default_rng(3)
    straight = planted(0.5, 0.01, rng)
    bent = straight * 2 ** (0.1 * (np.log2(SIZES) - 5.5) ** 2)
    plain, wide = (trend(pd.Series(SIZES), values) for values in (straight, bent))
    assert wide.misfit > 5
    assert wide.slope.high - wide.slope.low > 5 * (plain.slope.high - plain.slope.low) / max(1, plain.misfit)


def test_one_seed_has_a_slope_but_no_interval():
    found = trend(pd.Series([16.0, 32.0, 64.0]), pd.Series([1.0, 2.0, 4.1]))
    assert found.slope.value == pytest.approx(np.log2(4.1) / 2)
    assert (found.slope.low, found.misfit) == (None, None)


def test_seeds_that_agree_leave_the_distance_from_the_line():
    found = trend(pd.Series([16.0, 16.0, 32.0, 32.0, 64.0, 64.0]), pd.Series([1.0, 1, 2, 2, 5, 5]))
    assert found.slope.low < found.slope.value < found.slope.high
    assert trend(pd.Series([16.0, 16.0, 32.0, 32.0]), pd.Series([1.0, 1, 2, 2])).slope.low is None


def test_unequal_numbers_of_seeds_count_every_size_once():
    found = trend(pd.Series([16.0, 16.0, 16.0, 32.0, 64.0, 64.0]), pd.Series([1.0, 1.1, 0.9, 2.0, 4.0, 4.2]))
    means = [np.log2([1.0, 1.1, 0.9]).mean(), 1.0, np.log2([4.0, 4.2]).mean()]
    assert found.slope.value == pytest.approx((means[2] - means[0]) / 2)


def test_one_size_has_no_slope():
    assert trend(pd.Series([16.0, 16.0]), pd.Series([1.0, 2.0])) is None

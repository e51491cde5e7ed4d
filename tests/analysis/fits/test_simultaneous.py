import numpy as np
import pytest
from scipy import stats

from analysis.fits.simultaneous import simultaneous, tied


def drawn(rng, count, n, sd=1.0):
    return sd * rng.standard_normal((count, n))


@pytest.mark.parametrize("n", [2, 5, 12])
def test_the_width_is_that_of_tukeys_range(n):
    # A difference of two unit normals has standard deviation √2, and the median of its size is 0.6745 of that; Tukey's
    # range is in units of one. 20,000 draws know the 95% point to about 1%.
    found = simultaneous(drawn(np.random.default_rng(0), 20_000, n))
    expected = stats.studentized_range.ppf(0.95, n, np.inf) / (np.sqrt(2) * stats.norm.ppf(0.75))
    assert found == pytest.approx(expected, rel=0.03)


def test_one_column_has_no_width_and_columns_without_noise_none_to_speak_of():
    assert simultaneous(np.zeros((10, 1))) is None
    assert simultaneous(np.zeros((10, 3))) == 0


@pytest.mark.parametrize("n", [2, 5, 12])
def test_equal_ones_are_all_tied_in_nineteen_of_twenty_tables(n):
    rng, lost = np.random.default_rng(1), 0
    for _ in range(200):
        values = rng.standard_normal(n)
        lost += not tied(values, values + drawn(rng, 400, n)).all()
    assert lost <= 20  # 10 of 200 expected; three binomial deviations are 9


def test_one_that_is_far_above_is_not_tied_and_the_lowest_always_is():
    rng = np.random.default_rng(2)
    values = np.array([0.0, 0.5, 10.0])
    assert tied(values, values + drawn(rng, 400, 3)).tolist() == [True, True, False]
    assert tied(values, np.tile(values, (400, 1))).tolist() == [True, False, False]


def test_a_noisy_one_is_tied_where_a_quiet_one_at_the_same_place_is_not():
    rng = np.random.default_rng(3)
    values = np.array([0.0, 1.0, 1.0])
    draws = values + rng.standard_normal((400, 3)) * np.array([0.05, 0.05, 2.0])
    assert tied(values, draws).tolist() == [True, False, True]

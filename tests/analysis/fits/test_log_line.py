import numpy as np
import pytest

from analysis.fits.log_line import log_line

SIZES = np.array([1e6, 3e6, 1e7, 3e7, 1e8])


def drawn(y, noise, rng, count=400):
    return y * np.exp(noise * rng.standard_normal((count, len(y))))


def test_a_planted_power_law_is_found_and_given_at_its_reference():
    line = log_line([SIZES], 5 * (SIZES / 1e6) ** 0.4, None, [1e6])
    assert line.exponents[0].value == pytest.approx(0.4)
    assert line.exponents[0].high - line.exponents[0].low < 1e-9
    assert line.at_reference.value == pytest.approx(5)
    assert line.at(np.array([16.0])) == pytest.approx(5 * 16**0.4)


def test_two_quantities_are_told_apart_or_nothing_is_said():
    other = np.array([1e9, 4e9, 2e9, 8e9, 3e9])
    line = log_line([SIZES, other], SIZES**0.1 * other**0.5, None, [1e6, 1e9])
    assert [e.value for e in line.exponents] == pytest.approx([0.1, 0.5])
    assert log_line([SIZES, SIZES**2], SIZES, None, [1, 1]) is None


def test_two_points_have_an_interval_by_their_draws_only():
    rng, y = np.random.default_rng(0), SIZES[:2] ** 0.4
    assert log_line([SIZES[:2]], y, None, [1]).exponents[0].low is None
    exponent = log_line([SIZES[:2]], y, drawn(y, 0.1, rng), [1]).exponents[0]
    assert exponent.low < 0.4 < exponent.high
    assert exponent.high - exponent.low == pytest.approx(2 * 1.96 * 0.1 * np.sqrt(2) / np.log(3), rel=0.15)


@pytest.mark.parametrize("scatter", [0.0, 0.13, 0.5])
@pytest.mark.parametrize("count", [3, 5])
def test_intervals_hold_the_exponent_where_points_have_unequal_noise_and_miss_the_law(scatter, count):
    # `scatter` is a departure from the law that no draw knows of. Where it is far larger than the noise of few points
    # the prior holds it down.
    rng, noise, held = np.random.default_rng(1), np.array([0.05, 0.1, 0.2, 0.05, 0.2])[:count], []
    for _ in range(200):
        y = SIZES[:count] ** 0.4 * np.exp(np.hypot(scatter, noise) * rng.standard_normal(count))
        exponent = log_line([SIZES[:count]], y, drawn(y, noise, rng), [1]).exponents[0]
        held.append(exponent.low < 0.4 < exponent.high)
    assert np.mean(held) >= (0.74 if scatter > 0.2 else 0.91)
    # Points of the same runs do not tell of noise by their misses: draws alone.
    narrow = log_line([SIZES[:count]], y, drawn(y, noise, rng), [1], independent=False).exponents[0]
    assert narrow.high - narrow.low < exponent.high - exponent.low

import numpy as np
import pytest

from analysis.laws.loss_of_tokens import LossCurve, fit_loss_law

TOKENS = 2.0 ** np.arange(16, 24)


def law(tokens, floor=1.2, factor=30.0, exponent=0.3):
    return floor + factor * tokens**-exponent


def test_both_readings_invert_a_planted_law_off_the_budgets():
    curve = LossCurve(TOKENS, law(TOKENS))
    at = 2.0 ** np.array([17.3, 20.8])
    assert np.exp(curve.between(law(at))[0]) == pytest.approx(at, rel=0.01)
    for floor in (None, 1.2):
        found = fit_loss_law(curve, floor)
        assert np.exp(found.log_tokens(law(at))[0]) == pytest.approx(at, rel=0.01)
        assert found.estimates["b"].value == pytest.approx(0.3, abs=0.01)
    assert np.isnan(curve.between(np.array([5.0, 0.9]))[0]).all()
    assert np.isnan(found.log_tokens(np.array([1.1]))[0]).all()


def test_too_few_budgets_or_a_floor_above_a_loss_give_no_law():
    two = LossCurve(TOKENS[:2], law(TOKENS[:2]))
    assert fit_loss_law(two) is None
    assert fit_loss_law(two, 1.2) is not None
    assert fit_loss_law(LossCurve(TOKENS, law(TOKENS)), 1.9) is None


def test_a_held_floor_narrows_the_exponent():
    rng = np.random.default_rng(0)
    curve = LossCurve(TOKENS, law(TOKENS), law(TOKENS) + 0.01 * rng.standard_normal((60, len(TOKENS))))
    free, held = fit_loss_law(curve), fit_loss_law(curve, 1.2)
    widths = [of.estimates["b"].high - of.estimates["b"].low for of in (free, held)]
    assert widths[1] < widths[0]
    assert held.estimates["E"].low is None

import json

import numpy as np
import pytest

from analysis.laws.joint import JointLaw, fit_joint
from scionlab.errors import UserError

N, T = (grid.ravel() for grid in np.meshgrid(2.0 ** np.array([26, 27.3, 28.1, 30]), 2.0 ** np.array([31, 33.4, 36])))


def optima(a=-0.7, b=0.3, scatter=0.0, seed=0, n=N, t=T):
    return 1.79 * n**a * t**b * 2 ** (scatter * np.random.default_rng(seed).standard_normal(len(n)))


def exponents(law):
    return {term.resource: term.exponent for term in law.terms}


def test_exact_optima_give_their_law_back():
    law = fit_joint("lr", optima(), {"n_params": N, "tokens": T})
    found = exponents(law)
    assert (found["n_params"].value, found["tokens"].value) == pytest.approx((-0.7, 0.3))
    assert law.constant == pytest.approx(1.79)
    assert law.predict(1e9, 1e11).value == pytest.approx(1.79 * 1e9**-0.7 * 1e11**0.3)
    assert law.scatter == pytest.approx(0, abs=1e-9)
    assert law.sure("n_params")
    assert law.reach("n_params") == pytest.approx(0.7 * 4)


def test_intervals_hold_a_planted_law_as_often_as_they_say_with_even_and_uneven_scatter():
    uneven = 0.1 * 4 ** ((np.log2(N) - 26) / 4)
    for scatter in (0.3, uneven):
        laws = [
            fit_joint("lr", optima(scatter=scatter, seed=seed), {"n_params": N, "tokens": T}) for seed in range(300)
        ]
        for name, truth in (("n_params", -0.7), ("tokens", 0.3)):
            held = np.mean([(e := exponents(law)[name]).low <= truth <= e.high for law in laws])
            assert 0.92 <= held <= 0.995, (name, held)  # HC3 of 12 optima is a little wide


def test_draws_have_the_quantiles_of_the_intervals_and_a_new_optimum_scatters_more():
    law = fit_joint("lr", optima(scatter=0.3), {"n_params": N, "tokens": T})
    for i, term in enumerate(law.terms, start=1):
        half = (term.exponent.high - term.exponent.low) / 2
        low, high = np.quantile(law.resampled[:, i], (0.025, 0.975))
        assert (low, high) == pytest.approx((term.exponent.low, term.exponent.high), abs=0.06 * half)
    at = law.predict(np.array([1e8, 1e11]), 1e12)
    assert (at.low < at.value).all()
    assert (at.value < at.high).all()
    assert (at.new_low < at.low).all()
    assert (at.high < at.new_high).all()
    assert np.ptp(np.log2([at.low[1], at.high[1]])) > np.ptp(np.log2([at.low[0], at.high[0]]))  # farther away


def test_intervals_of_predictions_hold_the_law_and_new_optima():
    rng, held, new = np.random.default_rng(0), [], []
    truth = 1.79 * 1e10**-0.7 * 1e12**0.3
    for seed in range(200):
        law = fit_joint("lr", optima(scatter=0.3, seed=seed), {"n_params": N, "tokens": T})
        at = law.predict(1e10, 1e12)
        held.append(at.low <= truth <= at.high)
        new.append(at.new_low <= truth * 2 ** (0.3 * rng.standard_normal()) <= at.new_high)
    assert np.mean(held) >= 0.91
    assert np.mean(new) >= 0.91


def test_a_law_survives_json():
    law = fit_joint("lr", optima(scatter=0.2), {"n_params": N, "tokens": T}, unit="1")
    again = JointLaw.from_dict(json.loads(json.dumps(law.as_dict(), allow_nan=False)))
    assert again == law
    np.testing.assert_allclose(again.resampled, law.resampled, rtol=1e-5)
    first, second = law.predict(1e10, 1e12), again.predict(1e10, 1e12)
    assert second.value == pytest.approx(first.value)
    assert second.new_high == pytest.approx(first.new_high, rel=1e-3)
    few = fit_joint("lr", optima()[:3], {"n_params": N[:3], "tokens": T[:3]})
    assert JointLaw.from_dict(json.loads(json.dumps(few.as_dict(), allow_nan=False))) == few


def test_what_goes_with_n_has_no_term_and_what_does_not_has_one():
    rng = np.random.default_rng(0)
    depth, width = np.round(N ** (1 / 3)), 2.0 ** rng.integers(5, 9, len(N))
    y = optima(scatter=0.02) * width**-0.5
    law = fit_joint("lr", y, {"n_params": N, "tokens": T, "depth": depth, "width": width})
    assert list(exponents(law)) == ["n_params", "tokens", "width"]
    assert exponents(law)["width"].value == pytest.approx(-0.5, abs=0.05)
    (warning,) = law.warnings
    assert warning.startswith("depth goes with tokens and n_params (multiple correlation")
    with pytest.raises(UserError, match="width: is missing"):
        law.predict(1e9, 1e10)
    assert law.predict(1e9, 1e10, width=64).value > 0
    with pytest.raises(UserError, match="heads: is no resource"):
        law.predict(1e9, 1e10, width=64, heads=4)


def test_sizes_and_tokens_in_one_proportion_leave_n_open():
    law = fit_joint("lr", optima(t=20 * N, scatter=0.1), {"n_params": N, "tokens": 20 * N})
    assert list(exponents(law)) == ["tokens"]
    assert law.reach("n_params") is None
    assert not law.sure("n_params")
    assert "it has no term of its own" in law.warnings[0]


def test_one_size_has_a_law_of_tokens_alone_and_few_optima_none():
    one = N[0] == N
    law = fit_joint("lr", optima()[one], {"n_params": N[one], "tokens": T[one]})
    assert exponents(law)["tokens"].value == pytest.approx(0.3)
    assert law.warnings == ("n_params has one value, and no term",)
    assert law.predict(5.0, T[one]).value == pytest.approx(optima()[one])  # whatever N
    assert fit_joint("lr", optima()[:1], {"n_params": N[:1], "tokens": T[:1]}).terms == ()
    four = [0, 1, 4, 5]
    law = fit_joint("lr", optima()[four], {"n_params": N[four], "tokens": T[four]})
    assert all(term.exponent.low is None for term in law.terms)
    assert law.predict(1e9, 1e10).low is None


def test_an_exponent_that_one_optimum_decides_has_no_interval():
    n, t = np.array([1e8] * 6 + [1e9]), np.array([1e9, 2e9, 4e9, 8e9, 1.6e10, 3e10, 4e9])
    law = fit_joint("lr", optima(n=n, t=t, scatter=0.1), {"n_params": n, "tokens": t})
    assert law.warnings == ("one size and budget alone decides an exponent, so there are no intervals",)
    assert law.reach("n_params") is None
    assert not law.sure("n_params")


@pytest.mark.parametrize(
    ("value", "n", "match"),
    [
        ([1, 2, -1], N[:3], "lr: every value must be finite and positive"),
        ([1, 2, 3], N[:2], r"n_params: has shape \(2,\); there must be one value for each of the values of lr"),
        ([1, 2, 3], [1, 2, 0], "n_params: every value must be finite and positive"),
    ],
)
def test_bad_input_is_named(value, n, match):
    with pytest.raises(UserError, match=match):
        fit_joint("lr", value, {"n_params": n, "tokens": T[:3]})


def test_bad_predictions_are_named():
    law = fit_joint("lr", optima(), {"n_params": N, "tokens": T})
    with pytest.raises(UserError, match="tokens: every value must be finite and positive"):
        law.predict(1e9, 0)

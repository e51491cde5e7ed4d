import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from analysis.laws.compute_optimal import allocate
from analysis.laws.scaling_laws import fit_chinchilla, fit_three_term
from scionlab.errors import UserError

E, A, B, ALPHA, BETA = 1.8, 480.0, 2100.0, 0.35, 0.37
N, T = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6)))
LOSS = E + A * N**-ALPHA + B * T**-BETA


def test_the_best_network_is_where_the_law_is_lowest_at_so_many_operations():
    found = allocate(fit_chinchilla(N, T, LOSS), 1e21)
    lowest = minimize_scalar(
        lambda log_n: E + A * np.exp(-ALPHA * log_n) + B * (1e21 / 6 / np.exp(log_n)) ** -BETA, bounds=(15, 28)
    )
    # The search for the minimum is good to a root of its tolerance; the fit of exact points is nearly exact.
    assert found.n_params.value == pytest.approx(np.exp(lowest.x), rel=2e-3)
    assert found.loss.value == pytest.approx(lowest.fun, rel=1e-5)
    assert 6 * found.n_params.value * found.tokens.value == pytest.approx(1e21, rel=1e-12)


def test_intervals_are_those_of_the_resamples_and_hold_the_truth():
    rng = np.random.default_rng(0)
    truth = allocate(fit_chinchilla(N, T, LOSS), 1e22).n_params.value
    held = []
    for seed in range(20):
        law = fit_chinchilla(N, T, LOSS * np.exp(0.003 * rng.standard_normal(len(N))), seed, resamples=100)
        found = allocate(law, 1e22).n_params
        held.append(found.low < truth < found.high)
    assert sum(held) >= 15  # 95% of 20; 14 or fewer have a chance of 0.03%


def test_another_law_and_impossible_operations_are_refused():
    law = fit_chinchilla(N, T, LOSS, resamples=0)
    assert allocate(law, 1e21).n_params.low is None
    with pytest.raises(UserError, match="flops: 0 is not allowed; it must be positive and finite"):
        allocate(law, 0)
    with pytest.raises(UserError, match="'three-term': has no term of N and T each"):
        allocate(fit_three_term(N, T / 1e5, np.full_like(N, 1e5), LOSS, resamples=0), 1e21)
    with pytest.raises(UserError, match="'chinchilla': has no term of N and T each"):
        allocate(fit_chinchilla(np.full_like(N, 1e8), T, LOSS, resamples=0), 1e21)

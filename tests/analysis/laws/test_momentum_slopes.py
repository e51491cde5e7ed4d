import numpy as np
import pytest

from analysis.fits.outcomes import Missing
from analysis.laws.momentum_slopes import THEORIES, Tuned, fit_momentum_slopes
from analysis.laws.rules import RIVALS, RULES, Point

TOKENS = 2.0 ** np.array([16, 16, 18, 20, 20, 22])
BATCHES = 2.0 ** np.array([7, 9, 7, 8, 11, 10])  # no law of the budget


def optima(pair, noise=0.0, count=400, seed=0):
    """Optima with the two slopes, and resamples of them; the measured ones have noise, too."""
    rng, x = np.random.default_rng(seed), np.log2(TOKENS)
    alpha = pair[1] * x + np.log2(BATCHES) + 3
    truth = np.stack([alpha, alpha + pair[0] * x - 2])
    seen = truth + noise * rng.standard_normal(truth.shape)
    sample = seen[:, None] + noise * rng.standard_normal((2, count, len(x)))
    inside = np.ones((count, len(x)), bool)
    return Tuned(seen[:1], seen[1:], inside[:1], inside[:1]), Tuned(*sample, inside, inside)


@pytest.mark.parametrize("theory", THEORIES)
def test_a_theory_is_found_at_any_batches(theory):
    found = fit_momentum_slopes(TOKENS, BATCHES, *optima(THEORIES[theory], noise=0.02))
    assert (found.outcome, found.theory) == ("inside", theory)
    exact = fit_momentum_slopes(TOKENS, BATCHES, *optima(THEORIES[theory]))
    assert (exact.rate.value, exact.momentum.value) == pytest.approx(THEORIES[theory])
    assert (found.n_places, found.n_budgets, found.lacks.missing) == (6, 4, ())


@pytest.mark.parametrize(
    ("name", "theory"),
    [("fw-gap-alpha", "stationarity"), ("fw-gap-all", "stationarity"), ("fw-gap", "stationarity"), ("bst", "KL")],
)
def test_the_rules_have_the_slopes_of_their_theory(name, theory):
    base, tokens = Point(2**16, 4, 32, 0.01), 2.0 ** np.array([16, 20])
    of = [(RULES | RIVALS)[name].predict(base, each) for each in tokens]
    alpha, lr, batch = (np.log2([getattr(s, key) for s in of]) for key in ("momentum", "lr", "batch_tokens"))
    assert (np.diff(lr - alpha)[0] / 4, np.diff(alpha - batch)[0] / 4) == pytest.approx(THEORIES[theory])


def test_other_slopes_are_neither_and_slopes_that_may_be_0_tell_nothing():
    neither = fit_momentum_slopes(TOKENS, BATCHES, *optima((0.0, 0.0), noise=0.02))
    assert (neither.outcome, neither.theory) == ("outside", None)
    vague = fit_momentum_slopes(TOKENS, BATCHES, *optima(THEORIES["KL"], noise=1.5))
    assert vague.outcome == "cannot tell"
    assert set(vague.lacks.missing) == {Missing.SEEDS, Missing.BUDGETS}


def test_false_theories_are_rare():
    """Of 200 tables whose noise is about the theories' difference: 5% each are the level, 20 are 3 deviations above."""
    found = [
        fit_momentum_slopes(TOKENS, BATCHES, *optima(THEORIES["stationarity"], noise=0.3, count=200, seed=seed))
        for seed in range(200)
    ]
    named = [each.theory for each in found]
    assert named.count("KL") + [each.outcome for each in found].count("outside") <= 20
    covered = [
        each.rate.low <= -1 / 4 <= each.rate.high and each.momentum.low <= -1 / 2 <= each.momentum.high
        for each in found
    ]
    assert np.mean(covered) > 0.9


def test_what_keeps_it_open_is_said():
    observed, drawn = optima(THEORIES["KL"], noise=0.01)
    quiet = fit_momentum_slopes(TOKENS, BATCHES, observed, None)
    assert (quiet.outcome, quiet.rate.low, quiet.lacks.missing) == ("cannot tell", None, (Missing.SEEDS,))
    one = TOKENS == 2**16
    alone = fit_momentum_slopes(TOKENS[one], BATCHES[one], observed.at(one), drawn.at(one))
    assert (alone.rate, alone.n_budgets, alone.lacks.missing) == (None, 1, (Missing.BUDGETS,))
    cut = Tuned(drawn.momentum, drawn.lr, drawn.momentum_ok.copy(), drawn.lr_ok)
    cut.momentum_ok[:40, 3] = False
    edge = fit_momentum_slopes(TOKENS, BATCHES, observed, cut)
    assert (edge.outcome, edge.lacks.missing) == ("cannot tell", (Missing.VALUES_BEYOND,))
    none = Tuned(observed.momentum, observed.lr, observed.momentum_ok, ~observed.lr_ok)
    assert fit_momentum_slopes(TOKENS, BATCHES, none, drawn).lacks.missing == (Missing.RATES_BEYOND,)

import numpy as np
import pytest

from analysis.laws.critical_batch import fit_target
from analysis.laws.linear_regime import at_goal, exceeds

BATCHES = 2.0 ** np.arange(6, 15) * 512


def tokens(batch_crit, noise=0.0, seed=0, batches=BATCHES):
    rng = np.random.default_rng(seed)
    return 1e9 * (1 + batches / (512 * batch_crit)) * np.exp(noise * rng.standard_normal(len(batches)))


def at(batch_crit, noise=0.0, seed=0, batches=BATCHES, count=120):
    return at_goal(3.2, batches, tokens(batch_crit, noise, seed, batches), count, np.random.default_rng(seed))


@pytest.mark.parametrize("batch_crit", [1000.0, 2500.0, 7300.0])
def test_both_definitions_find_a_planted_law_off_the_grid(batch_crit):
    found = at(batch_crit)
    assert found.fit.batch_crit.value == pytest.approx(512 * batch_crit, rel=0.002)
    above = exceeds(found, 256 * 512, 0.2)
    assert above.law.value == pytest.approx(512 * (1.2 * 256 + 0.2 * batch_crit), rel=0.002)
    assert above.read.value == pytest.approx(above.law.value, rel=0.06)  # straight between octaves
    assert float(found.fit.tokens(above.law.value) / found.fit.tokens(256 * 512)) == pytest.approx(1.2, rel=1e-3)


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_intervals_of_a_table_of_goals_hold_the_truth(noise):
    inside = []
    for seed in range(120):
        found = at(2500.0, noise, seed)
        above = exceeds(found, 256 * 512, 0.2)
        crit, law = found.fit.batch_crit, above.law
        inside.append((crit.low < 2500 * 512 < crit.high, law is None or law.low < 512 * 807.2 < law.high))
    assert (np.mean(inside, axis=0) >= 0.9).all()  # 95% of 120; fewer than 108 have a chance of 2%
    assert (np.mean(inside, axis=0) <= 0.987).all()


def test_repeats_count_as_their_mean_and_the_order_of_rows_does_not_matter():
    batches = np.concatenate([BATCHES, BATCHES[::-1]])
    values = np.concatenate([tokens(2500) * 1.1, tokens(2500)[::-1] / 1.1])
    found = at_goal(3.2, batches, values, 10, np.random.default_rng(0))
    assert found.fit.batch_crit.value == pytest.approx(2500 * 512, rel=0.002)
    assert found.fit.n_batches == 9


def test_what_is_not_measured_is_not_said():
    found = at(2500.0)
    assert "outside those measured" in exceeds(found, 16 * 512, 0.2).why
    assert exceeds(found, 256 * 512, 9.0).why == "no batch measured needs 900% more tokens"
    few = fit_target(3.2, BATCHES[:2], np.log(tokens(2500)[:2]))
    assert exceeds(few, 256 * 512, 0.2).why == "there is no law at this target"

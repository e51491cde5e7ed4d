import numpy as np
import pytest

from analysis.fits.power_sum import PowerSum
from analysis.laws.scaling_laws import fit_chinchilla
from scionlab.errors import UserError

N, T = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 7), np.geomspace(1e9, 1e12, 7)))
TRUTH = {"E": 1.8, "a": 0.35, "b": 0.37}
LOSS = TRUTH["E"] + 480 * N ** -TRUTH["a"] + 2100 * T ** -TRUTH["b"]
# Index of each in a vector of parameters.
AT = {"E": 0, "a": 3, "b": 4}


def drawn(kind, level, rng):
    noise = {"normal": rng.standard_normal, "laplace": lambda n: rng.laplace(size=n) / np.sqrt(2)}[kind]
    return LOSS * np.exp(level * noise(len(LOSS)))


# Of noise far above Huber's δ = 0.001, and of noise below it.
@pytest.mark.parametrize(("kind", "level"), [("normal", 0.01), ("laplace", 0.01), ("normal", 0.0005)])
def test_profile_intervals_hold_the_truth_as_often_as_they_say(kind, level):
    rng = np.random.default_rng(1)
    held = []
    for _ in range(30):
        problem = PowerSum(np.stack([N, T]), drawn(kind, level, rng))
        best = problem.fit()
        for name, index in AT.items():
            low, high = problem.profile(best, index, 0.95)
            assert low <= best[index] <= high
            held.append(low <= TRUTH[name] <= high)
    # 95% of 30 tables are 28.5; fewer than 25 in one parameter have a chance of 0.3%.
    assert np.mean(held) >= 25 / 30


def test_a_floor_that_is_held_is_no_parameter():
    law = fit_chinchilla(N, T, LOSS, floor=1.8, resamples=50)
    assert law.floor == law.parameters["E"].value == 1.8
    assert law.parameters["E"].low is None
    assert (law.parameters["a"].value, law.parameters["b"].value) == pytest.approx((0.35, 0.37), rel=1e-4)
    assert set(law.profiles) == {"a", "b"}
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(5):
        noisy = drawn("normal", 0.01, rng)
        free, held = (fit_chinchilla(N, T, noisy, floor=floor) for floor in (None, 1.8))
        width, of_held = (law.profiles["a"].high - law.profiles["a"].low for law in (free, held))
        ratios.append(of_held / width)
    assert np.exp(np.mean(np.log(ratios))) < 0.9  # what is known of E need not be told by the points


@pytest.mark.parametrize("floor", [-0.1, 5.0])
def test_a_floor_has_to_lie_below_all_losses(floor):
    with pytest.raises(UserError, match=f"floor: {floor} is not allowed; it must be 0 or more, and below the lowest"):
        fit_chinchilla(N, T, LOSS, floor=floor)


def test_an_e_that_may_be_zero_is_not_determined():
    # No floor at all, and so much noise that none, or half the losses, would do.
    rng = np.random.default_rng(3)
    loss = (40 * N**-0.1 + 300 * T**-0.2) * np.exp(0.05 * rng.standard_normal(len(N)))
    law = fit_chinchilla(N, T, loss)
    assert law.status == "E undetermined"
    assert law.parameters["E"].low < 0.01 * loss.min() < law.parameters["E"].high
    assert any("E is not determined" in warning for warning in law.warnings)

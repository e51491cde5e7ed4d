import numpy as np
import pandas as pd
import pytest

from analysis.fits.lr_curve import LrCurve
from analysis.fits.parabola import curvature

X = np.arange(-12.0, -5.0)


def curve_of(losses, seeds):
    rows = pd.DataFrame({"lr": 2.0 ** np.repeat(X, 1), "seed": seeds, "val_loss": losses, "status": "ok"})
    return LrCurve.of(rows, 1.0)


def test_seeds_that_share_no_rate_do_not_move_the_losses():
    losses = 3 + 0.02 * (X + 9) ** 2
    own_seed_each = curve_of(losses, np.arange(len(X)))
    assert own_seed_each.mean == pytest.approx(losses)
    assert not own_seed_each.freedoms.any()
    two_halves = curve_of(losses, np.where(X < -9, 0, 1))
    assert two_halves.mean == pytest.approx(losses)


def test_the_offset_of_a_seed_that_shares_rates_is_taken_out():
    losses = np.full((7, 2), np.nan)
    losses[:, 0] = 3 + 0.02 * (X + 9) ** 2
    losses[2:5, 1] = losses[2:5, 0] + 0.1
    assert LrCurve(1.0, X, losses, (0, 1)).mean == pytest.approx(losses[:, 0])


def test_a_rate_right_beside_another_does_not_bend_the_curve():
    x = np.sort(np.append(X, -9 + 1e-8))
    y = 3 + 0.02 * (x + 9) ** 2 + np.where(x == -9 + 1e-8, 0.004, 0.0)
    assert curvature(x, y) == pytest.approx(0.02, rel=0.01)
    assert curvature(x[3:], y[3:]) < 0.1  # the best rate ends the grid

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from synthetic_layers import tables_of, transfer_rows

import analysis.studies.norm_transfer.fit
from analysis.fits.intervals import Estimate
from analysis.fits.outcomes import Outcome
from analysis.studies.norm_transfer import page
from analysis.studies.norm_transfer.fit import NormOptimum, _between, fit_norm_transfer
from analysis.studies.norm_transfer.verdicts import verdict
from scionlab.errors import UserError

HELD, BROKEN, CANNOT_TELL = Outcome.HELD, Outcome.DID_NOT_HOLD, Outcome.CANNOT_TELL


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(analysis.studies.norm_transfer.fit, "RESAMPLES", 200)


def fit(*parts):
    runs, layers = ([row for one in part for row in one] for part in zip(*parts, strict=True))
    return fit_norm_transfer(tables_of(runs, layers))


@lru_cache
def planted(*args, **options):
    return transfer_rows(*args, **options)


def only(found):
    (method,) = found.methods
    return method


def contains(estimate, truth, room=0.03):
    return estimate.low - room <= truth <= estimate.high + room


@pytest.mark.parametrize(
    ("in_width", "in_tokens", "says"), [(0.0, 0.0, HELD), (0.0, 0.5, BROKEN), (-0.5, 0.0, BROKEN), (0.5, 1.0, BROKEN)]
)
def test_planted_exponents_are_recovered(in_width, in_tokens, says):
    method = only(fit(planted(in_width=in_width, in_tokens=in_tokens)))
    assert contains(method.in_width, in_width)
    assert contains(method.in_tokens, in_tokens)
    assert method.in_tokens.high - method.in_tokens.low < 0.2
    assert method.verdict == says
    assert all(optimum.resolved for optimum in method.optima)


def test_the_norm_is_read_off_at_the_best_rate_and_batch():
    method = only(fit(planted(noise=0.0005, scatter=0.002)))
    assert len(method.optima) == 6
    for optimum in method.optima:
        budget = np.log2(optimum.tokens)
        batch = 4.2 + 0.5 * (budget - 16)
        assert np.log2(optimum.batch_size) == pytest.approx(batch, abs=0.1)
        assert np.log2(optimum.lr) == pytest.approx(-6.3 + 0.5 * (batch - 4), abs=0.1)
        assert optimum.norm.value == pytest.approx(40, rel=0.08)
        assert optimum.norm.low < optimum.norm.value < optimum.norm.high
    assert method.spread < 1.15


def test_the_interval_includes_the_choice_of_the_optimum():
    still = only(fit(planted(noise=0.0005, scatter=0.002)))
    shaky = only(fit(planted(noise=0.01, scatter=0.002)))
    widths = [np.mean([np.log2(o.norm.high / o.norm.low) for o in method.optima]) for method in (still, shaky)]
    assert widths[1] > 3 * widths[0]


def test_noise_that_hides_the_optimum_leaves_it_open():
    assert only(fit(planted(in_width=0.15, noise=0.03))).verdict == CANNOT_TELL


def test_one_seed_cannot_tell():
    method = only(fit(planted(seeds=1)))
    assert method.verdict == CANNOT_TELL
    assert (method.in_width.low, method.in_tokens.low) == (None, None)
    assert method.in_tokens.value == pytest.approx(0, abs=0.1)


def test_optima_at_the_edge_are_left_out_and_said():
    method = only(fit(planted(offset=4, widths=(32, 64, 128))))
    resolved = {(o.width, o.resolved) for o in method.optima}
    assert resolved == {(32, False), (64, True), (128, True)}
    assert contains(method.in_tokens, 0)
    assert method.verdict == HELD
    # Of two widths one is left, and nothing can be said of the width.
    method = only(fit(planted(offset=4)))
    assert contains(method.in_tokens, 0)
    assert (method.in_width, method.verdict) == (None, CANNOT_TELL)


def test_one_width_has_an_exponent_in_the_budget_alone():
    method = only(fit(planted(in_tokens=0.5, widths=(32,))))
    assert (method.in_width, method.verdict) == (None, BROKEN)
    assert contains(method.in_tokens, 0.5)
    method = only(fit(planted(budgets=(16,), widths=(32, 64, 128))))
    assert (method.in_tokens, method.verdict) == (None, HELD)


def test_one_batch_size_leaves_the_rate_to_choose():
    runs, layers = planted()
    method = only(fit(([run for run in runs if run["batch_size"] == 16], layers)))
    assert all(optimum.resolved and optimum.batch_size == 16 for optimum in method.optima)
    # The best batch moves on; at this one the norm falls behind it, by the planted (T/2^16)^(1/2).
    assert contains(method.in_tokens, 0.5)


def test_optima_off_the_plane_widen_the_intervals():
    runs, layers = planted(scatter=0.002, noise=0.0005)
    wild = {(32, 2**16), (64, 2**15), (64, 2**17)}
    odd = {run["trial_id"] for run in runs if (run["width"], run["tokens"]) in wild}
    bent = [row | {"rms_to_max": 1.5 * row["rms_to_max"]} if row["trial_id"] in odd else row for row in layers]
    plain, wide = only(fit((runs, layers))), only(fit((runs, bent)))
    assert wide.misfit > 5
    assert wide.in_width.high - wide.in_width.low > 5 * (plain.in_width.high - plain.in_width.low) / max(
        1, plain.misfit
    )


def test_the_last_step_of_the_output_layer_counts():
    runs, layers = planted(budgets=(16,))
    inner = [row | {"layer": "blocks.0.q.weight", "role": "hidden", "rms_to_max": 1e6} for row in layers]
    mine, same = only(fit((runs, layers))), only(fit((runs, layers[::-1] + inner)))
    assert [o.norm.value for o in same.optima] == pytest.approx([o.norm.value for o in mine.optima])


def test_norms_in_radii_are_told_where_there_are_balls():
    assert all(o.of_radius is None for o in only(fit(planted(budgets=(16,)))).optima)
    method = only(fit(planted(budgets=(16,), radius=64.0)))
    for optimum in method.optima:
        assert 0.2 < optimum.of_radius < 2


@pytest.mark.parametrize(("share", "said"), [(0.5, False), (0.98, True), (1.1, True), (1.6, False)])
def test_norms_at_the_edge_of_their_ball_are_said_to_be_the_balls(share, said):
    method = only(fit(planted(budgets=(16,), radius=64.0)))
    at_share = replace(method, optima=tuple(replace(optimum, of_radius=share) for optimum in method.optima))
    assert ("the ball that fixes them" in page._finding(at_share)) == said  # beyond a fifth: no ball holds them


def test_a_rate_that_diverges_takes_no_part():
    runs, layers = planted()
    top = max(run["lr"] for run in runs)
    lost = [run | {"status": "diverged", "val_loss": None} if run["lr"] == top else run for run in runs]
    method = only(fit((lost, layers)))
    assert method.n_diverged == sum(run["lr"] == top for run in runs) > 0
    assert method.verdict == HELD
    gone = [run | {"status": "diverged", "val_loss": None} if run["lr"] > 2**-7 else run for run in runs]
    assert not any(o.resolved for o in only(fit((gone, layers))).optima if o.tokens == 2**17)


def optimum(width=32, tokens=2**16, **changes):
    return replace(NormOptimum(width, tokens, 0.01, 16, Estimate(40), 2.0, None, True, False, 3), **changes)


INSIDE, BEYOND, ACROSS = Estimate(0.1, 0, 0.2), Estimate(0.4, 0.3, 0.5), Estimate(0, -0.1, 0.3)


@pytest.mark.parametrize(
    ("in_width", "in_tokens", "says"),
    [
        (INSIDE, INSIDE, HELD), (INSIDE, BEYOND, BROKEN), (Estimate(-0.4, -0.5, -0.3), ACROSS, BROKEN),
        (ACROSS, INSIDE, CANNOT_TELL), (INSIDE, Estimate(0), CANNOT_TELL), (INSIDE, None, CANNOT_TELL),
        (None, None, CANNOT_TELL),
    ],
)  # fmt: skip
def test_what_the_intervals_say(in_width, in_tokens, says):
    square = [optimum(width, tokens) for width in (32, 64) for tokens in (2**16, 2**17)]
    assert verdict([in_width, in_tokens], square) == says
    edges = [replace(o, resolved=i < 2) for i, o in enumerate(square)]
    assert verdict([in_width, in_tokens], edges) == CANNOT_TELL
    cut_off = [*square, optimum(cut_off=True)]
    assert verdict([in_width, in_tokens], cut_off) == (CANNOT_TELL if says == HELD else says)


def test_an_axis_with_one_place_needs_no_exponent():
    row = [optimum(width) for width in (32, 64, 128)]
    assert verdict([INSIDE, None], row) == HELD
    assert verdict([None, None], row) == CANNOT_TELL


def test_straight_between_points_and_only_those_with_weight_count():
    x, y = np.array([0.0, 1.0, 3.0]), np.array([[1.0, 2.0, np.nan]] * 5)
    found = _between(x, y, np.array([0.0, 0.25, 1.0, 2.0, -1.0]))
    assert np.array_equal(found, [1.0, 1.25, 2.0, np.nan, 1.0], equal_nan=True)
    assert _between(np.array([1.0]), np.array([[5.0]]), np.array([9.0])) == [5.0]


def test_tables_that_say_nothing_of_norms_are_refused():
    runs, layers = planted(widths=(32, 64), budgets=(16,), seeds=1)
    with pytest.raises(UserError, match="none of them watched"):
        fit((runs, []))
    with pytest.raises(UserError, match="no output layer has a rms_to_max"):
        fit((runs, [row | {"role": "hidden"} for row in layers]))
    with pytest.raises(UserError, match="all have one width and one token budget"):
        fit(planted(widths=(32,), budgets=(16,), seeds=1))
    again = [runs[0] | {"trial_id": "again"}, layers[0] | {"trial_id": "again"}]
    with pytest.raises(UserError, match="several runs of 'uscion' have width 32, tokens_budget"):
        fit(([*runs, again[0]], [*layers, again[1]]))


def test_what_is_written_has_a_row_for_every_optimum_and_setting():
    found = fit(planted(budgets=(15, 16)), planted("adam", budgets=(15, 16)))
    frames = found.frames()
    assert len(frames["norm_transfer"]) == 8
    assert len(frames["norm_points"]) == 2 * 4 * 25
    assert set(frames["norm_points"]["n_seeds"]) == {3}
    assert isinstance(frames["norm_exponents"], pd.DataFrame)
    ((_, summary),) = found.summaries()
    assert list(summary["optimizer"]) == ["adam", "uscion"]

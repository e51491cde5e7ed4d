import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.laws.critical_batch import default_targets, fit_critical_batch, tokens_to_target
from analysis.laws.of_runs import critical_batch_of_runs
from analysis.studies.batch_scaling.figures import critical_batch as figure
from scionlab.errors import UserError

BATCHES, BUDGETS = 2.0 ** np.arange(6, 13), 2.0 ** np.arange(15, 23)


def planted(batch_crit, batches=BATCHES, budgets=BUDGETS, noise=0.0, seed=0):
    """Cells whose loss is a power of T/(1 + B/B_crit): every target has the same B_crit."""
    t, b = (grid.ravel() for grid in np.meshgrid(budgets, batches, indexing="ij"))
    loss = 1.2 + 60 * (t / (1 + b / batch_crit)) ** -0.36
    return t, b, loss + noise * np.random.default_rng(seed).standard_normal(len(t))


def tokens_min(target):
    return (60 / (target - 1.2)) ** (1 / 0.36)


@given(octave=st.floats(6.5, 11.5))
@settings(deadline=None, max_examples=25)
def test_a_planted_critical_batch_is_recovered(octave):
    fit = fit_critical_batch(*planted(2.0**octave))
    assert len(fit.targets) == 3
    for target in fit.targets:
        assert target.status == "ok"
        # Half a percent: cubic interpolation between budgets an octave apart, the grid of an eighth of an octave.
        assert target.batch_crit.value == pytest.approx(2.0**octave, rel=0.01)
        assert target.tokens_min.value == pytest.approx(tokens_min(target.target), rel=0.005)
        assert target.tokens(2.0**octave) == pytest.approx(2 * target.tokens_min.value, rel=0.01)
        assert target.batch_crit.low is None
        assert target.rms < 0.003


def test_intervals_come_from_the_losses_handed_over():
    t, b, loss = planted(700, noise=0.01)
    draws = loss + 0.01 * np.random.default_rng(1).standard_normal((400, len(loss)))
    fit = fit_critical_batch(t, b, loss, resampled=draws)
    for target in fit.targets:
        assert target.batch_crit.low < target.batch_crit.value < target.batch_crit.high
        assert target.batch_crit.high / target.batch_crit.low < 1.6
    same = fit_critical_batch(t, b, loss, resampled=np.tile(loss, (5, 1)))
    for target in same.targets:
        assert target.batch_crit.low == pytest.approx(target.batch_crit.value)


def test_intervals_cover_the_truth():
    # 120 draws of seed noise, each resampled with noise of the same size. A nominal 95% is held to 88-99%: the noise
    # counts twice in the resamples, and makes losses that rise with the budget, which the monotone curve cuts off.
    rng, inside = np.random.default_rng(2), []
    for draw in range(120):
        t, b, loss = planted(700, noise=0.01, seed=draw)
        draws = loss + 0.01 * rng.standard_normal((100, len(loss)))
        at = fit_critical_batch(t, b, loss, targets=[2.2], resampled=draws).targets[0].batch_crit
        inside.append(at.low <= 700 <= at.high)
    assert 0.88 <= np.mean(inside) <= 0.99


@pytest.mark.parametrize("batch_crit", [3.0, 2.0**17])
def test_a_critical_batch_beyond_the_measured_ones_is_flagged(batch_crit):
    t, b, loss = planted(batch_crit)
    fit = fit_critical_batch(t, b, loss, targets=[2.6], resampled=np.tile(loss, (20, 1)))
    assert fit.targets[0].status == "at edge"
    assert fit.targets[0].batch_crit.low is None
    assert any("far outside the batch sizes" in warning for warning in fit.warnings)


def test_an_interval_that_ends_where_the_search_does_is_flagged():
    t, b, loss = planted(2.0**13)
    draws = loss + 0.05 * np.random.default_rng(1).standard_normal((200, len(loss)))
    target = fit_critical_batch(t, b, loss, targets=[2.2], resampled=draws).targets[0]
    assert target.status == "ok"
    assert target.cut_off


def test_batches_that_are_too_small_for_the_law_are_left_out_and_named():
    t, b, loss = planted(1000)
    small = b < 200
    loss = np.where(small, 1.2 + 60 * (t / 3) ** -0.36, loss)  # three times the tokens
    fit = fit_critical_batch(t, b, loss, targets=[2.2])
    assert fit.targets[0].batch_crit.value == pytest.approx(1000, rel=0.02)
    assert [r.used for r in fit.reached] == [False, False, True, True, True, True, True]
    assert fit.warnings == (
        "loss 2.2: batches of 64, 128 tokens need more tokens than larger ones: outside the law, left out",
    )


def test_nothing_is_extrapolated():
    t, b, loss = planted(700)
    keep = (b != 64) | (t > 2.0**20)  # one batch size whose budgets all lie below the target
    fit = fit_critical_batch(t[keep], b[keep], loss[keep], targets=[2.2, 0.9])
    first = [r for r in fit.reached if r.target == 2.2]
    assert first[0].tokens is None
    assert all(r.tokens is not None for r in first[1:])
    assert fit.targets[0].status == "ok"
    assert fit.targets[1].status == "too few"
    assert fit.warnings == ("loss 0.9: 0 batch sizes can be fitted, fewer than 3",)
    with pytest.raises(UserError, match=r"fewer than 3 batch sizes reach the loss 0\.9"):
        fit.targets[1].tokens(64.0)


def test_a_batch_size_with_one_budget_does_not_count():
    t, b, loss = planted(700)
    keep = (b != 64) | (t == 2.0**20)
    fit = fit_critical_batch(t[keep], b[keep], loss[keep], targets=[2.2])
    assert fit.warnings == ("1 batch sizes have one budget only, and do not count",)
    assert fit.targets[0].n_batches == 6


@given(losses=st.lists(st.floats(1, 5), min_size=2, max_size=7), share=st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_the_target_is_reached_between_the_budgets_around_it(losses, share):
    tokens, losses = 2.0 ** np.arange(len(losses)), np.array(losses)
    target = losses.min() + share * (losses[0] - losses.min())
    assume(np.abs(losses - target).min() > 1e-6)
    found = float(tokens_to_target(tokens, losses[None], np.array([target]))[0, 0])
    after = int(np.argmax(losses < target))
    assert np.log(tokens[after - 1]) <= found <= np.log(tokens[after])


@given(target=st.floats(1.7, 2.8))
@settings(deadline=None, max_examples=50)
def test_tokens_to_a_target_invert_the_loss_curve(target):
    tokens = 2.0 ** np.arange(14, 24)
    found = tokens_to_target(tokens, (1.2 + 60 * tokens**-0.36)[None], np.array([target]))[0, 0]
    # The cubic between budgets an octave apart: 0.2%.
    assert np.exp(found) == pytest.approx(tokens_min(target), rel=0.004)


def test_a_target_outside_the_curve_is_not_reached():
    curves, targets = np.array([[3.0, 2.0], [2.0, 3.0]]), np.array([3.5, 3.0, 2.5, 2.0, 1.9])
    found = tokens_to_target(np.array([1.0, 2.0]), curves, targets)
    assert found[0, 1:4] == pytest.approx(np.log([1.0, np.sqrt(2), 2.0]))
    assert np.isnan(found[0, [0, 4]]).all()
    # Of a loss that rises with the budget only the first budget's is reached.
    assert np.isnan(found[1]).tolist() == [True, True, True, False, True]


def test_default_targets_are_losses_that_two_thirds_reach():
    losses = [np.array([3.0, 2.0]), np.array([3.2, 2.2]), np.array([3.4, 2.4]), np.array([9.0, 8.0])]
    # Three of four are needed: they share 2.4 to 3.0.
    assert default_targets(losses) == pytest.approx([2.85, 2.7, 2.55])
    assert default_targets(losses[:2]) == []
    none = fit_critical_batch([1e4, 2e4], [64, 64], [3.0, 2.5])
    assert none.targets == ()
    assert none.warnings == ("no loss is reached by 67% of the batch sizes, and 3 of them",)
    assert none.frame().empty


def test_mistakes_in_the_cells_are_named():
    t, b, loss = planted(700)
    with pytest.raises(UserError, match="tokens: must be one finite and positive value"):
        fit_critical_batch(-t, b, loss)
    with pytest.raises(UserError, match="must have one loss"):
        fit_critical_batch(np.tile(t, 2), np.tile(b, 2), np.tile(loss, 2))
    with pytest.raises(UserError, match=r"resampled: has shape \(3, 2\); needed is \(resamples, 56\)"):
        fit_critical_batch(t, b, loss, resampled=np.ones((3, 2)))


def runs_of(batch_crit, noise=0.0, seeds=2):
    rng, rows = np.random.default_rng(0), []
    for t, b, lowest in zip(*planted(batch_crit, budgets=BUDGETS[:5]), strict=True):
        best = -7.3 + 0.5 * np.log2(b)
        for x in range(round(best) - 2, round(best) + 3):
            for seed in range(seeds):
                loss = lowest + 0.05 * (x - best) ** 2 + noise * rng.standard_normal()
                row = {"n_params": 1e5, "tokens": t, "batch_size": b / 64, "seq_len": 64, "lr": 2.0**x, "seed": seed}
                rows.append(row | {"optimizer": "scion", "status": "ok", "val_loss": loss})
    return pd.DataFrame(rows)


def test_runs_are_profiled_and_their_seeds_give_intervals():
    fit = critical_batch_of_runs(runs_of(700, noise=0.005), resamples=200)
    assert fit.warnings == ()
    for target in fit.targets:
        assert target.batch_crit.low <= 700 <= target.batch_crit.high
    with pytest.raises(UserError, match="n_params takes several values"):
        critical_batch_of_runs(pd.concat([runs_of(700), runs_of(700).assign(n_params=2e5)]), resamples=0)


def test_results_go_into_tables_and_json():
    fit = fit_critical_batch(*planted(700), targets=[2.2, 0.9])
    frame = fit.frame()
    assert list(frame["target"]) == [2.2, 0.9]
    assert frame["batch_crit"].iloc[0] == pytest.approx(700, rel=0.01)
    assert json.loads(json.dumps(fit.as_dict(), allow_nan=False))["targets"][1]["batch_crit"] is None


def test_the_figure_shows_every_batch_size_and_says_what_is_not_resolved(tmp_path):
    t, b, loss = planted(700)
    good = fit_critical_batch(t, b, loss, targets=[2.2, 2.4], resampled=np.tile(loss, (20, 1)))
    edge = fit_critical_batch(*planted(2.0**17), targets=[2.2])
    few = fit_critical_batch(*planted(700, batches=BATCHES[:2]), targets=[2.2])
    data = figure.of_fits([("scion", good), ("adam", edge), ("muon", few)])
    assert (data["kind"] == "point").sum() == 7 + 7 + 7 + 2
    text = figure.alt(data)
    assert "scion: 70" in text
    assert "adam: not resolved at loss 2.20" in text
    figure.draw(data).savefig(tmp_path / "figure.png")
    figure.draw(figure.of_fits([("muon", few)])).savefig(tmp_path / "few.png")
    assert figure.of_fits([("muon", fit_critical_batch(t, b, loss, targets=[0.9]))]).empty

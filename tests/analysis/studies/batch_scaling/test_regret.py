from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from planted import Law, planted_runs

from analysis.fits.cells import budgets_of, table_of_cells
from analysis.fits.profile import read_budgets
from analysis.laws.rules import NO_CHANGE, RULES, Anchored, Rule
from analysis.studies.batch_scaling.regret import contest
from analysis.studies.batch_scaling.table import Table

BUDGETS = (16, 17, 18, 19)
QUIET = {"noise": 0.0, "offset": 0.0, "seeds": 1}
LAW = Law(log2_lr=-7.35)  # off the grid of rates


@dataclass(frozen=True, kw_only=True)
class Says(Rule):
    """A rule that says the same, whatever the base: log₂ of tokens a step and of the learning rate."""

    name: str = "says"
    title: str = "what it is told"
    source: str = "nobody"
    batch: float
    lr: float

    def batch_tokens(self, base, tokens):
        return 2.0**self.batch + 0 * base.batch_tokens

    def learning_rate(self, base, tokens, batch_tokens):
        return 2.0**self.lr + 0 * base.lr


def table_of(runs, count=200):
    budgets = budgets_of(table_of_cells(runs))
    _, readings = read_budgets(budgets, count, np.random.default_rng(0))
    return Table.of(budgets, readings)


def drawn_from(runs):
    return table_of(runs).draws()


def held(runs, rules, held_out=3, noisy=True):
    """The contest at one budget, and its scores by the names of the rules."""
    found = contest(table_of(runs), drawn_from(runs) if noisy else None, held_out, rules)
    return found, {score.rule: score for score in found.scores}


def scored(table, rules, held_out=3):
    """The scores of a table as read."""
    return {score.rule: score for score in contest(table, None, held_out, rules).scores}


# Regret


def test_the_measured_optimum_of_a_budget_costs_nothing():
    law, runs = LAW, planted_runs(LAW, **QUIET)
    table = table_of(runs)
    for index in range(4):
        lowest = int(table.profiles[index].lowest[0])
        batch, lr = table.profiles[index].x[lowest], table.profiles[index].lr[0, lowest]
        assert lr == pytest.approx(np.log2(law.best_lr(2.0 ** BUDGETS[index], 2**batch)))
        _, scores = held(runs, [Says(batch=batch, lr=lr)], index, noisy=False)
        assert scores["says"].regret.value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("off", [-1.2, -0.7, -0.3, 0.2, 0.8, 1.4])
def test_a_wrong_rate_costs_what_the_valley_says(off):
    law, runs = LAW, planted_runs(LAW, **QUIET)
    table, index = table_of(runs), 1
    lowest = int(table.profiles[index].lowest[0])
    batch = table.profiles[index].x[lowest]
    lr = np.log2(law.best_lr(2.0 ** BUDGETS[index], 2**batch)) + off
    _, scores = held(runs, [Says(batch=batch, lr=lr)], index, noisy=False)
    # Exact on the parabola, which reaches at least half an octave; the monotone cubic beyond is a few percent off.
    tolerance = 1e-9 if abs(off) <= 0.5 else 0.15 * law.valley
    assert scores["says"].regret.value == pytest.approx(law.valley * off**2, abs=tolerance)


def test_a_wrong_batch_costs_what_the_profile_says():
    law, runs = LAW, planted_runs(LAW, **QUIET)
    table = table_of(runs)
    best = table.profiles[3].loss[0].min()
    for batch in np.arange(6.0, 11.1, 0.25):
        lr = np.log2(law.best_lr(2.0**19, 2**batch))
        scores = scored(table, [Says(batch=batch, lr=lr)])
        # Monotone cubic through octaves: it does not see the 0.004 nats by which the law dips between two of them, and
        # is a few percent off where the loss rises by up to a nat an octave.
        truth = law.loss(2.0**19, 2**batch) - best
        assert scores["says"].regret.value == pytest.approx(max(truth, 0), abs=0.003 + 0.05 * abs(truth))


def test_no_prediction_is_better_than_the_best_measured_cell():
    rng, table = np.random.default_rng(0), table_of(planted_runs(Law()))
    for _ in range(30):
        rule = Says(batch=rng.uniform(4, 12), lr=rng.uniform(-12, -4))
        scores = scored(table, [rule], int(rng.integers(4)))
        assert scores["says"].regret.value >= -1e-12


@pytest.mark.parametrize(
    ("batch", "off", "outside"), [(8.0, 0, False), (5.9, 0, True), (11.1, 0, True), (8.0, 3, True), (8.0, -3, True)]
)
def test_predictions_beyond_what_was_measured_are_flagged_and_read_at_the_edge(batch, off, outside):
    law, runs = LAW, planted_runs(LAW, **QUIET)
    lr = np.log2(law.best_lr(2.0**19, 2**batch)) + off
    _, scores = held(runs, [Says(batch=batch, lr=lr)], noisy=False)
    assert scores["says"].outside == outside
    at = np.clip(batch, 6, 11)
    rates = np.round(np.log2(law.best_lr(2.0**19, 2**at))) + np.array([-2, 2])
    edge = Says(batch=at, lr=np.clip(lr, *rates))
    assert scores["says"].regret.value == pytest.approx(held(runs, [edge], noisy=False)[1]["says"].regret.value)


def test_a_rate_that_diverges_costs_infinitely_much_and_no_rule_beats_it_by_chance():
    law, runs = Law(), planted_runs(Law())
    best = np.log2(law.best_lr(runs["tokens"], runs["batch_size"] * 32))
    runs.loc[np.log2(runs["lr"]) > best + 1, ["status", "val_loss"]] = ["diverged", np.nan]
    high, low = (np.log2(law.best_lr(2.0**19, 2.0**8)) + off for off in (1.4, 1.3))
    found, scores = held(runs, [Says(name="high", batch=8.0, lr=high), Says(name="low", batch=8.0, lr=low), NO_CHANGE])
    assert scores["high"].regret.value == scores["low"].regret.value == np.inf
    assert scores["high"].regret.low == np.inf
    assert found.winner not in ("high", "low")
    both = contest(table_of(runs), drawn_from(runs), 3, [Says(batch=8.0, lr=high), Says(batch=8.0, lr=low)])
    assert both.winner in (None, "power-law")


# Who starts where


def test_rules_start_from_the_nearest_smaller_budget_and_the_smallest_from_the_next():
    runs = planted_runs(Law())
    assert [held(runs, [NO_CHANGE], i)[0].anchor for i in range(4)] == [2**17, 2**16, 2**17, 2**18]
    _, scores = held(runs, [NO_CHANGE], 3)
    optimum = table_of(runs).point(2)
    assert scores["no-change"].batch_tokens.value == pytest.approx(optimum.batch_tokens[0])
    assert scores["no-change"].lr.value == pytest.approx(optimum.lr[0])


def test_an_optimum_at_its_grids_edge_is_no_anchor_if_there_is_another():
    runs = planted_runs(Law())
    cut = runs[(runs["tokens"] != 2**18) | (runs["batch_size"] * 32 <= 64)]
    assert held(cut, [NO_CHANGE], 3)[0].anchor == 2**17
    only = runs[runs["tokens"].isin([2**18, 2**19]) & ((runs["tokens"] != 2**18) | (runs["batch_size"] * 32 <= 64))]
    assert held(only, [NO_CHANGE], 1)[0].anchor == 2**18


def test_the_power_law_takes_two_budgets_and_a_contest_one():
    runs = planted_runs(Law(), budgets=(16, 17))
    assert "power-law" not in held(runs, [NO_CHANGE], 1)[1]
    assert "power-law" in held(planted_runs(Law(), budgets=(16, 17, 18)), [NO_CHANGE], 1)[1]
    assert contest(table_of(planted_runs(Law(), budgets=(16,))), None, 0, [NO_CHANGE]) is None


def test_an_exact_rule_predicts_the_optimum_of_the_next_budget():
    exact = Anchored(name="exact", title="", source="", batch_exponent=4 / 7, tokens_exponent=-1, lr_batch_exponent=1)
    # With the grid on the law's own track every budget is read off alike: a move of 7 octaves in T is one of 4 in B.
    law, rows = Law(corner2=7.5), []
    for exponent, centre in ((14, 6), (21, 10)):
        rows.append(planted_runs(law, budgets=(exponent,), centre=centre - law.q * (exponent - 16), **QUIET))
    runs = pd.concat(rows)
    table = table_of(runs)
    _, scores = held(runs, [exact], 1, noisy=False)
    assert np.log2(scores["exact"].batch_tokens.value) == pytest.approx(table.best(1)[0][0], abs=0.01)
    assert np.log2(scores["exact"].lr.value) == pytest.approx(table.best(1)[1][0], abs=0.01)
    # Half an octave of batch from the best measured cell, on the interpolant.
    assert 0 <= scores["exact"].regret.value < 0.004


# Who wins


def test_the_rule_that_is_right_wins_where_others_are_far_off():
    # On a flat stretch with a steep wall at either end every rule's batch is much the same; the rates are not.
    runs = planted_runs(Law(valley=0.2), budgets=(16, 19), noise=0.002, offset=0.002)
    found, scores = held(runs, list(RULES.values()), 1)
    assert found.winner == "bst", found.why
    assert found.scores[0].rule == "bst"
    others = [scores[name].regret.low for name in RULES if name != "bst"]
    assert min(others) > scores["bst"].regret.high


def test_equal_rules_are_told_apart_from_the_rest_but_not_from_each_other():
    twin = Anchored(name="twin", title="", source="", batch_exponent=2 / 3, tokens_exponent=-1, lr_batch_exponent=1)
    runs = planted_runs(Law(valley=0.2), budgets=(16, 19), noise=0.002, offset=0.002)
    found, scores = held(runs, [*RULES.values(), twin], 1)
    assert scores["twin"].regret == scores["bst"].regret
    assert found.winner is None
    assert "cannot be told apart from" in found.why


def test_noise_as_large_as_the_differences_names_no_winner():
    found, _ = held(planted_runs(Law(valley=0.002), noise=0.05, offset=0.05), list(RULES.values()))
    assert found.winner is None


def test_without_noise_to_measure_nobody_wins_and_no_interval_is_given():
    found, scores = held(planted_runs(Law(), **QUIET), list(RULES.values()), noisy=False)
    assert (found.winner, found.why) == (None, "there is no measure of noise")
    assert {score.regret.low for score in scores.values()} == {None}


def test_a_prediction_outside_the_grid_does_not_win():
    law = Law()
    best = np.log2(law.best_lr(2.0**19, 2.0**8)) - 3
    runs = planted_runs(law)
    runs.loc[runs["tokens"] == 2**19, "val_loss"] -= 0.02 * np.log2(runs["batch_size"] * 32)
    far = Says(batch=7.9, lr=best)
    found, scores = held(runs, [far])
    assert scores["says"].outside
    if found.scores[0].rule == "says":
        assert found.winner is None


def test_scores_come_in_the_order_of_their_regret():
    found, _ = held(planted_runs(Law()), list(RULES.values()))
    values = [score.regret.value for score in found.scores]
    assert values == sorted(values)
    assert {score.rule for score in found.scores} == {*RULES, "power-law"}

"""Rules scored at a network size that they have not seen."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from planted import Law, planted_runs

from analysis.fits.cells import budgets_of, table_of_cells
from analysis.fits.profile import read_budgets
from analysis.laws.rules import RIVALS, RULES, OfSize, bst
from analysis.studies.batch_scaling import fit as batch_fit
from analysis.studies.batch_scaling import page, surface
from analysis.studies.batch_scaling.findings import size_finding
from analysis.studies.batch_scaling.fit import fit_batch_scaling
from analysis.studies.batch_scaling.sizes import Size, _tied, contests_of_sizes
from analysis.studies.batch_scaling.table import Table

SMALL, LARGE = 1e6, 4e6


@dataclass(frozen=True, kw_only=True)
class Exact(OfSize):
    """What the planted runs obey: lr ∝ (B·S/T)·N^(-1/2), along a batch law between the readings'."""

    name: str = "exact"
    title: str = "the law of the runs"
    source: str = "these tests"

    def batch_tokens(self, base, tokens):
        return base.batch_tokens * (tokens / base.tokens) ** 0.6

    def learning_rate(self, base, tokens, batch_tokens):
        growth = batch_tokens / base.batch_tokens / (tokens / base.tokens)
        return base.lr * growth * self.growth_of_size(base) ** -0.5


def runs_of(n_params, noise=0.002, **planted):
    """Best rates go as N^(-1/2)."""
    law = Law(valley=0.2, log2_lr=-7.3 - np.log2(n_params / SMALL) / 2)
    runs = planted_runs(law, **{"noise": noise, "offset": noise, "budgets": (16, 18), **planted})
    return runs.assign(n_params=n_params)


def size(n_params, noisy=True, **planted):
    budgets = budgets_of(table_of_cells(runs_of(n_params, **planted)))
    _, readings = read_budgets(budgets, 200, np.random.default_rng(int(n_params)))
    table = Table.of(budgets, readings)
    return Size(n_params, table, table.draws() if noisy else None)


def contest(*rules, noisy=True, **planted):
    sizes = [size(LARGE, noisy, **planted), size(SMALL, noisy)]  # in any order
    (found,) = contests_of_sizes(sizes, rules or None)
    return found, {score.rule: score for score in found.scores}


def test_a_rule_that_knows_the_size_is_told_from_those_that_do_not():
    found, scores = contest(*RULES.values(), Exact())
    assert (found.n_params, found.anchor_params) == (LARGE, SMALL)
    assert (found.outcome, found.winner) == ("best", "exact")
    assert [score.rule for score in found.scores if score.tied] == ["exact"]
    assert scores["exact"].regret.value < 0.02
    # The others have the small network's rate, an octave too high: 0.2 nats of the valley, and more where T moves it.
    assert scores["bst"].regret.value == pytest.approx(0.2, abs=0.08)
    assert (scores["exact"].knows_size, scores["bst"].knows_size) == (True, False)
    assert size_finding(batch_fit.OptimizerSizes("scion", found))["verdict"] == "best: exact"


def test_predictions_start_from_the_largest_budget_below():
    found, scores = contest(budgets=(16, 17, 18, 20))
    # 2^16 has no smaller one at the smaller size, and every rule would say the same.
    assert found.tokens == (2**17, 2**18, 2**20)
    assert found.anchors == (2**16, 2**16, 2**18)
    assert len(scores["bst"].regrets) == 3
    alone, _ = contest(budgets=(15, 16))
    assert (alone.tokens, alone.anchors) == ((2**15, 2**16), (2**16, 2**16))
    assert scores["bst"].regret.value == pytest.approx(np.mean(scores["bst"].regrets))
    assert "power-law" in scores


def test_rules_that_move_what_was_not_swept_are_named_and_not_scored():
    found, scores = contest()
    moving = [name for name, rule in RIVALS.items() if rule.moves]
    assert list(found.not_scored) == moving
    assert set(scores) == {*RULES, *RIVALS, "power-law"} - {*moving}
    assert scores["steplaw-absolute"].knows_size


def test_equal_rules_are_not_told_apart_and_without_noise_none_is():
    twin = replace(bst(), name="twin")
    found, scores = contest(bst(), twin)
    assert (found.outcome, found.winner) == ("not told apart", None)
    assert scores["twin"].tied
    assert scores["bst"].tied
    quiet, scores = contest(bst(), Exact(), noisy=False)
    assert (quiet.outcome, quiet.why) == ("cannot tell", "there is no measure of noise")
    assert (scores["bst"].tied, scores["bst"].regret.low) == (None, None)


def test_one_size_has_no_contest_and_of_three_two_are_held_out():
    sizes = [size(n) for n in (SMALL, LARGE, 4 * LARGE)]
    assert contests_of_sizes(sizes[:1]) == ()
    assert [each.n_params for each in contests_of_sizes(sizes, [bst()])] == [LARGE, 4 * LARGE]


def test_infinite_regrets_are_told_apart_and_those_that_sometimes_are_infinite_are_not():
    drawn = np.random.default_rng(0).normal([0, 1, 0.5, 9], 0.01, (100, 4))
    drawn[:3, 2], drawn[:, 3] = np.inf, np.inf
    assert _tied(np.array([0, 1, 0.5, np.inf]), drawn).tolist() == [True, False, True, False]


def test_a_fit_of_several_sizes_has_it_in_its_tables_judgements_and_page(monkeypatch):
    for module, name, value in ((batch_fit, "RESAMPLES", 200), (surface, "RESAMPLES", 40), (surface, "STARTS", 4)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(batch_fit, "SURFACES", ())
    monkeypatch.setattr(batch_fit, "_critical", lambda *_: None)
    monkeypatch.setattr(batch_fit, "laws_of_optimizers", lambda *_: [])
    runs = pd.concat([runs_of(SMALL), runs_of(LARGE)]).assign(optimizer="scion")
    fit = fit_batch_scaling(runs)
    (across,) = fit.sizes
    frame = fit.frames()["batch_scaling_sizes"]
    assert len(frame) == len(across.contest.scores)
    assert set(frame["n_params"]) == {LARGE}
    assert {"regret", "regret_low", "regret_high", "tied", "outside", "knows_size"} <= set(frame)
    assert fit.as_dict()["sizes"][0]["anchor_params"] == SMALL
    assert fit.judgements()[-1].of == "scion, rules at 4,000,000 parameters"
    shown = page.context(None, fit)
    assert shown["sizes"][0]["title"] == "Rules from 1,000,000 to 4,000,000 parameters, scion"
    assert "sde" in shown["sizes"][0]["not_scored"]
    assert shown["verdicts"][-1]["of"] == fit.judgements()[-1].of
    alone = fit_batch_scaling(runs_of(SMALL))
    assert (alone.sizes, alone.as_dict()["sizes"]) == ((), [])

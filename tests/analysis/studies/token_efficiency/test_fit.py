import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.fits.outcomes import Missing, Outcome
from analysis.pipeline import _finite
from analysis.studies.token_efficiency import curves, page
from analysis.studies.token_efficiency.figures import FIGURES
from analysis.studies.token_efficiency.fit import fit_token_efficiency
from analysis.tables.sweep import SweepTables
from scionlab.cli import app
from scionlab.errors import UserError

BUDGETS = (2**16, 2**17, 2**18, 2**19, 2**20)
RATES = range(-9, -4)


def method(name, ratio=1.0, n_params=1e6, noise=0.0, rates=RATES, seed=0, floor=1.2, best=-7.3):
    """A method that needs 1/ratio of the tokens of L(T) = floor + 30 T^-0.3, with two seeds."""
    rng, rows = np.random.default_rng(seed), []
    for tokens in BUDGETS:
        lowest = floor + 30 * (tokens * ratio) ** -0.3
        for x in rates:
            for s in range(2):
                loss = lowest + 0.05 * (x - best) ** 2 + noise * rng.standard_normal()
                rows.append((name, n_params, tokens, 2.0**x, s, loss))
    runs = pd.DataFrame(rows, columns=["optimizer", "n_params", "tokens", "lr", "seed", "val_loss"])
    ids = [f"{name}{n_params}{i}" for i in range(len(runs))]
    return runs.assign(status="ok", batch_size=8.0, seq_len=64.0, trial_id=ids)


def told(*runs, **settings):
    table = pd.concat(runs, ignore_index=True)
    return SweepTables({"settings": json.dumps(settings), "experiment": "x"}, pd.DataFrame(), table, pd.DataFrame())


def test_a_planted_ratio_is_found_by_both_readings_at_every_loss():
    runs = method("adam", noise=0.002), method("muon", 1.4, noise=0.002, seed=1)
    found = fit_token_efficiency(told(*runs))
    assert (found.reference, [ratio.method for ratio in found.ratios]) == ("adam", ["muon"] * 3)
    for ratio in found.ratios:
        assert ratio.between.low < 1.4 < ratio.between.high
        assert ratio.law.low < 1.4 < ratio.law.high
        assert ratio.verdict == Outcome.BETTER
        assert ratio.tokens == pytest.approx((30 / (ratio.loss - 1.2)) ** (1 / 0.3), rel=0.1)
    assert found.summaries()[0][1]["between budgets"].str.startswith("×1.").all()
    turned = fit_token_efficiency(told(*runs, reference="muon"))
    assert {ratio.verdict for ratio in turned.ratios} == {Outcome.WORSE}
    assert turned.ratios[0].between.value == pytest.approx(1 / found.ratios[0].between.value, rel=0.02)


def test_floors_may_differ_and_may_be_held():
    held = []
    for seed in range(8):
        runs = method("adam", noise=0.002, seed=seed), method("muon", 1.3, noise=0.002, seed=seed + 100, floor=1.15)
        floors = {c.method: c.law.estimates["E"] for c in fit_token_efficiency(told(*runs, curve="law"), seed).curves}
        held += [floors[name].low < truth < floors[name].high for name, truth in (("adam", 1.2), ("muon", 1.15))]
    assert np.mean(held) >= 0.75  # 95% of 16: fewer than 12 have a chance of 0.1%
    same = fit_token_efficiency(told(runs[0], method("muon", 1.3, noise=0.002, seed=1), curve="law", floor=1.2))
    for ratio in same.ratios:
        assert ratio.law.low < 1.3 < ratio.law.high
    assert page.context(told(*runs), same)["floor"] == 1.2


@pytest.mark.parametrize("noises", [(0.005, 0.005), (0.002, 0.012)])
def test_intervals_hold_all_ratios_together_also_where_methods_are_unequally_noisy(noises, monkeypatch):
    monkeypatch.setattr(curves, "fit_loss_law", lambda curve, floor: None)  # the other reading, most of a fit's time
    held, claimed = [], []
    for seed in range(20):
        runs = [method("a", noise=noises[0], seed=2 * seed), method("b", noise=noises[1], seed=2 * seed + 1)]
        found = fit_token_efficiency(told(*runs), seed)
        held.append(all(ratio.between.low < 1 < ratio.between.high for ratio in found.ratios))
        claimed.append(any(not ratio.verdict.open for ratio in found.ratios))
    assert np.mean(held) >= 0.8  # 95% of 20: fewer than 16 have a chance of 0.3%
    assert np.mean(claimed) <= 0.2


def test_untuned_rivals_and_single_rates_leave_it_open():
    edge = told(method("adam", noise=0.002), method("muon", 2.0, noise=0.002, seed=1, rates=range(-12, -7)))
    for ratio in fit_token_efficiency(edge).ratios:
        assert (ratio.verdict, ratio.lacks.missing) == (Outcome.CANNOT_TELL, (Missing.RATES_BEYOND,))
        assert "muon at 5 of 5 budgets" in ratio.why
    single = [method("adam", rates=[-7], best=-7), method("muon", 2.0, rates=[-7], best=-7)]
    assert {ratio.verdict for ratio in fit_token_efficiency(told(*single)).ratios} == {Outcome.CANNOT_TELL}
    optima = fit_token_efficiency(told(*(run.assign(lr=np.nan) for run in single), optima=True))
    assert optima.ratios[0].between.value == pytest.approx(2, rel=0.02)


def test_batch_sizes_are_tuned_and_their_ends_are_flagged():
    def at(batch, worse):
        runs = method("muon", 1.5, noise=0.001, seed=batch)
        return runs.assign(batch_size=batch, val_loss=runs["val_loss"] + worse)

    inside = told(method("adam", noise=0.001), *(at(b, w) for b, w in ((4, 0.02), (8, 0.0), (16, 0.02))))
    assert {ratio.verdict for ratio in fit_token_efficiency(inside).ratios} == {Outcome.BETTER}
    edge = told(method("adam", noise=0.001), *(at(b, w) for b, w in ((4, 0.0), (8, 0.02))))
    assert all(Missing.BATCHES in ratio.lacks.missing for ratio in fit_token_efficiency(edge).ratios)


def test_losses_that_one_does_not_reach_are_not_compared_and_it_says_which():
    runs = method("adam", noise=0.002), method("muon", 1.4, noise=0.002, seed=1)
    shared, deep = fit_token_efficiency(told(*runs, losses=[1.0, 1.9])).ratios
    assert (deep.verdict, deep.between) == (Outcome.CANNOT_TELL, None)
    assert "adam has" in deep.why
    assert Missing.LONGER in deep.lacks.missing
    assert shared.verdict == Outcome.BETTER
    (apart,) = fit_token_efficiency(told(runs[0], method("muon", 1e4))).ratios
    assert apart.loss is None
    assert "no loss is reached by both" in apart.why


def test_an_advantage_that_vanishes_with_size_is_seen():
    parts = []
    for i, n in enumerate((1e6, 4e6, 1.6e7)):
        parts += [method("adam", n_params=n, noise=0.001, seed=i)]
        parts += [method("muon", 2.0 * (n / 1e6) ** -0.2, n_params=n, noise=0.001, seed=9 + i)]
        parts += [method("scion", 1.3, n_params=n, noise=0.001, seed=19 + i)]
    tables = told(*parts)
    found = fit_token_efficiency(tables)
    laws = {law.method: law for law in found.sizes}
    assert laws["muon"].exponent.low < -0.2 < laws["muon"].exponent.high
    assert laws["muon"].verdict == Outcome.SHRINKS
    assert laws["muon"].gone_at == pytest.approx(1e6 * 2**5, rel=0.6)
    assert laws["scion"].exponent.low < 0 < laws["scion"].exponent.high
    assert (laws["scion"].verdict, laws["scion"].lacks.missing) == (Outcome.CANNOT_TELL, (Missing.SIZES,))
    json.dumps(_finite(found.as_dict()), allow_nan=False)
    assert set(found.frames()) == {"token_efficiency", "token_efficiency_sizes", "token_efficiency_curves"}
    for figure in FIGURES.values():
        data = figure.table(tables, found)
        assert figure.draw(data).axes
        assert "muon" in figure.alt(data)
    context = page.context(tables, found)
    assert "nothing is left of it" in context["verdicts"][0]["text"]
    assert len(context["ratios"]) == 18


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="there is one method only"):
        fit_token_efficiency(told(method("adam")))
    both = method("adam"), method("muon")
    with pytest.raises(UserError, match=r"settings\.reference: 'sgd' is not allowed"):
        fit_token_efficiency(told(*both, reference="sgd"))
    with pytest.raises(UserError, match="several texts"):
        fit_token_efficiency(told(both[0].assign(data_sha256="x"), both[1].assign(data_sha256="y")))


def test_a_table_goes_from_import_to_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.concat([method("adam", noise=0.002), method("muon", 1.4, noise=0.002, seed=1)])
    table.drop(columns=["trial_id", "status"]).to_csv("methods.csv", index=False)
    assert CliRunner().invoke(app, ["import", "methods.csv"]).exit_code == 0
    done = CliRunner().invoke(app, ["report", "methods", "--study", "token-efficiency", "--tell", "losses=[1.9]"])
    assert done.exit_code == 0, done.exception
    assert "×1.4" in done.output

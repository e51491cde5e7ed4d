import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.fits.outcomes import Missing, Outcome
from analysis.pipeline import _finite
from analysis.studies.batch_scaling.fit import fit_batch_scaling
from analysis.studies.critical_batch import page
from analysis.studies.critical_batch.figures import FIGURES
from analysis.studies.critical_batch.fit import fit_critical_batches
from analysis.studies.critical_batch.target import CRITICAL, EXCEEDS
from analysis.studies.scaling_law.fit import fit_scaling_laws
from analysis.tables.sweep import SweepTables
from scionlab.cli import app
from scionlab.errors import UserError

SIZES = np.array([8.5e7, 1.5e8, 3e8, 6e8, 1.2e9])
BATCHES = 2 ** np.arange(6, 15)
FEW, BUDGETS = 2.0 ** np.arange(0, 8), 2.0 ** np.arange(15, 22)  # of a sweep, in sequences and tokens


def crit(n):
    """Sequences of 512."""
    return 150 * (n / 1e6) ** 0.6


def goals(noise=0.0, seed=0, name="one", sizes=SIZES, batches=BATCHES):
    rng, rows = np.random.default_rng(seed), []
    for i, n in enumerate(sizes):
        for batch in batches:
            tokens = 20 * n * (1 + batch / crit(n)) * np.exp(noise * rng.standard_normal())
            rows.append({"n_params": n, "batch_size": batch, "tokens": tokens, "val_loss": 3.4 - 0.2 * i})
    runs = pd.DataFrame(rows).assign(optimizer=name, status="ok", lr=np.nan, seq_len=512, seed=0)
    return runs.assign(trial_id=[f"{name}{i}" for i in range(len(runs))])


def sweep(sizes=(1e5, 4e5, 1.6e6), noise=0.003, seeds=2, batches=FEW, budgets=BUDGETS):
    """Final losses: B_crit = 300 tokens a step (N/1e5)^0.5 at every target, in batches of 64 tokens a sequence."""
    rng, rows = np.random.default_rng(0), []
    for n in sizes:
        for t in budgets:
            for b in batches:
                law = 300 * (n / 1e5) ** 0.5
                lowest = 1.2 + 30 * (n / 1e5) ** -0.1 * (t / (1 + 64 * b / law)) ** -0.3
                for x in range(-2, 3):
                    for s in range(seeds):
                        loss = lowest + 0.05 * (x - 0.2) ** 2 + noise * rng.standard_normal()
                        rows.append((n, t, b, 2.0 ** (x - 7), s, loss))
    runs = pd.DataFrame(rows, columns=["n_params", "tokens", "batch_size", "lr", "seed", "val_loss"])
    return runs.assign(optimizer="scion", status="ok", seq_len=64, trial_id=[f"t{i}" for i in range(len(runs))])


def told(runs, **settings):
    return SweepTables({"settings": json.dumps(settings), "experiment": "x"}, pd.DataFrame(), runs, pd.DataFrame())


def exponents(source):
    return {(g.definition, g.over, g.beside): g.exponent for g in source.growths}


def test_a_table_of_goals_gives_both_definitions_and_their_power_laws():
    (source,) = fit_critical_batches(told(goals(noise=0.03))).sources
    assert source.goals
    assert [target.verdict for target in source.targets] == [Outcome.FOUND] * 5
    for target in source.targets:
        batch = target.at.fit.batch_crit
        assert batch.low < 512 * crit(target.n_params) < batch.high
        assert target.exceeds.law.value == pytest.approx(1.2 * 256 * 512 + 0.2 * batch.value)
    laws = exponents(source)
    # T_min = 20 N: N and T go together, and each law is of one alone.
    assert set(laws) == {(d, over, "") for d in (CRITICAL, EXCEEDS) for over in ("N", "T")}
    for over in "NT":
        assert laws[CRITICAL, over, ""].low < 0.6 < laws[CRITICAL, over, ""].high
    assert source.law.at_reference.value == pytest.approx(150 * 512, rel=0.3)
    assert laws[EXCEEDS, "N", ""].value < laws[CRITICAL, "N", ""].value


def test_settings_move_the_linear_batch_and_the_share_and_choose_goals():
    (source,) = fit_critical_batches(told(goals(), linear=128, share=0.5, targets=[3.4])).sources
    (target,) = source.targets
    assert target.exceeds.law.value == pytest.approx(512 * (1.5 * 128 + 0.5 * crit(SIZES[0])), rel=0.01)
    found = fit_critical_batches(told(goals(), share=0.125))
    assert found.share == "B_12.5%"
    with pytest.raises(UserError, match=r"settings\.share"):
        fit_critical_batches(told(goals(), share=0))


def test_final_losses_are_read_at_every_batch_size_and_tell_n_from_t():
    (source,) = fit_critical_batches(told(sweep(), linear=2)).sources
    assert not source.goals
    found = [target for target in source.targets if target.verdict == Outcome.FOUND]
    assert len(found) >= 6
    held = [t.at.fit.batch_crit.low < 300 * (t.n_params / 1e5) ** 0.5 < t.at.fit.batch_crit.high for t in found]
    assert np.mean(held) >= 0.7
    laws = exponents(source)
    assert laws[CRITICAL, "N", ""].low < 0.5 < laws[CRITICAL, "N", ""].high
    assert laws[CRITICAL, "N", "T"].low < 0.5 < laws[CRITICAL, "N", "T"].high
    assert laws[CRITICAL, "T", "N"].low < 0 < laws[CRITICAL, "T", "N"].high


def test_one_size_has_a_law_over_tokens_only_and_no_judgement_of_sizes():
    found = fit_critical_batches(told(sweep(sizes=(1e5,)).drop(columns="n_params"), linear=2))
    assert {growth.over for growth in found.sources[0].growths} == {"T"}
    assert all("B_crit over N" not in judgement.of for judgement in found.judgements())
    assert "parameters" not in found.judgements()[0].of


def test_what_batch_sizes_or_seeds_do_not_tell_is_left_open():
    small = fit_critical_batches(told(goals(0.01, batches=(1, 2, 4, 8), sizes=SIZES[-1:])))
    (target,) = small.sources[0].targets
    assert (target.verdict, target.lacks.missing) == (Outcome.CANNOT_TELL, (Missing.BATCHES,))
    context = page.context(told(goals()), small)
    assert "far outside the batch sizes" in context["verdicts"][0]["text"]
    one = fit_critical_batches(told(goals(sizes=SIZES[:2], batches=BATCHES[:3])))
    assert one.judgements()[-1].of == "one, B_crit over N"


def test_runs_without_batch_sizes_or_tokens_to_a_target_are_refused():
    with pytest.raises(UserError, match="none has a batch size"):
        fit_critical_batches(told(goals().assign(batch_size=np.nan)))
    with pytest.raises(UserError, match="there are no tokens to a target"):
        fit_critical_batches(told(sweep(budgets=[2.0**18], sizes=(1e5,), batches=[1.0, 2.0])))


@pytest.mark.parametrize("fit", [lambda t: fit_batch_scaling(t.runs), fit_scaling_laws])
def test_laws_of_losses_refuse_a_table_of_goals_and_name_the_study(fit):
    with pytest.raises(UserError, match=r"a table of tokens to a target.*study='critical-batch'"):
        fit(told(goals().assign(lr=1.0)))


def test_figures_page_and_json_of_several_sources():
    tables = told(pd.concat([goals(0.02), goals(0.02, 1, "two")], ignore_index=True))
    found = fit_critical_batches(tables)
    json.dumps(_finite(found.as_dict()), allow_nan=False)
    assert {"critical_batch", "critical_batch_tokens", "critical_batch_growth"} == set(found.frames())
    for name, figure in FIGURES.items():
        data = figure.table(tables, found)
        assert set(data["source"]) == {"one", "two"}, name
        assert figure.draw(data).axes
        assert "two" in figure.alt(data)
    context = page.context(tables, found)
    assert context["verdicts"][0]["text"].startswith("B_crit ∝ N^0.59")
    assert {row["source"] for row in context["targets"]} == {"one", "two"}


def test_a_table_of_goals_goes_from_import_to_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = goals(0.02).assign(steps_to_goal=lambda r: r["tokens"] / 512 / r["batch_size"])
    rows[["n_params", "batch_size", "steps_to_goal", "val_loss"]].to_csv("cbs.csv", index=False)
    ways = ["--map", "tokens=steps_to_goal*batch_size*512", "--set", "seq_len=512"]
    done = CliRunner().invoke(app, ["import", "cbs.csv", *ways])
    assert done.exit_code == 0
    assert "--study critical-batch" in done.output
    assert "learning rate" not in done.output
    done = CliRunner().invoke(app, ["report", "cbs"])
    assert done.exit_code == 0, done.exception
    assert "B_20% ∝ N^" in done.output
    assert "tokens to a target" in (tmp_path / "results" / "report" / "cbs.html").read_text()

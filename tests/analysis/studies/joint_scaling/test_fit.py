import json

import numpy as np
import pandas as pd
import pytest
from planted_joint import JointPlan, joint_runs

from analysis.fits.outcomes import Missing, Outcome
from analysis.laws.joint import JointLaw, fit_joint
from analysis.pipeline import _finite
from analysis.studies.joint_scaling import page
from analysis.studies.joint_scaling.figures import FIGURES
from analysis.studies.joint_scaling.fit import fit_joint_scaling, judge
from analysis.studies.joint_scaling.result import JointScaling
from analysis.tables.sweep import SweepTables
from scionlab.errors import UserError

SMALL = {"sizes": 2.0 ** np.array([24, 25.6, 28]), "ratios": (10, 45, 200)}


def told(runs, **settings):
    return SweepTables({"settings": json.dumps(settings), "experiment": "x"}, pd.DataFrame(), runs, pd.DataFrame())


def laws_of(runs, **settings):
    (source,) = fit_joint_scaling(told(runs, **settings)).sources
    return source, {(each.quantity, each.reading): each for each in source.laws}


@pytest.fixture(scope="module")
def planted():
    """Four sizes with four budgets each, the largest a quarter as noisy as the smallest; and what is made of them."""
    runs = joint_runs(JointPlan(), quiet=0.25, seed=3, scatter=0.05)
    return runs, *laws_of(runs)


def test_a_planted_joint_law_is_found_off_the_grid_and_under_unequal_noise(planted):
    _, source, found = planted
    plan = JointPlan()
    for quantity, exponents in (("lr", plan.lr), ("batch_tokens", plan.batch)):
        for reading in ("profile", "quadratic"):
            law = found[quantity, reading].law
            for term, truth in zip(law.terms, exponents, strict=True):
                assert term.exponent.low <= truth <= term.exponent.high, (quantity, reading, term)
                assert term.exponent.value == pytest.approx(truth, abs=0.1)
    assert source.reading == "profile"
    assert [each.verdict for each in source.chosen] == [Outcome.NEEDED, Outcome.NOT_NEEDED]
    batch = found["batch_tokens", "profile"]
    assert batch.best is batch.without_n
    n_params, tokens = 2.0**27, 2.0**34
    for quantity, truth in zip(("lr", "batch_tokens"), plan.optimum(n_params, tokens), strict=True):
        at = found[quantity, "profile"].law.predict(n_params, tokens)
        assert at.new_low <= 2**truth <= at.new_high


def test_an_n_that_does_not_matter_is_said_to_matter_in_one_of_twenty_at_most():
    n, t = (grid.ravel() for grid in np.meshgrid(2.0 ** np.linspace(26, 30, 8), 2.0 ** np.linspace(31, 37, 8)))
    laws = []
    for seed in range(200):
        off = 0.4 * np.random.default_rng(seed).standard_normal(len(n))
        laws.append(fit_joint("batch_tokens", t**0.6 * 2**off, {"n_params": n, "tokens": t}))
    found = [judge(law, 0.5) for law in laws]
    assert np.mean([each == Outcome.NEEDED for each in found]) <= 0.05
    assert np.mean([each == Outcome.NOT_NEEDED for each in found]) > 0.6
    assert {judge(law, 0.01) for law in laws} <= {Outcome.NEEDED, Outcome.CANNOT_TELL}  # of so little nothing is known


def test_every_reading_is_there_and_wide_bands_are_cut_off(planted):
    _, _, found = planted
    readings = ["best", "band 0.1%", "band 0.25%", "band 0.5%", "band 1%", "profile", "quadratic"]
    assert [reading for quantity, reading in found if quantity == "lr"] == readings
    cuts = [found["batch_tokens", f"band {band}%"].cut for band in ("0.1", "0.25", "0.5", "1")]
    assert cuts == sorted(cuts)


def test_the_result_becomes_tables_json_figures_and_a_page(planted):
    runs, _, found = planted
    tables = told(runs)
    fit = fit_joint_scaling(tables)
    document = json.loads(json.dumps(_finite(fit.as_dict()), allow_nan=False))
    entry = next(e for e in document["sources"][0]["laws"] if (e["quantity"], e["reading"]) == ("lr", "profile"))
    assert JointLaw.from_dict(entry["law"]) == found["lr", "profile"].law
    assert JointLaw.from_dict(entry["law"]).predict(1e8, 1e10).new_low is not None
    frames = fit.frames()
    assert len(frames["joint_scaling_optima"]) == 16 * 2 * 7
    chosen = frames["joint_scaling"].query("chosen and form == 'full' and quantity == 'lr'")
    assert list(chosen["resource"]) == ["n_params", "tokens"]
    assert [len(table) for _, table in fit.summaries()] == [2, 14]
    for name, figure in FIGURES.items():
        data = figure.table(tables, fit)
        assert set(data["source"]) == {"planted, learning rate", "planted, batch size"}, name
        assert figure.draw(data).axes
        assert figure.caption(data)
        assert "planted, batch size" in figure.alt(data)
    context = page.context(tables, fit)
    assert [finding["verdict"] for finding in context["verdicts"]] == ["needed", "not needed"]
    assert "Batch size = " in context["verdicts"][1]["text"]
    assert len(context["optima"]) == 16
    assert page.grid(runs)[0]["sizes"] == "4"


def test_optima_at_the_end_of_a_grid_are_counted_and_left_out():
    runs = joint_runs(JointPlan(), noise=0.0005, **SMALL)
    largest = runs["n_params"] == runs["n_params"].max()
    best = runs.loc[runs[largest].groupby("tokens")["val_loss"].idxmin()].set_index("tokens")["lr"]
    cut = runs[~(largest & (runs["lr"] > runs["tokens"].map(best)))]
    source, found = laws_of(cut)
    lr, batch = found["lr", "best"], found["batch_tokens", "best"]
    assert lr.left_out == {"at its grid's end": 3}
    assert batch.left_out == {"best rates at their grid's end": 3}
    assert lr.law.n_optima == 6
    optima = [o for o in source.optima if o.reading == "profile" and o.quantity == "lr" and o.why]
    assert {o.n_params for o in optima} == {2.0**28}
    fit = fit_joint_scaling(told(cut, reading="best", tolerance=0.01))
    starts = fit.as_dict()["sources"][0]["optima"]  # what a plan may start from
    assert len(starts) == 6
    assert {at["n_params"] for at in starts} == set(SMALL["sizes"][:2])
    assert {(at["seq_len"], at["momentum"], at["beta2"]) for at in starts} == {(2048.0, None, None)}
    judged = {judgement.of: judgement for judgement in fit.judgements()}
    open_one = judged["planted, batch size"]
    assert open_one.outcome == Outcome.CANNOT_TELL
    assert open_one.missing == (Missing.RATES_BEYOND, Missing.SIZES)
    assert any("3 of 9 optima" in note for note in page.context(told(cut), fit)["notes"])


def test_a_batch_size_that_ends_its_grid_leaves_out_the_rate_as_well():
    runs = joint_runs(JointPlan(), noise=0.0005, **SMALL)
    best = runs.loc[runs.groupby(["n_params", "tokens"])["val_loss"].idxmin(), ["n_params", "tokens", "batch_size"]]
    joined = runs.merge(best, on=["n_params", "tokens"], suffixes=("", "_best"))
    _, found = laws_of(joined[joined["batch_size"] >= joined["batch_size_best"]].drop(columns="batch_size_best"))
    assert found["lr", "best"].left_out == {"best batch size at its grid's end": 9}
    assert found["lr", "best"].law is None
    assert found["batch_tokens", "profile"].lacks.missing == (Missing.BUDGETS, Missing.BATCHES, Missing.SIZES)


def test_rates_at_one_batch_size_have_a_law_of_the_rate_alone():
    runs = joint_runs(JointPlan(batch=(0, 0)), noise=0.0005, batches=0, **SMALL)
    _, found = laws_of(runs)
    assert {quantity for quantity, _ in found} == {"lr"}
    assert found["lr", "profile"].law.term("n_params").exponent.value == pytest.approx(-0.7, abs=0.05)
    assert ("lr", "quadratic") not in found
    # One budget: no exponent of T to draw.
    one = told(runs[(runs["tokens"] / runs["n_params"]).round() == 10].assign(tokens=2.0**30))
    fit = fit_joint_scaling(one)
    for figure in FIGURES.values():
        assert figure.draw(figure.table(one, fit)).axes
    assert [finding["verdict"] for finding in page.context(one, fit)["verdicts"]] == ["cannot tell"]


def test_momentum_and_weight_decay_have_laws_where_they_were_swept():
    parts = []
    swept = [(m, 0.5) for m in 2.0 ** np.arange(-5, 0)] + [(0.125, decay) for decay in (0.0, 0.05, 5.0)]
    for momentum, decay in swept:
        fixed = {"momentum": momentum, "weight_decay": decay}
        part = joint_runs(JointPlan(), sizes=SMALL["sizes"], noise=0.0, rates=1, batches=1, ratios=(10, 200), **fixed)
        best = -3.3 + 0.25 * (np.log2(part["tokens"]) - 31)
        cost = 0.01 * (np.log2(momentum) - best) ** 2
        cost += 0.01 * (np.log2(decay) - np.log2(0.3)) ** 2 if decay else 0.5
        parts.append(part.assign(val_loss=part["val_loss"] + cost))
    source, found = laws_of(pd.concat(parts, ignore_index=True), reading="best")
    assert [each.quantity for each in source.chosen] == ["lr", "batch_tokens", "momentum", "weight_decay"]
    momentum = found["momentum", "profile"].law
    assert momentum.term("tokens").exponent.value == pytest.approx(0.25, abs=0.05)
    assert momentum.unit == "weight of the new gradient"
    decay = found["weight_decay", "profile"].law
    assert decay.predict(2.0**26, 2.0**31).value == pytest.approx(0.3, rel=0.2)
    assert found["weight_decay", "best"].left_out == {}  # half is inside: 0 was tried, and has no logarithm


def test_a_table_of_optima_is_taken_as_given():
    plan = JointPlan(batch=(-0.3, 0.6))
    n, t = (grid.ravel() for grid in np.meshgrid(SMALL["sizes"], 2.0 ** np.array([30, 32, 35])))
    lr, batch = plan.optimum(n, t)
    runs = pd.DataFrame({"n_params": n, "tokens": t, "lr": 2**lr, "batch_size": 2**batch, "val_loss": 3.0})
    runs = runs.assign(optimizer="told", seq_len=1.0, seed=0, status="ok", trial_id=[str(i) for i in range(9)])
    source, found = laws_of(runs)
    assert source.reading == "as given"
    law = found["batch_tokens", "as given"].law
    assert [term.exponent.value for term in law.terms] == pytest.approx([-0.3, 0.6])
    assert found["batch_tokens", "as given"].verdict == Outcome.NEEDED


def test_runs_that_broke_and_went_on_are_not_read():
    runs = joint_runs(JointPlan(), noise=0.002, seed=1, **SMALL)
    highest = runs.groupby(["n_params", "tokens", "batch_size"])["lr"].transform("max")
    broken = runs.assign(val_loss=runs["val_loss"].where(runs["lr"] < highest, 12.0))
    source, found = laws_of(broken)
    _, whole = laws_of(runs)
    for quantity in ("lr", "batch_tokens"):
        of_broken, of_whole = (each[quantity, "profile"].law for each in (found, whole))
        for one, other in zip(of_broken.terms, of_whole.terms, strict=True):
            assert one.exponent.value == pytest.approx(other.exponent.value, abs=0.06)
    assert source.left_out["broke and ended far above the rest of their curve"] > 20


def test_sizes_in_one_proportion_of_tokens_leave_n_open_and_ask_for_others():
    runs = joint_runs(JointPlan(), sizes=2.0 ** np.arange(24, 30), ratios=(20,), noise=0.0005)
    source, _ = laws_of(runs)
    assert {each.verdict for each in source.laws} == {Outcome.CANNOT_TELL}
    assert source.chosen[0].lacks.missing == (Missing.SIZES,)
    assert any("n_params goes with tokens" in warning for warning in source.warnings)


def test_what_else_differs_is_said_and_width_and_depth_have_terms_where_they_vary_by_themselves():
    parts = [
        joint_runs(
            JointPlan(), sizes=[n], ratios=SMALL["ratios"], noise=0.0005, width=width, depth=depth, schedule=kind
        )
        for n, width, depth, kind in zip(
            2.0 ** np.array([24, 25, 26, 27, 28]),
            (64, 512, 128, 256, 90),
            (4, 5, 6, 8, 10),
            "ababa",
            strict=True,
        )
    ]
    runs = pd.concat(parts, ignore_index=True)
    source, found = laws_of(runs)
    assert {term.resource for term in found["lr", "profile"].law.terms} == {"n_params", "tokens", "width"}
    assert any(warning.startswith("schedule takes several values (a, b)") for warning in source.warnings)
    assert any(warning.startswith("depth goes with") for warning in source.warnings)
    # What goes with N does not take its part where it is left out.
    assert {term.resource for term in found["lr", "profile"].without_n.terms} == {"tokens", "width"}
    assert "further" in JointScaling((source,), 0.5).summaries()[0][1]
    _, alone = laws_of(runs, further=[])
    assert {term.resource for term in alone["lr", "profile"].law.terms} == {"n_params", "tokens"}


def test_many_sizes_and_sources_stay_readable():
    def given(name, sizes):
        n = np.repeat(2.0 ** np.linspace(20, 30, sizes), 2)
        lr, batch = JointPlan().optimum(n, t := n * np.tile([20.0, 90.0], sizes))
        rows = {"n_params": n, "tokens": t, "lr": 2**lr, "batch_size": 2**batch, "val_loss": 3.0, "seed": 0}
        return pd.DataFrame(rows).assign(optimizer=name, seq_len=1.0, status="ok")

    tables = told(pd.concat([given("many", 40), *(given(f"source {i:02}", 3) for i in range(14))]))
    fit = fit_joint_scaling(tables)
    (_, laws), (title, readings) = fit.summaries()
    assert (len(laws), len(readings)) == (30, 24)
    assert title.endswith("the first 12 of 15 sources")
    context = page.context(tables, fit)
    assert len(context["optima"]) == page.ROWS
    assert context["optima_beyond"] == 80 + 14 * 6 - page.ROWS
    figure = FIGURES["joint_optima"]
    assert len(figure.draw(figure.table(tables, fit)).axes) <= 14


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_params": np.nan}, "none says how many parameters"),
        ({"lr": np.nan}, "none has a learning rate"),
        ({"status": "diverged"}, "none of 315 trained to its end"),
        ({"seed": 0, "lr": 0.01}, "several runs of 'planted' have n_params"),
    ],
)
def test_tables_that_cannot_be_read_are_refused_in_a_sentence(change, match):
    with pytest.raises(UserError, match=match):
        fit_joint_scaling(told(joint_runs(JointPlan(), **SMALL).assign(**change)))


def test_settings_are_checked():
    with pytest.raises(UserError, match=r"settings\.reading"):
        fit_joint_scaling(told(joint_runs(JointPlan(), **SMALL), reading="guess"))
    with pytest.raises(UserError, match=r"settings\.band"):
        fit_joint_scaling(told(joint_runs(JointPlan(), **SMALL), band=0))


def test_a_band_of_ones_own_is_read_beside_the_others():
    fit = fit_joint_scaling(told(joint_runs(JointPlan(), **SMALL), reading="band", band=0.3))
    (source,) = fit.sources
    assert source.reading == "band 0.3%"
    assert len({each.reading for each in source.laws}) == 8

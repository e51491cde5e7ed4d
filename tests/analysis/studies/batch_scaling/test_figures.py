from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from drawn import check_drawn, svg
from matplotlib.figure import Figure
from planted import Law, planted_runs

import analysis.studies.batch_scaling.surface
from analysis.drawing import style
from analysis.fits.intervals import Estimate
from analysis.laws.constants import PROBE
from analysis.laws.of_runs import critical_batch_of_runs
from analysis.studies.batch_scaling import fit as batch_fit
from analysis.studies.batch_scaling.figures import (
    batch_exponents,
    batch_profiles,
    batch_rates,
    batch_rules,
    batch_sensitivity,
    constants_mu,
    constants_prediction,
    constants_variance,
    momentum,
)
from analysis.studies.batch_scaling.fit import fit_batch_scaling
from analysis.tables.sweep import SweepTables

FIGURES = (
    batch_profiles,
    batch_exponents,
    batch_rates,
    batch_rules,
    batch_sensitivity,
    momentum,
    constants_mu,
    constants_variance,
    constants_prediction,
)
OF_PROBES = (constants_mu, constants_variance, constants_prediction)
NO_CURVES = pd.DataFrame({"trial_id": [], "step": [], "tokens": [], "lr": [], "train_loss": []})


def probes(runs, mu, seed=0):
    """Probes of one run per budget: dual norm μ(f − 1), variance 1/(b s^1.1), κ = 20 b^0.03, the first ones off."""
    rng, rows = np.random.default_rng(seed), []
    usual = runs[(runs["seed"] == 0) & (runs["momentum"] == 0.1)].sort_values("val_loss")
    for run in usual.drop_duplicates("tokens").to_dict("records"):
        for i in range(1, 9):
            loss = run["val_loss"] + 3 * np.exp(-i / 2)
            for s in (32, 16, 8):
                longer = loss + 0.1 * np.log2(32 / s)
                dual = mu * (longer - 1) * (1 + rng.normal(0, 0.02)) + (i < 3)
                for b in (1, 2, 4):
                    whole = b == 1 and s == 32
                    rows.append(
                        {
                            "trial_id": run["trial_id"], "step": i * 10, "tokens": i * 100, "lr": run["lr"],
                            "train_loss": np.nan, "probe_batch_size": b, "probe_seq_len": s, "probe_loss": longer,
                            "grad_dual": dual, "grad_variance": np.exp(rng.normal(0, 0.1)) / (b * s**1.1),
                            "norm_ratio": 20 * b**0.03, "smoothness": 8.0 if whole else np.nan,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def several_momenta(runs):
    """The runs, and at two cells momenta around 0.1 that are worse by 0.03 nats."""
    parts = [runs]
    for tokens, batch in ((2.0**16, 2), (2.0**18, 4)):
        cell = runs[(runs["tokens"] == tokens) & (runs["batch_size"] == batch)]
        parts += [cell.assign(momentum=m, val_loss=cell["val_loss"] + 0.03) for m in (0.05, 0.2)]
    return pd.concat(parts, ignore_index=True)


def fitted(runs, with_probes=True):
    runs = runs.assign(trial_id=[f"trial-{i}" for i in range(len(runs))])
    curves = NO_CURVES
    if with_probes:
        curves = pd.concat([probes(rows, mu) for mu, (_, rows) in enumerate(runs.groupby("optimizer"), start=1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis.studies.batch_scaling.surface, "RESAMPLES", 8)
        patch.setattr(analysis.studies.batch_scaling.surface, "STARTS", 8)
        patch.setattr(batch_fit, "RESAMPLES", 200)
        patch.setattr(batch_fit, "SURFACES", batch_fit.SURFACES[-1:])  # the one that is drawn
        patch.setattr(batch_fit, "critical_batch_of_runs", partial(critical_batch_of_runs, resamples=100))
        return SweepTables({}, pd.DataFrame(), runs, curves), fit_batch_scaling(runs, curves)


def diverging(runs):
    """The highest rates of the smallest budget diverge, and one cell's lowest rates were not tried."""
    runs = runs.copy()
    gone = (runs["tokens"] == runs["tokens"].min()) & (runs["lr"] > runs["lr"].quantile(0.9))
    runs.loc[gone, ["status", "val_loss"]] = ["diverged", np.nan]
    last = runs["batch_size"] == runs["batch_size"].max()
    return runs[~(last & (runs["lr"] < runs.loc[last, "lr"].max() / 2))]


def one():
    return fitted(several_momenta(planted_runs(Law())).assign(optimizer="scion"))


def two():
    flat = diverging(planted_runs(Law(q=0.5, corner1=4, corner2=8, sharpness=None), seed=3, centre=8))
    return fitted(
        pd.concat([flat.assign(optimizer="adam"), several_momenta(planted_runs(Law())).assign(optimizer="scion")])
    )


def no_noise():
    """One seed and three points a curve: there is nothing to tell noise from."""
    return fitted(planted_runs(Law(), seeds=1, half=1, batches=3), with_probes=False)


def one_budget():
    return fitted(planted_runs(Law(), budgets=(17,)), with_probes=False)


def one_batch():
    """Nothing to fit a line to."""
    return fitted(planted_runs(Law(), seeds=1, half=1, batches=1, budgets=(16, 19)), with_probes=False)


CASES = {case.__name__: case for case in (one, two, no_noise, one_budget, one_batch)}


@pytest.fixture(scope="module")
def cases():
    style.apply()
    return {name: case() for name, case in CASES.items()}


@pytest.fixture(scope="module")
def case(cases):
    tables, fit = cases["one"]
    return tables, fit, fit.optimizers[0]


def bounds(rows):
    """The interval of every row, None where there is none."""
    return [tuple(None if pd.isna(end) else end for end in row) for row in rows[["low", "high"]].to_numpy()]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("figure", FIGURES, ids=lambda module: module.__name__.rsplit(".")[-1])
def test_figures_are_drawn_from_their_csv(figure, name, cases):
    data = figure.table(*cases[name])
    if data.empty:
        return
    words = check_drawn(figure, data, widest=9)
    assert all(optimizer in words for optimizer in data["optimizer"].unique())
    assert "optimizer" in data
    assert figure.TITLE
    assert figure.CAPTION.endswith(".")


def test_what_has_nothing_to_show_is_empty(cases):
    empty = {name: [f for f in FIGURES if f.table(*cases[name]).empty] for name in cases}
    assert empty["one"] == []
    assert empty["two"] == []
    assert empty["no_noise"] == [batch_sensitivity, momentum, *OF_PROBES]
    assert empty["one_budget"] == [batch_exponents, batch_rules, batch_sensitivity, momentum, *OF_PROBES]


def test_a_table_of_curves_without_probe_columns_or_rows_has_no_probes(cases):
    tables, fit = cases["one"]
    unprobed = NO_CURVES.assign(**dict.fromkeys(PROBE, np.nan))
    for curves in (NO_CURVES, unprobed, pd.DataFrame()):
        bare = SweepTables({}, pd.DataFrame(), tables.runs, curves)
        assert constants_mu.table(bare, fit).empty
        assert constants_variance.table(bare, fit).empty


def test_without_noise_there_are_no_intervals(cases):
    tables, fit = cases["no_noise"]
    for figure in (batch_profiles, batch_exponents, batch_rates, batch_rules):
        data = figure.table(tables, fit)
        known = data[["low", "high"]].notna().all(axis=1)
        assert set(data.get("kind", pd.Series()).loc[known]) <= {"regime"}
    assert batch_profiles.table(tables, fit)["tied"].isna().all()


def test_profiles_are_the_fits_cells_and_optima(case):
    tables, fit, found = case
    data = batch_profiles.table(tables, fit)
    points = data[data["kind"] == "point"]
    assert list(points["loss"]) == [cell.loss.value for cell in found.cells]
    assert list(points["tied"]) == [cell.tied for cell in found.cells]
    assert bounds(points) == [(cell.loss.low, cell.loss.high) for cell in found.cells]
    best, largest = data[data["kind"] == "best"], data[data["kind"] == "largest"]
    assert list(best["batch_tokens"]) == [budget.batch.value for budget in found.budgets]
    assert bounds(best) == [(budget.batch.low, budget.batch.high) for budget in found.budgets]
    assert list(largest["batch_tokens"]) == [budget.largest.value for budget in found.budgets]
    assert np.allclose(largest["loss"] - best["loss"].to_numpy(), [budget.tolerance for budget in found.budgets])


def test_profiles_have_the_surface_and_where_its_terms_rule(case):
    tables, fit, found = case
    data, surface = batch_profiles.table(tables, fit), found.surfaces[-1]
    rows = data[data["kind"] == "surface"].astype({"batch_tokens": float, "loss": float})
    assert np.allclose(rows["loss"], surface.loss(rows["tokens"].to_numpy(), rows["batch_tokens"].to_numpy()))
    regimes = data[data["kind"] == "regime"]
    assert list(regimes["label"]) == ["noisy", "flat", "starved"]
    assert set(regimes["tokens"]) == {2.0**19}
    assert list(regimes["high"][:2]) == [surface.bs1.value, surface.bs2_last.value] == list(regimes["low"][1:])
    seen = [cell.batch_tokens for cell in found.cells if cell.tokens == 2.0**19]
    assert (regimes["low"].min(), regimes["high"].max()) == (min(seen), max(seen))


def test_noise_passes_into_starvation_where_the_flat_stretch_is_none(case):
    *_, found = case
    surface = replace(found.surfaces[-1], bs1=Estimate(2.0**9), bs2_last=Estimate(2.0**8))
    crossed = batch_profiles._regimes(found, surface)
    assert [row["label"] for row in crossed] == ["noisy", "starved"]
    # BS^(7/6) = BS₁^(1/6) BS₂, where the noisy and the starved term are equal.
    assert crossed[0]["high"] == crossed[1]["low"] == pytest.approx(2 ** (9 / 7 + 48 / 7))


def test_lines_have_the_fits_exponents_and_pass_through_the_centre_of_their_points(cases):
    tables, fit = cases["two"]
    data = batch_exponents.table(tables, fit)
    assert not data.loc[(data["type"] == "point") & (data["optimizer"] == "adam"), "resolved"].all()
    names = {
        ("batch", "best"): "batch size, best batch",
        ("batch", "largest"): "batch size, largest without loss",
        ("batch", "corner"): "batch size, corner of the surface",
        ("lr", "best"): "learning rate, best batch",
        ("lr", "largest"): "learning rate, largest without loss",
    }
    for found in fit.optimizers:
        mine = data[data["optimizer"] == found.optimizer]
        for (panel, kind), name in names.items():
            rows = mine[(mine["panel"] == panel) & (mine["kind"] == kind)]
            line, points = rows[rows["type"] == "line"], rows[(rows["type"] == "point") & rows["resolved"].eq(True)]
            x, y = (np.log(line[column].astype(float)).to_numpy() for column in ("tokens", "value"))
            estimate = found.exponent(name).estimate
            assert np.diff(y) / np.diff(x) == pytest.approx(estimate.value)
            assert tuple(line[["exponent", "exponent_low", "exponent_high"]].iloc[0]) == (
                estimate.value, estimate.low, estimate.high,
            )  # fmt: skip
            if kind == "corner":
                surface = found.surfaces[-1]
                assert list(line["value"]) == pytest.approx([surface.bs2_first.value, surface.bs2_last.value])
            else:
                centre = np.log(points[["tokens", "value"]].astype(float)).mean()
                assert np.interp(centre["tokens"], x, y) == pytest.approx(centre["value"])


def octaves(values):
    return np.log2(values.astype(float)).diff().iloc[1]


def test_the_wedge_has_what_the_rule_implies_for_the_best_batch_and_passes_through_its_line(case):
    data = batch_exponents.table(*case[:2])
    for panel, (low, high) in (("batch", (4 / 7, 2 / 3)), ("lr", (-3 / 7, -1 / 3))):
        mine = data[data["panel"] == panel]
        wedge, best = mine[mine["type"] == "implied"], mine[(mine["type"] == "line") & (mine["kind"] == "best")]
        x, y, bottom, top = (
            np.log2(column.astype(float)).to_numpy()
            for column in (best["tokens"], best["value"], wedge["low"], wedge["high"])
        )
        # Where the edges cross, at the stars' centre, so does the line; below it the steep exponent is the lower edge.
        centre = x[0] + (top - bottom)[0] / (high - low)
        assert np.interp(centre, x, y) == pytest.approx(bottom[0] + high * (centre - x[0]))
        assert top[1] - bottom[0] == pytest.approx(high * (x[1] - x[0]))
        assert bottom[1] - top[0] == pytest.approx(low * (x[1] - x[0]))


def test_the_other_published_exponents_are_drawn_beside_the_batch_only(case):
    data = batch_exponents.table(*case[:2])
    published = data[data["kind"] == "published"]
    assert set(published["panel"]) == {"batch"}
    assert sorted(set(published["exponent"])) == [0.383, 0.45]
    for exponent, line in published.groupby("exponent"):
        assert octaves(line["value"]) == pytest.approx(3 * exponent)


def test_tie_bands_span_the_fits_ties(case):
    tables, fit, found = case
    data = batch_exponents.table(tables, fit)
    bands = data[data["type"] == "tied"]
    assert bounds(bands) == [(min(budget.tied), max(budget.tied)) for budget in found.budgets]


def test_the_plane_is_the_fits_and_balances_its_points(cases):
    tables, fit = cases["two"]
    data = batch_rates.table(tables, fit)
    for found in fit.optimizers:
        mine = data[data["optimizer"] == found.optimizer]
        points, plane = mine[mine["kind"] == "point"], mine[mine["kind"] == "plane"]
        assert list(points["lr"]) == [cell.lr.value for cell in found.cells]
        assert list(points["resolved"]) == [cell.resolved for cell in found.cells]
        a = found.exponent("learning rate against batch size")
        b = found.exponent("learning rate against budget")
        assert points["used"].sum() == a.n_points == b.n_points
        logs = np.log(plane[["tokens", "batch_tokens", "lr"]].astype(float))
        first = logs.iloc[0]
        rise = a.estimate.value * (logs["batch_tokens"] - first["batch_tokens"])
        rise += b.estimate.value * (logs["tokens"] - first["tokens"])
        assert np.allclose(logs["lr"], first["lr"] + rise)
        used = np.log(points.loc[points["used"].eq(True), ["tokens", "batch_tokens", "lr"]].astype(float)) - first
        left = used["lr"] - a.estimate.value * used["batch_tokens"] - b.estimate.value * used["tokens"]
        assert left.mean() == pytest.approx(0)


def test_rules_are_the_forward_contests_first(case):
    tables, fit, found = case
    data = batch_rules.table(tables, fit)
    forward = data[data["forward"]]
    assert list(forward["rule"]) == [score.rule for score in found.forward.scores]
    assert list(forward["regret"]) == [score.regret.value for score in found.forward.scores]
    assert forward["regret"].is_monotonic_increasing
    assert list(forward["winner"]) == [score.rule == found.forward.winner for score in found.forward.scores]
    assert data["held_out_tokens"].nunique() == len(found.contests)
    assert set(data.loc[~data["forward"], "held_out_tokens"]) == {2.0**16, 2.0**17, 2.0**18}


def test_a_regret_that_is_infinite_or_huge_or_a_bound_is_drawn_and_said(case):
    data = batch_rules.table(*case[:2])
    data.loc[1, ["regret", "high"]] = np.inf
    data.loc[2, ["regret", "low", "high"]] = [3.0, 2.0, 4.0]
    data.loc[3, "outside"] = True
    figure = batch_rules.draw(data)
    svg(figure)
    assert figure.axes[0].get_xlim()[1] < 0.5
    words = batch_rules.alt(data)
    assert f"{data['rule'][1]} diverges" in words
    assert f"{data['rule'][2]} 3.0000" in words
    assert f"{data['rule'][3]} ≥ " in words


def test_sensitivity_has_every_choice_and_exponent(case):
    tables, fit, found = case
    data = batch_sensitivity.table(tables, fit)
    for panel in ("batch", "lr"):
        rows = data[data["panel"] == panel]
        assert list(rows["choice"]) == [line.choice for line in found.sensitivity]
        estimates = [getattr(line, panel) or Estimate(np.nan) for line in found.sensitivity]
        assert np.array_equal(rows["exponent"], [estimate.value for estimate in estimates], equal_nan=True)
        assert bounds(rows) == [(estimate.low, estimate.high) for estimate in estimates]


def test_momenta_are_the_fits(case):
    tables, fit, found = case
    data = momentum.table(tables, fit)
    points, best = data[data["kind"] == "point"], data[data["kind"] == "best"]
    assert list(points["momentum"]) == [m for optimum in found.momenta.optima for m in optimum.momenta]
    assert list(points["loss"]) == [loss for optimum in found.momenta.optima for loss in optimum.losses]
    assert points.groupby("tokens")["excess"].min().eq(0).all()
    assert list(best["momentum"]) == [optimum.best.value for optimum in found.momenta.optima]
    assert bounds(best) == [(optimum.best.low, optimum.best.high) for optimum in found.momenta.optima]


def test_lines_through_the_probes_have_the_fits_slopes(cases):
    tables, fit = cases["two"]
    data = constants_mu.table(tables, fit)
    for found in fit.optimizers:
        mine = data[data["optimizer"] == found.optimizer]
        assert (mine["kind"] == "probe").sum() == 4 * 8
        together = mine[mine["kind"] == "all"].iloc[0]
        mu = found.constants.mu
        assert (together["slope"], together["slope_low"], together["slope_high"]) == (mu.value, mu.low, mu.high)
        slopes = mine[mine["kind"] == "run"].drop_duplicates("trial_id").set_index("trial_id")["slope"]
        assert dict(slopes) == {run.trial_id: run.mu.value for run in found.constants.runs}
    slope = data[data["kind"] == "all"].drop_duplicates("optimizer").set_index("optimizer")["slope"]
    assert (slope["adam"], slope["scion"]) == (pytest.approx(1, rel=0.1), pytest.approx(2, rel=0.1))


def test_early_probes_are_told_apart(case):
    data = constants_mu.table(*case[:2])
    probes = data[data["kind"] == "probe"]
    for _, rows in probes.groupby("trial_id"):
        half = (rows["probe_loss"].max() + rows["probe_loss"].min()) / 2
        assert (rows["late"] == (rows["probe_loss"] <= half)).all()
    assert 0 < probes["late"].mean() < 1


def test_variances_are_geometric_means_and_the_fits_law(case):
    tables, fit, found = case
    data, law = constants_variance.table(tables, fit), found.constants.variance
    rows = data[(data["quantity"] == "grad_variance") & (data["kind"] == "law")]
    expected = law.coefficient * rows["probe_batch_size"] ** -law.batch.value * rows["probe_seq_len"] ** -law.seq.value
    assert np.allclose(rows["value"], expected)
    means = data[(data["quantity"] == "grad_variance") & (data["kind"] == "mean")]
    assert len(means) == len(rows) == 9
    assert np.allclose(means["value"], rows["value"], rtol=0.15)
    assert ((means["low"] <= means["value"]) & (means["value"] <= means["high"])).all()


def test_kappas_law_has_the_fits_exponent_and_belongs_to_whole_windows(case):
    tables, fit, found = case
    data = constants_variance.table(tables, fit)
    rows = data[(data["quantity"] == "norm_ratio") & (data["kind"] == "law")]
    assert set(rows["probe_seq_len"]) == {32}
    assert set(rows["batch_exponent"]) == {found.constants.norm_ratio_exponent.value}
    assert np.allclose(rows["value"], 20 * rows["probe_batch_size"] ** 0.03)


def test_predictions_are_the_fits(case):
    tables, fit, found = case
    data, predictions = constants_prediction.table(tables, fit), found.constants.predictions
    assert len(predictions) == 4
    rows = data[data["kind"] == "predicted"]
    assert list(rows["batch_tokens"]) == [batch for p in predictions for batch in p.batch_tokens]
    assert list(rows.drop_duplicates("trial_id")["error"]) == [p.error for p in predictions]
    measured, best = data[data["kind"] == "measured"], data[data["kind"] == "best"]
    assert list(measured["batch_tokens"]) == [budget.largest.value for budget in found.budgets]
    assert list(best["batch_tokens"]) == [budget.batch.value for budget in found.budgets]


def test_every_runs_own_constants_share_one_factor(case):
    tables, fit, found = case
    data = constants_prediction.table(tables, fit)
    own = data[data["kind"] == "own"].set_index("trial_id")
    common = np.exp(np.mean(np.log([p.constant for p in found.constants.predictions])))
    for run in found.constants.runs:
        assert own.loc[run.trial_id, "batch_tokens"] == pytest.approx(common * (run.tokens * run.drive) ** (2 / 3))
    # A run whose own constant is the common one lies on its own line.
    for prediction in found.constants.predictions:
        tokens = own.loc[prediction.trial_id, "tokens"]
        at = prediction.batch_tokens[prediction.tokens.index(tokens)]
        assert own.loc[prediction.trial_id, "batch_tokens"] / at == pytest.approx(common / prediction.constant)


def test_budgets_are_named_as_powers_of_two():
    assert style.power_of_two(65536) == "$2^{16}$"
    assert style.power_of_two(65540, plain=True) == "2^16"
    assert style.power_of_two(100_000, plain=True) == "2^16.6"
    assert style.power_of_two(0.9999, plain=True) == "2^0"


def test_intervals_that_are_not_known_or_not_finite_are_not_drawn():
    axis = Figure().subplots()
    style.intervals(axis, [0.0, 1.0], [None, 0.0], [None, np.inf])
    assert not axis.collections
    style.intervals(axis, [0.0, 1.0], [None, 0.0], [None, 1.0])
    assert len(axis.collections) == 1

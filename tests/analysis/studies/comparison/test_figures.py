import numpy as np
import pandas as pd
import pytest
from drawn import check_drawn
from planted_arms import arm_runs, diverge, told
from synthetic import ARMS, CLAIMS, curve_rows, fill_comparison

from analysis.drawing import style
from analysis.fits.advice import advise
from analysis.origin import origin
from analysis.report.build import render
from analysis.studies.comparison import page as comparison
from analysis.studies.comparison.figures import FIGURES, comparison_curves, comparison_rates, comparison_tuned
from analysis.studies.comparison.fit import fit_comparison
from analysis.tables.sweep import SweepTables, load_sweep
from scionlab.runs.where import ResultsPlace

ACROSS = {"across": "batch_size"}
ONE = {"scion": {0: 1.9}, "adam": {0: 2.0}, "muon": {0: 1.91}, "sgd": {0: 3.8}}


def swept(runs, **settings):
    """The tables of these runs, with curves."""
    tables = told(runs, **settings)
    curves = [{"trial_id": row.trial_id, **point} for row in runs.itertuples() for point in curve_rows(row.train_loss)]
    return SweepTables(tables.sweep, tables.sweeps, runs, pd.DataFrame(curves).assign(probe_batch_size=np.nan))


def planted(levels=ARMS, **more):
    return arm_runs(levels, **{"noise": 0.004, "rates": range(-8, -2), "data": "sotu", **more})


def lost():
    runs = planted(rates=[-5])
    return diverge(runs, (runs["optimizer"] == "adam") & (runs["batch_size"] == 64))


CASES = {
    "lines": lambda: swept(planted(), **ACROSS),
    "dots": lambda: swept(planted(ONE, across=None)),
    "one rate, one lost": lambda: swept(lost(), **ACROSS),
    "labels that are numbers": lambda: swept(
        planted({"scion": {"a": 1.9, "b": 1.8, "c": 1.85}}, across="norm"), across="norm",
        labels={"a": "2", "b": "10", "c": "3", "scion": "7"},
    ),
    "edges, one seed": lambda: swept(planted(rates=range(-12, -6), seeds=1), **ACROSS),
    "accuracy": lambda: swept(
        planted(data="digits").assign(val_accuracy=lambda r: 1 - r["val_loss"] / 10), **ACROSS, metric="val_accuracy"
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def case(request):
    tables = CASES[request.param]()
    style.apply()
    return tables, fit_comparison(tables)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_from_their_csv(name, case):
    tables, fit = case
    module = FIGURES[name]
    data = module.table(tables, fit)
    if data.empty:
        assert (name, fit.cells[0].n_rates) == ("comparison_rates", 1)
        return
    words = check_drawn(module, data, widest=11)
    assert all(arm.name in words for arm in fit.design.arms)
    assert module.caption(data).endswith(".")
    assert "nats" not in (module.title(data) if hasattr(module, "title") else module.TITLE)


PAGES = {
    "claims": {},
    "one place": {"arms": {"scion": {16: 1.9}, "adam": {16: 2.0}}, "across": None, "claims": []},
    "one seed": {"seeds": 1, "rates": range(-6, -3)},
    "gap": {"metric": "gap", "rates": range(-6, -3)},
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_claims_rankings_and_every_cell(name, tmp_path):
    fill_comparison(tmp_path / "runs", **PAGES[name])
    tables = load_sweep(tmp_path, "arms", "laptop")
    fit = fit_comparison(tables)
    place = ResultsPlace.of(tmp_path)
    html = render(comparison, tables, fit, [], place, advise(fit.judgements(), origin(tables, place)))
    for claim in fit.claims:
        assert f'<span class="tag">{claim.verdict}</span> {claim.text}' in html
    assert ("<strong>Scion &lt;tolerates&gt; larger batches than Adam</strong>" in html) == (name != "one place")
    assert "Scion <tolerates>" not in html
    for rank in fit.rankings[0].ranks:
        assert rank.value.text(".3f") in html
    for each in fit.cells:
        assert each.value.text(".4f") in html
    assert ("One seed: there is no measure of seed noise" in html) == (name == "one seed")
    assert ("All arms have the same seeds" in html) == (name != "one seed")
    assert ("Read at the learning rate of the grid" in html) == (name == "gap")
    assert ("ranking, each at its best batch size" in html) == (name != "one place")
    assert len(CLAIMS) == len(fit.claims) or name == "one place"
    together = f"{len(CLAIMS)} claims are judged together: each interval is at 1 − 5%/{len(CLAIMS)}"
    assert (together in html) == (name != "one place")


@pytest.fixture(scope="module")
def lines():
    runs = planted()
    tables = swept(
        diverge(runs, (runs["optimizer"] == "adam") & (runs["batch_size"] == 64) & (runs["lr"] > 0.1)), **ACROSS
    )
    return tables, fit_comparison(tables)


def test_tuned_values_are_the_fits(lines):
    tables, fit = lines
    data = comparison_tuned.table(tables, fit)
    assert list(data["value"]) == [cell.value.value for cell in fit.cells]
    assert list(data["low"]) == [cell.value.low for cell in fit.cells]
    assert list(data["arm"].unique()) == ["adam", "scion", "muon"]  # as the grid has them
    assert list(data["position"].unique()) == [3.0, 4.0, 6.0]
    assert set(data["across"]) == {"batch size"}


def test_dots_come_best_first():
    tables = swept(planted(ONE, across=None))
    data = comparison_tuned.table(tables, fit_comparison(tables))
    assert list(data["arm"]) == list(ONE)
    axis = comparison_tuned.draw(data).axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["scion", "muon", "adam", "sgd"]
    assert axis.get_xlim()[1] < 3.1
    assert [text.get_text() for text in axis.texts] == ["3.80"]  # sgd is drawn at the edge


def test_curves_have_means_optima_and_divergence(lines):
    tables, fit = lines
    data = comparison_rates.table(tables, fit)
    points, optima = data[data["kind"] == "point"], data[data["kind"] == "optimum"]
    ok = tables.runs[tables.runs["status"] == "ok"]
    means = ok.groupby(["optimizer", "batch_size", "lr"])["val_loss"].mean()
    for row in points[points["n_diverged"] == 0].to_dict("records"):
        assert row["value"] == pytest.approx(means[row["arm"], int(row["place"]), row["lr"]])
    gone = points[points["n_diverged"] > 0]
    assert list(zip(gone["arm"], gone["place"], gone["n_diverged"], strict=True)) == [("adam", "64", 2)]
    assert list(optima["lr"]) == [cell.lr.value for cell in fit.cells]
    assert list(optima["value"]) == [means[c.arm, c.place, c.rate] for c in fit.cells]


def test_learning_curves_are_those_of_the_best_cells(lines):
    tables, fit = lines
    data = comparison_curves.table(tables, fit)
    for arm, place in (("adam", "8"), ("scion", "16"), ("muon", "16")):
        rows = data[data["arm"] == arm]
        assert set(rows["place"]) == {place}
        assert set(np.log2(rows["lr"])) == {-5.0}
        best = tables.runs[(tables.runs["optimizer"] == arm) & (tables.runs["batch_size"] == int(place))]
        ids = best[best["lr"] == 2**-5]["trial_id"]
        last = tables.curves[tables.curves["trial_id"].isin(ids) & (tables.curves["step"] > 28)]
        # 32 logged steps lie in every other of the 64 bins, and the last point is a mean of four of those.
        assert rows["train_loss"].iloc[-1] == pytest.approx(last["train_loss"].mean())


def test_without_curves_there_is_no_figure_of_them(lines):
    tables, fit = lines
    for curves in (pd.DataFrame(), tables.curves.iloc[:0]):
        assert comparison_curves.table(SweepTables(tables.sweep, tables.sweeps, tables.runs, curves), fit).empty


def test_arms_whose_optimizers_share_a_colour_are_told_apart():
    names = [f"method-{i}" for i in range(6)]
    assert len(set(style.colours(names, names).values())) == 6

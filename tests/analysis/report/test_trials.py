import json
import re
import shlex
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from synthetic import fill, run_row
from typer.testing import CliRunner

from analysis.pipeline import draw_results, report_results
from analysis.report import charts
from analysis.report.assets import datatables, inline, vega
from analysis.report.trials import trials
from analysis.tables.sweep import SweepTables, load_sweep
from scionlab.cli import app
from scionlab.errors import UserError


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("it's results")
    fill(folder / "runs", exponents=range(-7, -3))
    report_results(folder, "width", "laptop")
    return folder


@pytest.fixture(scope="module")
def tables(results):
    return load_sweep(results, "width", "laptop")


def rows(*changes):
    """Runs of Scion that differ in some fields and options only."""
    made = []
    for i, change in enumerate(changes):
        row = run_row(f"t{i}", "scion", 32, 0.25, 0, 2.0)
        spec = json.loads(row["spec"])
        spec["options"] |= change.pop("options", {})
        made.append(row | change | {"spec": json.dumps(spec | change)})
    return pd.DataFrame(made)


def values_of(column):
    return [cell.text for cell in column.cells]


def made(runs, most=5000):
    return {column.name: column for column in trials(runs, most).columns}


def scionlab(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_setting_is_a_column_if_trials_differ_in_it():
    columns = made(rows({"width": 32}, {"width": 64}))
    assert list(columns) == ["optimizer", "width", "learning rate", "seed", "status", "validation loss", "seconds"]
    assert values_of(columns["width"]) == ["32", "64"]


def test_an_option_is_a_column_if_it_differs_within_an_optimizer(tables):
    columns = made(rows({"options": {"radius": 2.0}}, {"options": {"radius": 3.0}}))
    assert values_of(columns["radius"]) == ["2", "3"]
    others = rows({"options": {"radius": 2.0}}, {"optimizer": "adam"})
    assert "radius" not in made(others)


def test_learning_rates_are_powers_of_two_where_they_are_and_are_sorted_as_numbers():
    column = made(rows({"lr": 2.0**-10}, {"lr": 2.0**-9}, {"lr": 3.6e-4}, {"lr": 0.25}))["learning rate"]
    assert values_of(column) == ["2^-10", "2^-9", "0.00036", "2^-2"]
    assert column.values == ["0.00036", "2^-10", "2^-9", "2^-2"]


def test_what_is_not_known_is_empty_and_why_a_trial_failed_is_said():
    failed = {"status": "error", "error": "Traceback\nRuntimeError: boom", "val_loss": None}
    columns = made(rows({}, failed))
    assert values_of(columns["validation loss"]) == ["2.0000", ""]
    assert values_of(columns["error"]) == ["", "RuntimeError: boom"]


def test_a_table_of_too_many_trials_says_what_it_leaves_out():
    table = trials(rows({}, {}, {}), most=2)
    assert len(list(table.rows)) == 2
    assert table.caption == "The first 2 of 3 trials; `scionlab export` writes all of them."
    assert trials(rows({})).caption == "All 1 trials."


def test_a_page_names_every_trial_once(results, tables):
    html = (results / "report" / "width.html").read_text()
    body = html[html.index('<table id="all-trials"') :]
    for trial in tables.runs["trial_id"]:
        assert body.count(f'<th scope="row">{trial}</th>') == 1


def values(spec):
    return spec["datasets"][spec["data"]["name"]]


def test_a_curve_has_its_trials_values_and_at_most_so_many_points(tables, monkeypatch):
    monkeypatch.setattr(charts, "MOST_POINTS", 8)
    table = trials(tables.runs)
    drawn = {record["trial"]: record for record in values(charts.curves(tables, table))}
    finished = tables.runs[tables.runs["status"] != "error"]
    assert set(drawn) == set(finished["trial_id"])
    for run in finished.to_dict("records"):
        record = drawn[run["trial_id"]]
        assert (record["optimizer"], record["width"]) == (run["optimizer"], str(run["width"]))
        assert len(record["x"]) == len(record["y"]) == 8
        logged = tables.losses([run["trial_id"]])
        assert (record["x"][0], record["x"][-1]) == (logged["tokens"].iloc[0], logged["tokens"].iloc[-1])
        assert record["y"][-1] == pytest.approx(logged["train_loss"].iloc[-1], rel=1e-4)


def test_more_trials_than_a_chart_holds_are_thinned_evenly_and_it_says_so(tables, monkeypatch):
    monkeypatch.setattr(charts, "MOST_TRIALS", 6)
    curves, rates = charts.explore(tables, trials(tables.runs))
    for chart in (curves, rates):
        assert f"6 of {len(tables.runs)} trials" in chart["note"]
        assert len(values(chart["spec"])) == 6
        assert {record["optimizer"] for record in values(chart["spec"])} == {"adam", "scion"}


def test_infinite_losses_and_lost_curves_are_not_drawn(tables):
    runs = tables.runs[tables.runs["status"] == "ok"].head(2)
    curve = pd.DataFrame({"trial_id": runs["trial_id"].iloc[0], "step": range(1, 5), "tokens": range(4, 20, 4)})
    curve["train_loss"] = [3.0, float("inf"), 2.0, float("nan")]
    own = SweepTables(tables.sweep, tables.sweeps, runs, given_curves=curve)
    (record,) = values(charts.curves(own, trials(runs)))
    assert (record["x"], record["y"]) == ([4, 12], [3.0, 2.0])
    lost = SweepTables(tables.sweep, tables.sweeps, runs, given_curves=curve.head(1))
    assert charts.curves(lost, trials(runs)) is None


def test_what_diverged_is_drawn_at_the_top_edge_of_the_losses(tables):
    spec = charts.rates(tables, trials(tables.runs))
    top = max(record["y"] for record in values(spec))
    diverged = [record for record in values(spec) if record["status"] == "diverged"]
    assert len(diverged) == 4
    assert all(record["y"] == top for record in diverged)
    one_rate = tables.runs[tables.runs["lr"] == tables.runs["lr"].iloc[0]]
    assert charts.rates(tables, trials(one_rate)) is None


def test_scripts_end_where_they_should():
    assert inline("a = '</script><!-- <SCRIPT>'; b = x <!y") == (r"a = '\x3c/script>\x3c!-- \x3cSCRIPT>'; b = x <!y")
    for script in (datatables()["js"], vega()):
        assert not any(text in script.lower() for text in ("</script", "<script", "<!--"))


def commands(results, name):
    html = (results / "report" / f"{name}.html").read_text()
    return [unescape(text) for text in re.findall(r'<code id="(?:draw-|export).*?">(.*?)</code>', html)]


def test_a_figures_command_draws_that_figure_again(results):
    found = commands(results, "width")
    assert [shlex.split(command)[1] for command in found] == ["figures", "figures", "figures", "export"]
    for command in found[:1]:
        program, *arguments = shlex.split(command)
        path = results / "figures" / "width" / f"{arguments[-1]}.svg"
        before = path.read_bytes()
        path.unlink()
        done = scionlab(*arguments)
        assert (program, done.exit_code) == ("scionlab", 0), done.output
        assert path.read_bytes() == before
        assert done.output.count("written: ") == 1


def test_an_unknown_figure_and_one_with_nothing_to_show_are_refused(results, tmp_path):
    with pytest.raises(UserError, match=r"figure: 'transfr' is not known \(did you mean 'transfer'\?\); choose one of"):
        draw_results(results, "width", "laptop", figure="transfr")
    store = fill(tmp_path / "runs", optimizers=("scion",), widths=(32,), exponents=range(-7, -3))
    for path in (store.root / "curves").glob("*.parquet"):
        path.unlink()
    with pytest.raises(UserError, match="figure: 'loss_curves' has nothing to show in the runs of 'width'"):
        draw_results(tmp_path, "width", "laptop", figure="loss_curves")


def test_json_is_one_document_with_the_numbers_and_the_paths(results):
    where = ("width", "--results", results, "--json")
    fitted = json.loads(scionlab("fit", *where).stdout)
    assert fitted["study"] == "lr-transfer"
    assert {transfer["optimizer"] for transfer in fitted["fit"]["transfers"]} == {"adam", "scion"}
    drawn = json.loads(scionlab("figures", *where, "--figure", "transfer").stdout)
    assert [figure["name"] for figure in drawn["figures"]] == ["transfer"]
    reported = json.loads(scionlab("report", *where).stdout)
    paths = [*fitted["files"], *(drawn["figures"][0][suffix] for suffix in ("svg", "png", "csv"))]
    for path in (*paths, reported["report"], reported["index"]):
        assert str(path).startswith(str(results))
        assert Path(path).is_file()

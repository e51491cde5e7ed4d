"""The transfer study on made-up runs with known regrets: what it finds, draws and says."""

import json

import numpy as np
import pandas as pd
import pytest
from planted_transfer import (
    DIRECT_FLOPS,
    PROXY_FLOPS,
    REGRETS,
    SEEDS,
    cell_of,
    runs_of,
    searched,
    tables_of,
    tunings_of,
)  # fmt: skip
from synthetic import curve_rows, sweep_row

from analysis.fits.advice import Source, advise
from analysis.fits.outcomes import Missing
from analysis.pipeline import report_results
from analysis.studies.table import STUDIES, study
from analysis.studies.transfer.costs import cost, descent
from analysis.studies.transfer.figures import proxy as figure
from analysis.studies.transfer.fit import fit_proxy
from analysis.studies.transfer.result import MARGIN, finding
from scionlab.errors import UserError
from scionlab.runs.store import RunStore

CELLS = [cell_of(*which) for which in REGRETS]


@pytest.fixture(scope="module")
def tables():
    return tables_of(CELLS)


@pytest.fixture(scope="module")
def fit(tables):
    return fit_proxy(tables)


def test_known_regrets_are_found_and_called_by_their_name(fit):
    for cell in fit.cells:
        truth = REGRETS[cell.method, cell.target]
        # Three standard errors: of four nominal 95% intervals one may miss the truth.
        assert abs(cell.regret.value - truth) <= 0.75 * (cell.regret.high - cell.regret.low)
        assert cell.regret.high - cell.regret.low < MARGIN
        assert cell.verdict == ("loses" if truth > MARGIN else "transfers")
        assert cell.n_seeds == len(SEEDS)
        assert 0.0006 < cell.noise.seeds < 0.006  # 0.002, of three degrees of freedom a cell
        assert cell.noise.error == pytest.approx(cell.noise.seeds / 2)
        assert cell.noise.searches is None
        assert cell.noise.degrees <= len(CELLS) * (len(SEEDS) - 1)
    assert (fit.methods, fit.targets) == (["adam", "scion"], ["wider", "deeper"])


def test_a_regret_that_noise_hides_is_not_called_anything():
    found = fit_proxy(tables_of(CELLS, runs_of(CELLS, 0.1)))
    assert {cell.verdict for cell in found.of("scion")} == {"cannot tell"}


def test_compute_sums_over_all_trials_also_those_that_were_ended_early(fit):
    for cell in fit.cells:
        assert cell.proxy_flops == pytest.approx(3.25 * PROXY_FLOPS)
        assert cell.direct_flops == pytest.approx(3.25 * DIRECT_FLOPS)
        assert cell.flops_ratio == cell.seconds_ratio == pytest.approx(4.0)
        (one,) = cell.searches
        assert (one.proxy.complete, one.proxy.pruned, one.proxy.trials) == (3, 1, 4)
        assert one.direct_search.best_loss == 2.1
        assert one.direct_search.best_params == {"lr": pytest.approx(0.03)}


def test_the_descent_of_a_search_is_its_lowest_loss_after_every_trial():
    steps = descent(tunings_of(CELLS), "adam.proxy")
    assert [step["loss"] for step in steps] == [2.5, 2.5, 2.1, 2.1]
    assert [step["flops"] for step in steps] == pytest.approx([1e9, 1.25e9, 2.25e9, 3.25e9])
    late = tunings_of(CELLS).assign(val_loss=lambda rows: rows["val_loss"].where(rows["number"] > 0))
    assert [step["flops"] for step in descent(late, "adam.proxy")] == pytest.approx([2.25e9, 3.25e9])


def test_the_same_values_have_a_regret_of_exactly_zero_and_do_not_dilute_the_noise():
    same = [cell_of("adam", "wider", same=True), *CELLS[1:]]
    found = fit_proxy(tables_of(same))
    first = found.cells[0]
    assert (first.regret.value, first.regret.low, first.regret.high) == (0.0, 0.0, 0.0)
    assert first.same_values
    assert first.verdict == "transfers"
    assert all(cell.noise.degrees <= 3 * (len(SEEDS) - 1) for cell in found.cells)
    assert "wider 0 (the same values); deeper" in finding("adam", found.of("adam"))["text"]
    assert "0 (the same values)" in found.summaries()[0][1]["regret"].tolist()


def test_a_way_that_diverges_is_said_to():
    runs = runs_of(CELLS)
    runs.loc[runs["trial_id"] == "adam-wider-zero_shot-2", ["status", "val_loss"]] = ["diverged", np.nan]
    found = fit_proxy(tables_of(CELLS, runs))
    cell = found.cells[0]
    assert (cell.zero_shot, cell.regret, cell.verdict) == (None, None, "diverged")
    assert all(cell.noise.degrees <= 3 * (len(SEEDS) - 1) for cell in found.cells)
    said = finding("adam", found.of("adam"))
    assert said["verdict"] == "diverged: wider"
    assert "wider: a run diverged" in said["text"]
    data = figure.table(tables_of(CELLS, runs), found)
    assert "adam zero-shot diverged" in figure.alt(data)
    figure.draw(data)


def test_only_seeds_that_were_trained_both_ways_count_and_cells_without_any_are_named():
    runs = runs_of(CELLS)
    lost = [f"adam-wider-direct-{seed}" for seed in SEEDS] + ["scion-wider-zero_shot-1"]
    found = fit_proxy(tables_of(CELLS, runs[~runs["trial_id"].isin(lost)]))
    assert found.skipped == ("adam at wider: no seed has been trained both ways.",)
    *judged, lost = found.judgements()
    assert (lost.of, lost.outcome, lost.missing) == ("adam at wider", "cannot tell", (Missing.RUNS,))
    assert [judgement.of for judgement in judged] == ["adam at deeper", "scion at wider", "scion at deeper"]
    (again,) = advise([lost], Source("transfer", ("transfer",), "transfer", "laptop", trials=16)).commands
    assert again == "scionlab transfer transfer --preset laptop --trials 16"
    assert [cell.n_seeds for cell in found.cells] == [4, 3, 4]
    with pytest.raises(UserError, match="no method has been trained both ways"):
        fit_proxy(tables_of(CELLS, runs[runs["seed"] > 9]))


def test_a_search_that_is_not_in_the_store_is_named():
    with pytest.raises(UserError, match=r"no finished trial of the search 'adam\.proxy'"):
        fit_proxy(tables_of(CELLS, tunings=tunings_of(CELLS).query("study != 'adam.proxy'")))


def test_a_finding_counts_every_target_and_all_together(fit):
    said = finding("adam", fit.of("adam"))
    assert said["verdict"] == "loses: wider"
    assert said["text"].startswith(
        f"The proxy's values lose, in nats: wider {fit.cells[0].regret.text('+.3f')}; deeper "
    )
    assert "wider: loses; deeper: transfers." in said["text"]
    assert (
        "4.0 (wider), 4.0 (deeper) times the FLOPs of tuning the proxy, all targets together 8.0 times." in said["text"]
    )
    assert finding("scion", fit.of("scion"))["verdict"] == "transfers"


def test_settings_that_it_cannot_read_are_refused():
    with pytest.raises(UserError, match="settings"):
        study("transfer").check({"rule": "bst", "cells": []})
    with pytest.raises(UserError, match="settings"):
        study("transfer").check({"rule": "bst", "cells": [cell_of("adam", "wider") | {"searches": []}]})
    empty = searched("adam", "wider", 0) | {"zero_shot": []}
    with pytest.raises(UserError, match="settings"):
        study("transfer").check({"rule": "bst", "cells": [cell_of("adam", "wider") | {"searches": [empty]}]})
    assert STUDIES["transfer"].stem == "proxy"


def test_cost_breaks_ties_by_the_first_trial():
    rows = tunings_of(CELLS)
    rows.loc[rows["number"] == 3, "val_loss"] = 2.1
    assert cost(rows, "adam.proxy").best_params["lr"] == pytest.approx(0.03)


def test_the_figure_has_a_line_a_star_and_a_circle_for_every_method_and_target(tables, fit):
    data = figure.table(tables, fit)
    counts = data.groupby("way").size()
    assert (counts["zero-shot"], counts["direct"], counts["direct search"]) == (4, 4, 16)
    star = data[(data["way"] == "zero-shot") & (data["method"] == "adam")].iloc[0]
    assert star["flops"] == pytest.approx(3.25 * PROXY_FLOPS + 2e9)
    drawn = figure.draw(data)
    losses, regrets = drawn.axes[:2], drawn.axes[2:]
    assert [axis.get_title().strip() for axis in losses] == ["wider", "deeper"]
    assert all(axis.get_xscale() == "log" for axis in losses)
    for axis in losses:
        low, high = axis.get_ylim()
        inside = [line for line in axis.lines if line.get_marker() in "*o"]
        assert len(inside) == 4
        assert all(low < y < high for line in inside for y in line.get_ydata())
    for axis, target in zip(regrets, ("wider", "deeper"), strict=True):
        stars = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "*"]
        assert stars == [cell.regret.value for cell in fit.cells if cell.target == target]
        assert {cell.regret.text("+.3f") for cell in fit.cells if cell.target == target} == {
            t.get_text() for t in axis.texts
        }
    assert f"wider: adam {fit.cells[0].regret.text('+.3f')}; scion" in figure.alt(data)


def test_the_page_has_the_findings_the_figure_and_the_tables(tmp_path):
    store, runs = RunStore(tmp_path / "runs"), runs_of(CELLS)
    for row in runs.to_dict("records"):
        store.write_run(row, curve_rows(row["val_loss"]))
    for name, rows in tunings_of(CELLS).groupby("study"):
        records = rows.astype(object).where(rows.notna(), None).to_dict("records")
        store.write_tuning(name, records)
    about = {"experiment": "transfer", "study": "transfer", "title": "Transfer", "sweep_id": "transfer"}
    settings = json.dumps({"rule": "bst", "cells": CELLS})
    store.write_sweep(sweep_row(list(runs["trial_id"])) | about | {"settings": settings})
    reported, path = report_results(tmp_path, "transfer", "laptop")
    fitted = reported.fit
    assert len(fitted.cells) == 4
    html = path.read_text()
    for text in (
        "loses: wider</span> The proxy",
        f"wider {fitted.cells[0].regret.text('+.3f')};",
        "4.0× FLOPs",
        "lr 0.03",
        "figure-proxy",
        "What the searches found",
        "drawn towards that of the method's other targets",
        "were ended early: 6.",
        "not the luck of the searches, as every search was made once",
    ):
        assert text in html, text
    written = pd.read_csv(tmp_path / "fits" / "transfer" / "transfer_regret.csv")
    assert written["verdict"].tolist() == [cell.verdict for cell in fitted.cells]
    assert json.loads((tmp_path / "fits" / "transfer" / "proxy.json").read_text())["margin"] == MARGIN

"""Tables with a row a logged step: which row is the run, and the curve that all of them are."""

import json

import numpy as np
import pandas as pd
import pytest
from imported import refusal_of, rows_of
from typer.testing import CliRunner

from analysis.report.charts import curves
from analysis.report.trials import trials
from analysis.tables.sweep import load_sweep
from scionlab import import_table
from scionlab.api.tables import tables_of
from scionlab.cli import app
from scionlab.runs.store import RunStore

pytestmark = pytest.mark.usefixtures("folder")


def invoke(rows, *arguments):
    with open("runs.jsonl", "w") as file:
        file.write("\n".join(map(json.dumps, rows)))
    return CliRunner().invoke(app, ["import", "runs.jsonl", *arguments])


def taken(rows, *arguments):
    return rows_of(invoke(rows, *arguments))


def refused(rows, *arguments):
    return refusal_of(invoke(rows, *arguments))


LOGGED = [
    {"run": name, "step": step, "tokens": 4096 * 100, "n_params": n, "steps": 100, "val_loss": loss}
    for name, n, losses in (("a", 1e6, [4, 3.5, 3.2]), ("b", 2e6, [4, 3.4, 3.0]))
    for step, loss in zip((20, 60, 100), losses, strict=True)
]


def test_the_last_row_of_a_run_is_the_run():
    done = invoke([*LOGGED[1:], LOGGED[0]])
    assert done.exit_code == 0, done.exception
    assert "curves: 6 rows of 2 runs: a run is its last row with a loss; all are its curve\n" in done.stdout
    assert done.stderr == ""
    rows = RunStore("results/runs").imports("runs")
    assert (list(rows["run"]), list(rows["val_loss"])) == (["a", "b"], [3.2, 3.0])


def test_a_row_without_a_loss_is_not_the_run_s_last():
    last = {**LOGGED[-1], "step": 110, "val_loss": None}
    done = invoke([*LOGGED, last])
    assert "with a loss, for 1 of them not the last one of all" in done.stdout
    assert list(RunStore("results/runs").imports("runs")["val_loss"]) == [3.2, 3.0]


def test_runs_that_end_at_other_shares_of_their_steps_are_told():
    done = invoke(LOGGED[:-1])
    assert done.exit_code == 0
    assert "the last rows of runs stand at 60% to 100% of their steps; the losses of 1 run are" in " ".join(
        done.stderr.split()
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"step": 60}, "row 3, step: run 'a' has 60 in row 2, too"),
        ({"step": "x"}, "row 3, step (step): is not a number, 0 or more and finite"),
        ({"run": ""}, "row 3, column 'run': is empty"),
    ],
)
def test_a_row_that_has_no_place_in_a_run_is_named(change, expected):
    assert expected in refused([*LOGGED[:2], {**LOGGED[2], **change}, *LOGGED[3:]])


def test_steps_without_runs_are_not_taken_for_curves():
    rows = [{key: value for key, value in row.items() if key != "run"} | {"seed": i} for i, row in enumerate(LOGGED)]
    assert len(taken(rows)) == 6
    assert "step: needs run, the column that says which run a row is of" in refused(rows, "--map", "step=step")


def test_a_name_for_every_row_is_kept_and_no_curve():
    rows = [{**row, "run": str(i), "seed": i} for i, row in enumerate(LOGGED)]
    done = invoke([{key: value for key, value in row.items() if key != "step"} for row in rows])
    assert "curves" not in done.stdout
    assert list(RunStore("results/runs").imports("runs")["run"]) == list("012345")


def curves_of(name="runs"):
    """The stored curve of every run, by the run's name: step, tokens, train_loss and val_loss."""
    store = RunStore("results/runs")
    curves, columns = store.curves(), ["step", "tokens", "train_loss", "val_loss"]
    runs = store.imports(name).set_index("run")["trial_id"]
    return {run: curves.loc[curves["trial_id"] == trial_id, columns].to_numpy(float) for run, trial_id in runs.items()}


def test_the_rows_before_are_the_run_s_curve_in_the_order_of_their_steps():
    taken([*LOGGED[1:], LOGGED[0]])
    nan = float("nan")
    # All rows say the tokens of the whole run, so that those of a step are its share of them.
    expected = [[20, 81920, nan, 4], [60, 245760, nan, 3.5], [100, 409600, nan, 3.2]]
    np.testing.assert_allclose(curves_of()["a"], expected)
    assert set(RunStore("results/runs").curves()["lr"].isna()) == {True}


def test_training_losses_and_the_tokens_of_a_step_are_kept_as_logged():
    rows = [
        {"run": "a", "step": step, "tokens": 10 * step, "n_params": 1e6, "train_loss": train, "val_loss": val}
        for step, train, val in ((1, 5.0, None), (2, "nan", None), (3, None, None), (4, 3.5, 3.4))
    ]
    (row,) = taken(rows).to_dict("records")
    assert (row["val_loss"], row["tokens"], row["status"]) == (3.4, 40, "ok")
    nan, inf = float("nan"), float("inf")
    np.testing.assert_allclose(curves_of()["a"], [[1, 10, 5, nan], [2, 20, inf, nan], [4, 40, 3.5, 3.4]])


def test_a_loss_on_the_way_that_is_no_number_is_named():
    message = refused([{**LOGGED[0], "val_loss": "n/a"}, *LOGGED[1:]])
    assert "row 1, column 'val_loss': 'n/a' is not a number; write inf for a run that diverged" in message


def test_an_import_that_is_replaced_takes_its_curves_along():
    taken(LOGGED)
    taken([{**row, "val_loss": row["val_loss"] + 1} for row in LOGGED[:3]])
    assert list(curves_of()) == ["a"]
    assert len(RunStore("results/runs").curves()) == 3
    taken([{name: value for name, value in row.items() if name != "step"} for row in (LOGGED[2], LOGGED[5])])
    assert RunStore("results/runs").curves().empty


def test_studies_and_pages_see_the_curves_of_imports():
    frame = pd.DataFrame(LOGGED)
    table = import_table(frame, name="mine")
    assert table.logged.groupby("trial_id").size().tolist() == [3, 3]
    taken(LOGGED)
    stored = load_sweep("results", "runs")
    given = tables_of(table)
    for tables in (stored, given):
        assert len(tables.with_curve) == 2
        assert tables.losses()["train_loss"].isna().all()
        assert sorted(tables.validations(tables.runs["trial_id"])["val_loss"]) == [3.0, 3.2, 3.4, 3.5, 4, 4]
    spec = json.dumps(curves(stored, trials(stored.runs)))
    assert "validation loss" in spec
    taken([{**row, "train_loss": 2 * row["val_loss"]} for row in LOGGED])
    trained = load_sweep("results", "runs")
    assert sorted(trained.losses()["train_loss"]) == [6.0, 6.4, 6.8, 7.0, 8, 8]
    assert "training loss" in json.dumps(curves(trained, trials(trained.runs)))


def test_a_training_loss_without_steps_is_not_used():
    row = {name: value for name, value in LOGGED[2].items() if name != "step"} | {"train_loss": 3.0}
    assert "not used: train_loss" in invoke([row]).stdout
    assert "train_loss: needs run and step" in refused([row], "--map", "train_loss=train_loss")


def test_a_run_of_one_logged_step_has_no_curve():
    done = invoke([LOGGED[2], LOGGED[5]])
    assert rows_of(done)["val_loss"].tolist() == [3.2, 3.0]
    assert "curves" not in done.stdout
    assert RunStore("results/runs").curves().empty

"""`scionlab export`: the table is the store's, with every field of a trial in a column."""

import json

import pandas as pd
import pytest
from synthetic import fill, fill_batch, run_row

from scionlab.runs.store import RunStore


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "results" / "runs", optimizers=("adam", "scion"), widths=(32, 64), seeds=1)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_runs_come_back_as_they_are_in_the_store(suffix, call, store, tmp_path):
    done = call("export", "--output", f"runs.{suffix}")
    assert done.code == 0
    table = pd.read_csv("runs.csv") if suffix == "csv" else pd.read_parquet("runs.parquet")
    runs = store.runs()
    assert done.out == f"written: runs.{suffix} ({len(runs)} rows, {len(table.columns)} columns)\n"
    assert list(table["trial_id"]) == list(runs["trial_id"])
    pd.testing.assert_series_equal(table["val_loss"], runs["val_loss"], check_exact=True)
    assert set(runs.columns) - {"spec"} <= set(table.columns)
    assert set(table["options.beta2"]) == {0.95}


def test_options_that_a_method_lacks_are_null(call, store):
    row = run_row("own", "mine", 32, 0.1, 0, 2.0)
    spec = json.loads(row["spec"]) | {"options": {"radius": 3.0}, "probe": 2}
    store.write_run(row | {"spec": json.dumps(spec)}, [])
    call("export", "--output", "runs.parquet")
    table = pd.read_parquet("runs.parquet").set_index("trial_id")
    assert (table.loc["own", "options.radius"], table.loc["own", "probe"]) == (3.0, 2)
    assert pd.isna(table.loc["own", "options.beta2"])
    assert table["options.radius"].notna().sum() == 1


def test_a_row_of_a_curve_says_whose_it_is(call, store):
    found = json.loads(call("export", "--what", "curves", "--output", "curves.csv", "--json").out)
    table, curves = pd.read_csv("curves.csv"), store.curves()
    assert found == {"what": "curves", "file": "curves.csv", "rows": len(curves), "columns": list(table.columns)}
    one = table[table["trial_id"] == "scion-64--5-0"]
    assert (set(one["width"]), set(one["peak_lr"]), set(one["lr"])) == ({64}, {2.0**-5}, {0.1})
    assert list(one["step"]) == list(range(1, 33))
    merged = table.merge(curves, on=["trial_id", "step"])
    assert len(merged) == len(curves)
    assert (merged["train_loss_x"] == merged["train_loss_y"]).all()


def test_an_experiment_is_what_its_last_call_asked_for(call, store, tmp_path):
    fill_batch(tmp_path / "results" / "runs", seeds=1)
    call("export", "width", "--output", "width.csv")
    call("export", "--preset", "laptop", "--output", "both.csv")
    width, both = pd.read_csv("width.csv"), pd.read_csv("both.csv")
    assert set(width["experiment"]) == {"width"}
    assert len(both) == len(store.runs()) > len(width) > 0
    call("export", "batch", "--what", "sweeps", "--output", "sweeps.csv")
    assert list(pd.read_csv("sweeps.csv")["experiment"]) == ["batch"]


def test_a_dash_is_csv_on_stdout_and_nothing_else(call, store):
    done = call("export", "--output", "-")
    lines = done.out.splitlines()
    assert len(lines) == 1 + len(store.runs())
    assert lines[0].startswith("trial_id,")
    assert done.err.startswith("runs: 29 rows, ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "there.csv"], "output: 'there.csv' exists; --force replaces it"),
        (["--output", "runs.xlsx"], "output: 'runs.xlsx' is not allowed; it must end in .csv or .parquet, or be -"),
        (["--output", "no/such/runs.csv"], "output: cannot write 'no/such/runs.csv': No such file"),
        (["--output", "x.csv", "--what", "curve"], "what: 'curve' is not known (did you mean 'curves'?)"),
        (["widht", "--output", "x.csv"], "experiment: 'widht' is not known (did you mean 'width'?)"),
        (["--output", "x.csv", "--preset", "full"], "preset: 'full' is not known"),
        (["--output", "x.csv", "--results", "empty"], "results: no runs in 'empty/runs'"),
        (["--output", "x.csv", "--what", "layers"], "results: no layers in 'results/runs'"),
        ([], "output: is missing; give --output FILE, a .csv or .parquet file, or - for CSV on stdout"),
        (["--output", "-", "--json"], "output: '-' is not allowed with --json"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_no_file(arguments, message, call, store, tmp_path):
    (tmp_path / "there.csv").write_text("mine")
    done = call("export", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {message}")
    assert len(done.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_the_file_was_named_by_another_option_before(call, store, tmp_path):
    call("export", "--output", "today.csv")
    assert call("export", "--to", "before.csv").code == 0
    assert (tmp_path / "before.csv").read_bytes() == (tmp_path / "today.csv").read_bytes()
    done = call("export", "--output", "x.csv", "--to", "y.csv")
    assert (done.code, done.err) == (2, "error: output: 'x.csv' and --to 'y.csv' are two; name one\n")
    assert not (tmp_path / "x.csv").exists()
    said = call("export", "--help").out
    assert ("--output" in said, "--to" in said) == (True, False)


def test_force_replaces_a_file(call, store, tmp_path):
    (tmp_path / "there.csv").write_text("mine")
    assert call("export", "--output", "there.csv", "--force").code == 0
    assert len(pd.read_csv("there.csv")) == len(store.runs())


def test_a_trained_sweep_can_be_exported(call, spec_file):
    call("run", spec_file([2**-5]), "--preset", "smoke", "--executor", "inline", "--stack", "1")
    call("export", "--output", "runs.parquet")
    table, runs = pd.read_parquet("runs.parquet"), RunStore("results/runs").runs()
    assert {"options.radius_hidden", "val_seq_len", "divergence_factor"} <= set(table.columns)
    assert list(table["started_at"]) == list(runs["started_at"])

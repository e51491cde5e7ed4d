import json
import os
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scionlab.errors import UserError
from scionlab.runs.schema import CURVES, RUNS, SCHEMA_VERSION, TABLES, data_dictionary
from scionlab.runs.store import RunStore
from scionlab.runs.store.places import LocalPlace
from scionlab.spec import Trial
from scionlab.sweep.job import run_task
from scionlab.sweep.plan import make_plan
from scionlab.sweep.tasks import Task

ROOT = Path(__file__).parents[4]


@pytest.fixture
def store(tmp_path, tiny):
    store = RunStore(tmp_path / "runs")
    for cell in make_plan([tiny(), tiny(lr=1.0, optimizer="adam")], store, "tiny", "smoke").todo:
        run_task(Task((cell,)), store)
    return store


def first_row(store):
    """As it was written: what is empty is None."""
    return {name: None if pd.isna(value) else value for name, value in store.runs().iloc[0].items()}


def test_any_reader_sees_the_same_rows(store):
    ours = store.runs().sort_values("trial_id", ignore_index=True)
    pandas = pd.read_parquet(store.root / "runs").sort_values("trial_id", ignore_index=True)
    pd.testing.assert_frame_equal(ours, pandas)
    query = f"select count(*), min(val_loss) from read_parquet('{store.root}/runs/*.parquet')"
    assert duckdb.sql(query).fetchall() == [(len(ours), ours["val_loss"].min())]


def test_files_have_exactly_the_documented_schema(store):
    for table in (RUNS, CURVES):
        for path in (store.root / table.name).glob("*.parquet"):
            schema = pq.read_schema(path)
            assert schema.equals(table.schema)
            assert schema.metadata[b"scionlab_schema_version"] == str(SCHEMA_VERSION).encode()


def test_readme_has_the_data_dictionary():
    assert data_dictionary() in (ROOT / "docs/data-dictionary.md").read_text()


def test_the_dictionary_names_every_column_once():
    for table in TABLES:
        names = [column.name for column in table.columns]
        assert len(names) == len(set(names))
        assert all(f"| `{name}` |" in data_dictionary() for name in names)


def test_curves_belong_to_runs_and_are_in_order(store):
    runs, curves = store.runs(), store.curves()
    assert set(curves["trial_id"]) == set(runs["trial_id"])
    for _, curve in curves.groupby("trial_id"):
        assert curve["step"].is_monotonic_increasing
    chosen = runs["trial_id"][:1].tolist()
    assert set(store.curves(chosen)["trial_id"]) == set(chosen)


ADDED = {
    "runs": ["stages"],
    "curves": [
        "probe_batch_size", "probe_seq_len", "probe_loss", "grad_dual", "grad_variance", "norm_ratio", "smoothness",
    ],
}  # fmt: skip


@pytest.mark.parametrize("table", ADDED)
def test_files_from_before_a_column_was_added_still_read(store, table):
    whole = getattr(store, table)()
    path = next((store.root / table).glob("*.parquet"))
    old = pq.read_table(path).drop_columns(ADDED[table])
    if table == "curves":  # the loss of a row could not be empty then
        index = old.schema.get_field_index("train_loss")
        old = old.cast(old.schema.set(index, old.schema.field(index).with_nullable(False)))
    pq.write_table(old, path)
    pd.testing.assert_frame_equal(getattr(store, table)(), whole)
    assert whole[ADDED[table]].isna().all(axis=None)


def test_rows_of_probes_lie_beside_those_of_losses(store, tiny):
    (cell,) = make_plan([tiny(probe=2)], store, "tiny", "smoke").todo
    run_task(Task((cell,)), store)
    curve = store.curves([cell.trial_id])
    probed = curve["probe_batch_size"].notna()
    assert (curve["train_loss"].isna() == probed).all()
    assert list(curve[probed].groupby("step").size()) == [8, 8]  # b = 1, 2, 4, 8 at 16 and 8 tokens
    assert curve[probed][["probe_loss", "grad_dual", "grad_variance", "norm_ratio"]].notna().all(axis=None)
    assert curve[probed]["smoothness"].notna().sum() == 2
    (other,) = make_plan([tiny()], store, "tiny", "smoke").cells
    plain = store.curves([other.trial_id])
    columns = ["step", "tokens", "lr", "train_loss"]
    pd.testing.assert_frame_equal(curve[~probed][columns].reset_index(drop=True), plain[columns], check_exact=True)


def test_later_stages_are_a_column(store, tiny):
    stages = [{"from_tokens": 512, "batch_size": 8, "seq_len": 32, "lr": 0.25}]
    (cell,) = make_plan([tiny(stages=stages)], store, "tiny", "smoke").todo
    run_task(Task((cell,)), store)
    row = store.runs([cell.trial_id]).iloc[0]
    assert json.loads(row["stages"]) == stages
    assert (row["batch_size"], row["seq_len"], row["lr"]) == (4, 16, 2**-5)
    assert (row["steps"], row["steps_done"], row["tokens"]) == (10, 10, 1024)
    assert Trial.model_validate_json(row["spec"]) == cell.trial
    assert row["flops"] == cell.flops


def test_an_empty_store_gives_empty_tables_with_all_columns(tmp_path):
    store = RunStore(tmp_path / "nothing")
    assert list(store.runs().columns) == [column.name for column in RUNS.columns]
    assert store.runs().empty
    assert store.sweeps().empty
    assert store.finished() == set()
    assert not store.root.exists()


def test_failed_trials_are_not_finished_and_are_replaced(store):
    row = first_row(store) | {"status": "error", "error": "Traceback"}
    before = store.finished()
    store.write_run(row, [])
    assert store.finished() == before - {row["trial_id"]}
    store.write_run(row | {"status": "ok", "error": None}, [])
    assert store.finished() == before
    assert len(store.runs()) == len(before)


def test_a_write_that_breaks_off_leaves_nothing_to_read(store, monkeypatch):
    row = first_row(store) | {"trial_id": "new"}
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(
        UserError, match=r"results: cannot write to '.*curves': disk full; .* run the same command again"
    ):
        store.write_run(row, [])
    assert "new" not in set(store.runs()["trial_id"])
    assert not list(store.root.rglob("*.tmp"))


def test_half_written_files_are_invisible(store):
    n = len(store.runs())
    (store.root / "runs" / ".abc.123.tmp").write_bytes(b"PAR1 half a file")
    assert len(store.runs()) == n
    assert len(pd.read_parquet(store.root / "runs")) == n


def test_an_unwritable_folder_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="results: cannot write to"):
        RunStore(tmp_path / "file" / "runs").check_writable()


def test_two_writers_of_one_key_and_one_process_number_do_not_meet(tmp_path, monkeypatch):
    """As in two containers that share a folder: the other writes the same trial while this one does."""
    place, rows = LocalPlace(tmp_path), [pa.table({"a": [number] * 1000}) for number in (1, 2)]
    plain, at_work = pq.write_table, []

    def write(table, where, **options):
        plain(table, where, **options)
        if not at_work:
            at_work.append(where)
            place.write("x.parquet", rows[1])
            assert pq.read_table(where).equals(rows[0])

    monkeypatch.setattr("scionlab.runs.store.places.pq.write_table", write)
    place.write("x.parquet", rows[0])
    assert pq.read_table(tmp_path / "x.parquet").equals(rows[0])
    assert os.listdir(tmp_path) == ["x.parquet"]


def test_a_file_has_its_name_only_when_the_disk_has_its_content(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "fsync", lambda file: order.append("sync"))
    plain = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("rename"), plain(*names)))
    LocalPlace(tmp_path).write("x.parquet", pa.table({"a": [1]}))
    assert order == ["sync", "rename"]

"""Properties of the run store: what is written comes back, from whichever file it is read, and however it was asked."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import run_row

from scionlab.runs.schema import CURVES, IMPORTS, LAYERS, RUNS, SWEEPS, TIME, TRIAL
from scionlab.runs.store import RunStore

quick = settings(deadline=None, derandomize=True, max_examples=25)

texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(["", "Ωμέγα", "🙂" * 30, "a\nb\tc\x00d", "null", "x" * 70_000]),  # longer than a page of Parquet
)
VALUES = {
    pa.string(): texts,
    pa.int64(): st.integers(-(2**53), 2**53),  # a frame holds a column with a null as float64
    pa.float64(): st.floats(allow_nan=False),  # a table has null for what is no number
    pa.bool_(): st.booleans(),
    TIME: st.timedeltas(timedelta(0), timedelta(days=36_500)).map(
        lambda since: datetime(1990, 1, 1, tzinfo=UTC) + since
    ),
    pa.list_(pa.string()): st.lists(texts, max_size=3),
    pa.list_(pa.float64()): st.lists(st.floats(allow_nan=False), max_size=3),
}
ids = st.text("0123456789abcdef", min_size=16, max_size=16)


def rows_of(table, **fixed):
    """Any row that the dictionary allows, null wherever that may be."""
    free = {
        column.name: st.none() | VALUES[column.type] if column.null else VALUES[column.type]
        for column in table.columns
        if column.name not in (TRIAL.name, "schema_version", *fixed)
    }
    return st.fixed_dictionaries({**free, **fixed})


def steps(table):
    """Up to four rows of one trial, in the order of their steps."""
    some = st.lists(rows_of(table, step=st.integers(0, 2**40)), max_size=4, unique_by=lambda row: row["step"])
    return some.map(lambda rows: sorted(rows, key=lambda row: row["step"]))


trials = st.dictionaries(
    ids,
    st.tuples(
        rows_of(RUNS, status=st.sampled_from(["ok", "diverged", "error"])), steps(CURVES), steps(LAYERS).filter(bool)
    ),
    min_size=1,
    max_size=3,
)


def expected(table, rows):
    """Rows as a frame of the table, as pandas gives it for Arrow's types."""
    return pa.Table.from_pylist([{"schema_version": 1, **row} for row in rows], schema=table.schema).to_pandas()


@quick
@given(found=trials, data=st.data())
def test_any_rows_come_back_before_and_after_a_compaction_whole_or_in_part(tmp_path_factory, found, data):
    store = RunStore(tmp_path_factory.mktemp("store"))
    for key, (row, curve, layers) in found.items():
        store.write_run({"trial_id": key, **row}, curve, layers)
    order = sorted(found)
    rows = {
        RUNS: [{"trial_id": key, **found[key][0]} for key in order],
        CURVES: [{"trial_id": key, **point} for key in order for point in found[key][1]],
        LAYERS: [{"trial_id": key, **layer} for key in order for layer in found[key][2]],
    }
    chosen = data.draw(st.sets(st.sampled_from([*order, "absent"])))
    for _ in range(2):
        for table, whole in rows.items():
            read = getattr(store, table.name)
            pd.testing.assert_frame_equal(read(), expected(table, whole), check_exact=True)
            columns = data.draw(st.lists(st.sampled_from(table.schema.names), min_size=1, max_size=4, unique=True))
            part = expected(table, [row for row in whole if row["trial_id"] in chosen])
            pd.testing.assert_frame_equal(read(chosen), part, check_exact=True)
            pd.testing.assert_frame_equal(read(chosen, columns), part[columns], check_exact=True)
        assert store.finished() == {key for key in order if found[key][0]["status"] != "error"}
        store.compact()


@quick
@given(sweeps=st.dictionaries(ids, rows_of(SWEEPS, sweep_id=st.none()), min_size=1, max_size=3), data=st.data())
def test_any_sweeps_and_imports_come_back(tmp_path_factory, sweeps, data):
    store = RunStore(tmp_path_factory.mktemp("store"))
    rows = [row | {"sweep_id": key} for key, row in sweeps.items()]
    for row in rows:
        store.write_sweep(row)
    rows.sort(key=lambda row: (row["started_at"], row["sweep_id"]))
    pd.testing.assert_frame_equal(store.sweeps(), expected(SWEEPS, rows), check_exact=True)
    imported = data.draw(st.lists(rows_of(IMPORTS, trial_id=ids, name=st.just("mine")), max_size=3))
    imported = [{**row, "row": number} for number, row in enumerate(imported)]
    store.write_import("mine", imported)
    pd.testing.assert_frame_equal(store.imports("mine"), expected(IMPORTS, imported), check_exact=True)


WRITER = """
import sys
sys.path.insert(0, "tests/laws")
from synthetic import curve_rows, run_row
from scionlab.runs.store import RunStore

store, own = RunStore(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(40):
    for trial_id, width in ((f"{own}-{i}", 32), (f"shared-{i}", 64)):
        store.write_run(run_row(trial_id, "adam", width, 0.1, i, 2.0), curve_rows(2.0))
"""


def test_writers_at_once_leave_every_row_once(tmp_path):
    root = tmp_path / "runs"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(root), name], text=True, stdin=-1, stdout=-1)
        for name in ("one", "two", "three")
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    store = RunStore(root)
    while any(writer.poll() is None for writer in writers):
        seen = store.runs()  # of whole files, at any time
        assert seen["trial_id"].is_unique
        assert set(store.curves(columns=["trial_id"])["trial_id"]) >= set(seen["trial_id"])
    for writer in writers:
        writer.stdin.close()
        writer.stdout.close()
        assert writer.wait() == 0
    runs = store.runs()
    assert sorted(runs["trial_id"]) == sorted(
        f"{name}-{i}" for name in ("one", "two", "three", "shared") for i in range(40)
    )
    one = expected(RUNS, [run_row("shared-7", "adam", 64, 0.1, 7, 2.0)])
    pd.testing.assert_frame_equal(store.runs(["shared-7"]), one, check_exact=True)
    assert not list(root.rglob("*.tmp"))

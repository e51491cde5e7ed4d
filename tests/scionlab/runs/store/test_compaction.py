"""Compaction loses no row and doubles none: after a kill at any step, beside writers and readers, and twice at once."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import write
from synthetic_scale import batch_rows, comparison_rows, transfer_rows, write_large

from analysis.fits.cells import budgets_of, table_of_cells
from analysis.pipeline import fit_results
from scionlab.errors import UserError
from scionlab.runs.schema import CURVES, LAYERS, RUNS
from scionlab.runs.store import RunStore
from scionlab.runs.store import compaction as module
from scionlab.runs.store.folder import COMPACTED, TableFolder, row_groups

ROOT = Path(__file__).parents[4]
CALLS = ("replace", "rename", "unlink", "fsync")  # what compaction does to the disk


class Killed(BaseException):
    """A process that ends here, and does nothing more."""


class Kill:
    """Ends the process at the n-th change to the disk, before or after it; from then on nothing reaches the disk."""

    def __init__(self, monkeypatch, at, after):
        self.at, self.after, self.count = at, after, 0
        for name in CALLS:
            monkeypatch.setattr(os, name, self.watched(getattr(os, name)))

    def watched(self, call):
        def change(*arguments, **options):
            self.count += 1
            if self.count == self.at and self.after:
                call(*arguments, **options)
            if self.count >= self.at:
                raise Killed
            return call(*arguments, **options)

        return change


def read(store):
    """Its tables, and the trials that it calls finished."""
    return [store.runs(), store.curves(), store.layers()], store.finished()


def assert_same(store, twin):
    """`twin` is another store, or what was read of one."""
    (tables, finished), (expected, of_twin) = read(store), read(twin) if isinstance(twin, RunStore) else twin
    for table, other in zip(tables, expected, strict=True):
        pd.testing.assert_frame_equal(table, other, check_exact=True)
    assert finished == of_twin


def assert_whole(store, twin):
    """Nothing is lost, and the next compaction clears up what was left."""
    assert_same(store, twin)
    store.compact()
    assert_same(store, twin)
    assert not leftovers(store.root)


def leftovers(root):
    return [path for path in root.rglob(".*") if path.suffix in (".tmp", ".retired")]


@pytest.fixture
def pair(tmp_path):
    """A store with what compaction must tell apart, and its twin that is never compacted."""
    store, twin = RunStore(tmp_path / "runs"), RunStore(tmp_path / "twin")
    for one in (store, twin):
        write(one, "b")
        write(one, "c", "error", rows=0)
        write(one, "d", "diverged")
    store.compact()
    for one in (store, twin):
        write(one, "a", layers=0)
        write(one, "b", loss=1.5, rows=5)  # trained again by another sweep
        write(one, "c", loss=1.0)  # the failed one, tried again
        write(one, "e", "error")
    return store, twin


def test_one_file_per_table_holds_all_finished_trials(pair):
    store, twin = pair
    done = {table.table: table for table in store.compact()}
    assert_same(store, twin)
    assert (done["runs"].merged, done["runs"].left, done["runs"].rows) == (3, 1, 4)
    assert done["curves"].rows == 3 + 5 + 3 + 3
    for table in (RUNS, CURVES, LAYERS):
        folder = store.root / table.name
        assert {path.name for path in folder.iterdir()} == {COMPACTED, "e.parquet"}
        ids = pq.read_table(folder / COMPACTED)["trial_id"].to_pylist()
        assert ids == sorted(ids)
        assert pq.read_schema(folder / COMPACTED).equals(table.schema, check_metadata=True)
    assert list(store.runs()["trial_id"]) == list(pd.read_parquet(store.root / "runs")["trial_id"]) == list("abcde")


def test_a_second_compaction_has_nothing_to_do(pair):
    store, _ = pair
    store.compact()
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*.parquet")}
    assert [table.merged for table in store.compact()] == [0, 0, 0, 0]
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*.parquet")} == before


def test_a_small_file_wins_over_the_compacted_rows(pair):
    store, twin = pair
    store.compact()
    for one in (store, twin):
        write(one, "a", "error", rows=0)  # without a curve: none of the old one may show
        write(one, "d", loss=1.25, rows=1)
    assert_same(store, twin)
    assert "a" not in store.finished()
    assert store.curves(["a"]).empty
    assert list(store.curves(["d", "b"])["trial_id"]) == ["b"] * 5 + ["d"]
    store.compact()
    assert_same(store, twin)


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_step_loses_and_doubles_nothing(pair, after, tmp_path):
    store, twin = pair
    later = RunStore(shutil.copytree(twin.root, tmp_path / "later"))
    write(later, "a", loss=1.75)
    before, afterwards = read(twin), read(later)  # once: these two change no more
    for n in range(1, 100):
        copy = RunStore(shutil.copytree(store.root, tmp_path / f"copy-{n}"))
        with pytest.MonkeyPatch.context() as patch:
            kill = Kill(patch, n, after)
            with contextlib.suppress(Killed):
                copy.compact()
        assert_same(copy, before)
        write(copy, "a", loss=1.75)
        assert_whole(copy, afterwards)
        if kill.count < n:
            break
    assert n > 30  # 3 tables × (2 fsync + 1 replace), 11 small files × (rename + unlink), temporary files


STALL = """
import os, sys
from scionlab.runs.store import RunStore
count, at = 0, int(sys.argv[2])
def stalling(call):
    def change(*arguments, **options):
        global count
        count += 1
        if count == at:
            print("here", flush=True)
            sys.stdin.read()
        return call(*arguments, **options)
    return change
for name in {calls}:
    setattr(os, name, stalling(getattr(os, name)))
RunStore(sys.argv[1]).compact()
"""


@pytest.fixture
def stalled(pair):
    """Starts a compaction in a process of its own that stops before its n-th change to the disk."""
    processes = []

    def start(at):
        command = [sys.executable, "-c", STALL.format(calls=CALLS), str(pair[0].root), str(at)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        processes.append(process)
        assert process.stdout.readline() == "here\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("at", [1, 2, 6])
def test_a_killed_process_frees_the_lock_and_leaves_a_whole_store(pair, stalled, at):
    store, twin = pair
    process = stalled(at)
    with pytest.raises(UserError, match="is being compacted by another process; nothing was done"):
        store.compact()
    assert_same(store, twin)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert_whole(store, twin)


def test_the_other_compaction_goes_on(pair, stalled):
    store, twin = pair
    process = stalled(3)
    with pytest.raises(UserError, match="another process"):
        store.compact()
    process.communicate("\n")
    assert process.returncode == 0
    assert_same(store, twin)
    assert store.small_files() == 1


@pytest.mark.parametrize("at", range(1, 12))
def test_what_is_written_meanwhile_stays(pair, monkeypatch, at):
    store, twin = pair
    real = {name: getattr(os, name) for name in CALLS}
    count = 0

    def writing(name):
        def change(*arguments, **options):
            nonlocal count
            count += 1
            if count == at:
                for other in CALLS:
                    monkeypatch.setattr(os, other, real[other])
                for one in (store, twin):
                    write(one, "a", loss=1.125, rows=4, layers=3)  # is being merged
                    write(one, "e", loss=1.25)  # failed until now
                    write(one, "new")
            return real[name](*arguments, **options)

        return change

    for name in CALLS:
        monkeypatch.setattr(os, name, writing(name))
    store.compact()
    assert count == at
    assert_whole(store, twin)


def test_a_file_that_vanishes_between_listing_and_reading_is_looked_for_again(pair, monkeypatch):
    store, twin = pair
    listed, real = [], TableFolder.small

    def then_compact(folder):
        found = real(folder)
        if not listed:
            listed.append(found)
            monkeypatch.setattr(TableFolder, "small", real)
            store.compact()
        return found

    monkeypatch.setattr(TableFolder, "small", then_compact)
    pd.testing.assert_frame_equal(store.curves(), twin.curves())
    assert set(listed[0]) == {"a", "b", "c", "e"}


def test_a_link_to_nowhere_is_named(pair):
    store, _ = pair
    (store.root / "runs" / "f.parquet").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"is not one of this store: f\.parquet: .*Failed to open"):
        store.runs()


WRITER = """
import sys
sys.path[:0] = {helpers!r}
from stores import write
from scionlab.runs.store import RunStore
store = RunStore(sys.argv[1])
for i in range(150):
    write(store, f"{{i * 7919 % 1000:03}}", "error" if i % 5 == 0 else "ok", loss=1 + i / 1024)
    if i % 5 == 1:
        write(store, f"{{(i - 1) * 7919 % 1000:03}}", loss=1 + i / 1024)
print("done")
"""


def test_a_sweep_readers_and_compactions_at_once(tmp_path):
    store, twin = RunStore(tmp_path / "runs"), RunStore(tmp_path / "twin")
    code = WRITER.format(helpers=[str(ROOT / "tests" / folder) for folder in ("laws", "support")])
    command = [sys.executable, "-c", code]
    subprocess.run([*command, str(twin.root)], check=True, cwd=ROOT, capture_output=True)
    writer = subprocess.Popen([*command, str(store.root)], cwd=ROOT, stdout=subprocess.PIPE)
    compactions, failures = [], []

    def compact():
        while writer.poll() is None:
            if (store.root / "runs").is_dir():
                compactions.append(sum(table.merged for table in store.compact()))

    thread = threading.Thread(target=compact)
    thread.start()
    seen: set[str] = set()
    while thread.is_alive():
        finished, curves = store.finished(), store.curves(columns=["trial_id", "step"])
        if not seen <= finished or curves.duplicated().any():
            failures.append((seen - finished, curves[curves.duplicated()]))
        seen |= finished
        time.sleep(0.005)
    thread.join()
    assert writer.communicate()[0] == b"done\n"
    assert not failures
    assert sum(count > 0 for count in compactions) > 1
    store.compact()
    columns = ["trial_id", "step", "train_loss"]
    pd.testing.assert_frame_equal(store.runs(), twin.runs())
    pd.testing.assert_frame_equal(store.curves()[columns], twin.curves()[columns])


TRIALS = st.sampled_from(["a", "ab", "b", "c"])
WRITES = st.tuples(
    st.just("write"), TRIALS, st.sampled_from(["ok", "diverged", "error"]), st.integers(0, 3), st.integers(0, 2)
)
COMPACTS = st.just(("compact",))
KILLS = st.tuples(st.just("kill"), st.integers(1, 30), st.booleans())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(WRITES, WRITES, COMPACTS, KILLS), max_size=10))
def test_no_sequence_of_writes_and_compactions_changes_what_is_read(tmp_path_factory, steps):
    root = tmp_path_factory.mktemp("stores")
    store, twin = RunStore(root / "runs"), RunStore(root / "twin")
    for one in (store, twin):
        write(one, "z")
    expected = read(twin)
    for number, (what, *arguments) in enumerate(steps):
        if what == "write":
            trial, status, rows, layers = arguments
            for one in (store, twin):
                write(one, trial, status, 1 + number, rows, layers)
            expected = read(twin)
        elif what == "compact":
            store.compact()
        else:
            with pytest.MonkeyPatch.context() as patch:
                Kill(patch, *arguments)
                with contextlib.suppress(Killed):
                    store.compact()
        assert_same(store, expected)


def test_row_groups_of_other_trials_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP", 64)
    store = RunStore(tmp_path)
    ids = [f"{i:04}" for i in range(100)]
    for i, trial in enumerate(ids):
        write(store, trial, loss=1 + i, rows=32)
    whole = store.curves()
    store.compact()
    metadata = pq.read_metadata(tmp_path / "curves" / COMPACTED)
    assert metadata.num_row_groups == 50
    assert row_groups(metadata, "trial_id", ["0050", "0098", "x"]) == [25, 49]
    assert row_groups(metadata, "trial_id", []) == []
    assert len(row_groups(metadata, "trial_id", None)) == 50
    expected = whole[whole["trial_id"].isin(["0050", "0098"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(store.curves(["0098", "0050", "x"]), expected)
    pd.testing.assert_frame_equal(store.curves(), whole)


def test_many_small_files_and_an_old_compacted_one_merge_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP", 7)
    monkeypatch.setattr(module, "AT_ONCE", 3)
    store, twin, rng = RunStore(tmp_path / "runs"), RunStore(tmp_path / "twin"), np.random.default_rng(0)
    for start in range(3):
        for number in rng.permutation(40)[: 25 + start]:
            for one in (store, twin):
                write(one, f"{number:02}", loss=1 + start, rows=int(number) % 11, layers=int(number) % 3)
        store.compact()
        assert_same(store, twin)
    assert store.small_files() == 0


def test_columns_and_trials_that_are_asked_for(pair):
    store, twin = pair
    columns = ["val_loss", "trial_id"]
    pd.testing.assert_frame_equal(store.runs(columns=columns), twin.runs()[columns])
    assert list(store.runs(["d", "a"], ["val_loss"]).columns) == ["val_loss"]
    assert list(store.runs(["d", "a"])["trial_id"]) == ["a", "d"]
    assert store.runs([]).empty
    pd.testing.assert_frame_equal(store.layers(["d", "b"], ["step"]), twin.layers(["b", "d"])[["step"]])
    assert store.finished(["a", "e", "x"]) == {"a"}
    assert store.with_curve() == set("abcde")
    assert store.probes().empty
    pd.testing.assert_frame_equal(store.losses(["b"]), twin.curves(["b"])[["trial_id", "step", "tokens", "train_loss"]])


def test_columns_of_a_newer_version_are_not_lost(pair):
    store, _ = pair
    path = store.root / "runs" / "a.parquet"
    newer = pq.read_table(path).append_column("flavour", pa.array(["sweet"]))
    pq.write_table(newer, path)
    with pytest.raises(UserError, match=r"a\.parquet' has columns that this version does not know \(flavour\)"):
        store.compact()
    assert pq.read_table(path).equals(newer)
    assert "a" in store.finished()
    assert not leftovers(store.root)


def test_files_from_before_a_column_was_added_are_merged(pair):
    store, twin = pair
    for one in (store, twin):
        path = one.root / "runs" / "a.parquet"
        pq.write_table(pq.read_table(path).drop_columns(["stages", "val_accuracy"]), path)
    store.compact()
    assert_same(store, twin)


def test_without_a_store_there_is_nothing_to_compact(tmp_path):
    with pytest.raises(UserError, match="there is nothing to compact"):
        RunStore(tmp_path / "nothing").compact()
    assert not (tmp_path / "nothing").exists()


def test_the_lock_is_one_for_the_whole_store(pair):
    store, twin = pair
    with filelock.FileLock(store.root / module.LOCK), pytest.raises(UserError, match="another process"):
        store.compact()
    store.compact()
    assert_same(store, twin)


def test_the_command_says_what_it_did(pair, clean_environment):
    store, twin = pair
    results = store.root.parent
    command = [sys.executable, "-m", "scionlab", "compact", "--results", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment, check=True)
    curves, layers, scores, runs = done.stdout.splitlines()
    assert curves.startswith("curves: 3 small files merged, 1 left; 14 rows in ")
    assert layers.startswith("layers: 2 small files merged, 1 left; 6 rows in ")
    assert scores.startswith("scores: 0 small files merged")
    assert runs.startswith("runs: 3 small files merged, 1 left; 4 rows in ")
    assert_same(store, twin)
    missing = subprocess.run([*command[:-1], str(results / "no")], capture_output=True, text=True, check=False)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)


def test_many_small_files_are_said_to_be_worth_it(pair, monkeypatch, capsys):
    from scionlab.cli import compact

    monkeypatch.setattr(compact, "MANY", 4)
    results = pair[0].root.parent
    compact.suggest(results)
    assert "4 small files; `scionlab compact --results" in " ".join(capsys.readouterr().err.split())
    pair[0].compact()
    compact.suggest(results)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("rows", "study"), [(transfer_rows, "lr-transfer"), (comparison_rows, "comparison")])
def test_a_fit_reads_no_curves(tmp_path, monkeypatch, rows, study):
    told = '{"across": "batch_size"}' if study == "comparison" else None
    write_large(tmp_path / "runs", list(rows(660)), 2, study=study, settings=told)
    monkeypatch.setattr(RunStore, "curves", None)
    monkeypatch.setattr(RunStore, "losses", None)
    monkeypatch.setattr(RunStore, "layers", None)
    assert fit_results(tmp_path, None, "laptop").fit.as_dict()


def test_the_large_batch_sweep_has_every_cell(tmp_path):
    rows = list(batch_rows(2112))
    store = write_large(tmp_path, rows, 1)
    budgets = budgets_of(table_of_cells(store.runs()))
    assert len(budgets) == 8
    assert all(len(budget.cells) == 12 for budget in budgets)

"""Bad days: what goes wrong around a sweep ends with a clear sentence, and nothing that was finished is lost.

Drivers that are killed or asked to stop are in test_stop.py, workers that die in test_tasks.py, nodes that die in the
tests of clusters, compactions that are killed in test_compaction.py. benchmarks/bad_days.py tries the same with real
disks, from the shell.
"""

import contextlib
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest
from forked import Forked
from rich.console import Console
from typer.testing import CliRunner

from analysis.tables.sweep import load_sweep
from scionlab.errors import UserError
from scionlab.runs.schema import CURVES, RUNS, SWEEPS
from scionlab.runs.store import RunStore, damage, places
from scionlab.sweep import calls, run_sweep, stacking
from scionlab.sweep import job as job_module
from scionlab.sweep import run as run_module

GO_ON = "then run the same command again"


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No trial is timed for a stack, and no reader has been told of a damaged file."""
    monkeypatch.setattr(stacking, "SMALL", 0.0)
    monkeypatch.setattr(damage, "_told", set())


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results" / "runs")


@pytest.fixture
def sweep(experiment, tiny, store):
    """Calls a sweep of four trials, and counts those that were trained; a `disaster` strikes while the third trains."""
    spec, real = experiment(*(tiny(seed=seed) for seed in range(4))), job_module.Run

    def call(disaster=None, executor="inline", console=None, **options):
        trained = []

        def begin(trial, *arguments):
            trained.append(trial.seed)
            if disaster and len(trained) == 3:
                disaster()
            return real(trial, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            if executor == "inline":
                patch.setattr(job_module, "Run", begin)
            try:
                run_sweep(spec, "smoke", store, console or Console(file=io.StringIO()), executor, **options)
            except UserError as error:
                return len(trained), str(error)
        return len(trained), None

    return call


def whole(store):
    """All four trials are there, once, with their curves, and nothing else is."""
    runs, curves = store.runs(), store.curves()
    assert list(runs["status"]) == ["ok"] * 4
    assert runs["trial_id"].is_unique
    assert set(curves["trial_id"]) == set(runs["trial_id"])
    assert not curves.duplicated(["trial_id", "step"]).any()
    assert not list(store.root.rglob("*.tmp"))
    return True


# A store that cannot be written to any more


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=["full", "read-only", "broken"])
def test_a_disk_that_refuses_stops_the_sweep_with_one_sentence_and_keeps_what_is_finished(sweep, store, number):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        trained, message = sweep(lambda: patch.setattr(places.pq, "write_table", refuse))
    assert trained == 3  # and not the fourth
    assert message.startswith(f"results: cannot write to '{store.root}/")
    assert os.strerror(number) in message
    assert GO_ON in message
    assert "\n" not in message
    assert len(store.runs()) == 2
    assert sweep() == (2, None)
    assert whole(store)


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MB for the results, mounted, as root can: its path, and a function that mounts it read-only."""
    path = tmp_path / "results"
    path.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", path], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small disk needs root on Linux")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_disk_that_is_really_full(sweep, store, disk):
    filler = disk / "filler"

    def fill():
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    trained, message = sweep(fill)
    assert (trained, len(store.runs())) == (3, 2)
    assert "no room is left" in message
    assert GO_ON in message
    filler.unlink()
    assert sweep() == (2, None)
    assert whole(store)


def test_a_disk_that_is_really_read_only(sweep, store, disk):
    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)

    trained, message = sweep(lambda: remount("ro"))
    assert (trained, len(store.runs())) == (3, 2)
    assert "Read-only file system" in message
    assert "make the folder writable" in message
    refused = sweep()
    assert refused[0] == 0
    assert refused[1].startswith("results: cannot write to ")
    remount("rw")
    assert sweep() == (2, None)
    assert whole(store)


def test_results_that_are_removed_stop_the_sweep_and_are_not_made_anew(sweep, store):
    trained, message = sweep(lambda: shutil.rmtree(store.root.parent))
    assert trained == 3
    assert "has been removed or moved away since the sweep began" in message
    assert GO_ON in message
    assert len(store.runs()) == 1  # the trial that was under way, and nothing pretends that there were more
    assert store.sweeps().empty
    assert sweep() == (3, None)
    assert whole(store)


def test_results_that_were_moved_away_and_are_put_back_are_gone_on_with(sweep, store):
    away = store.root.parent.with_name("away")
    assert sweep(lambda: store.root.parent.rename(away))[0] == 3
    shutil.rmtree(store.root.parent)
    away.rename(store.root.parent)
    assert sweep() == (2, None)
    assert whole(store)


@pytest.mark.slow
def test_under_ray_a_store_that_cannot_be_written_to_stops_the_sweep_too(sweep, store, ray_here):
    curves, saved = store.root / "curves", store.root / "saved"

    def obstruct():
        while not store.root.joinpath("runs").is_dir() or not len(store.runs()):
            time.sleep(0.01)
        curves.rename(saved)
        curves.write_text("a file where the folder was")

    thread = threading.Thread(target=obstruct)
    thread.start()
    _, message = sweep(executor="ray", workers=1, address=ray_here)
    thread.join()
    kept = len(store.runs())
    if message is None:
        pytest.skip("the sweep was faster than the disaster")
    assert message.startswith(f"results: cannot write to '{curves}'")
    assert 1 <= kept < 4
    assert set(store.runs()["status"]) == {"ok"}  # nobody is told that a worker died
    curves.unlink()
    saved.rename(curves)
    assert sweep() == (4 - kept, None)
    assert whole(store)


# Files that cannot be read


def torn(path):
    path.write_bytes(path.read_bytes()[:-50])


def emptied(path):
    path.write_bytes(b"")


def foreign(path):
    pd.DataFrame({"x": [1.0]}).to_parquet(path)


def copied(path):
    other = next(other for other in sorted(path.parent.glob("*.parquet")) if other != path)
    shutil.copy(other, path)


@pytest.mark.parametrize("harm", [torn, emptied, foreign, copied])
def test_a_damaged_trial_is_told_of_left_out_and_trained_again(harm, sweep, store, caplog):
    sweep()
    path = sorted((store.root / "runs").glob("*.parquet"))[1]
    harm(path)
    assert len(store.runs()) == 3
    assert len(store.runs()) == 3
    (told,) = caplog.messages  # once
    assert told.startswith(f"warning: results: a file cannot be read and is left out: {path} (")
    assert "call its sweep again, which trains it and replaces the file" in told
    assert [file.path for file in store.damaged()] == [str(path)]
    assert load_sweep(store.root.parent, "tiny", "smoke").missing == 1
    store.compact()
    assert len(store.runs()) == 3
    assert path.exists()
    assert sweep() == (1, None)
    assert store.damaged() == []
    assert whole(store)


def test_a_stranger_in_the_store_is_named_and_disturbs_nobody(sweep, store, caplog):
    sweep()
    (store.root / "runs" / "notes.parquet").write_text("not Parquet")
    (store.root / "runs" / "notes.txt").write_text("nobody reads this")
    assert whole(store)
    assert "notes.parquet" in caplog.text
    assert "notes.txt" not in caplog.text
    assert sweep() == (0, None)


def test_of_many_damaged_files_some_are_named_and_the_rest_counted(tmp_path, sweep, store, caplog):
    sweep()
    for i in range(5):
        (store.root / "runs" / f"{i}.parquet").write_text("not Parquet")
    assert whole(store)
    (told,) = caplog.messages
    assert "5 files cannot be read and are left out" in told
    assert told.count("magic bytes") + told.count("smaller than") == damage.LISTED
    assert "; and 2 more; " in told


def test_a_damaged_curve_costs_only_its_rows_and_a_compaction_does_not_drop_it(sweep, store, caplog):
    sweep()
    path = sorted((store.root / "curves").glob("*.parquet"))[0]
    torn(path)
    assert store.curves()["trial_id"].nunique() == 3
    assert "remove it and the file of the same name in runs/" in caplog.text
    with pytest.raises(UserError, match=f"is not one of this store: {path.name}: .*; remove it, or put a whole copy"):
        store.compact()
    path.unlink()
    (store.root / "runs" / path.name).unlink()
    assert sweep() == (1, None)
    assert whole(store)


@pytest.mark.parametrize("harm", [torn, foreign])
def test_a_damaged_compacted_file_is_refused_as_thousands_of_trials_hang_on_it(harm, sweep, store):
    sweep()
    store.compact()
    path = store.root / "runs" / "compacted.parquet"
    kept = path.read_bytes()
    harm(path)
    trained, message = sweep()
    assert trained == 0
    assert "is not one of this store: compacted.parquet: " in message
    assert "put a whole copy in its place" in message
    path.write_bytes(kept)
    assert sweep() == (0, None)


def test_what_the_disk_refuses_to_read_is_not_taken_for_damage(sweep, store, monkeypatch):
    sweep()

    def refuse(self, name):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(places.LocalPlace, "open", refuse)
    with pytest.raises(UserError, match="Input/output error"):
        store.runs()


# Two at once, and memory

SCIONLAB = [sys.executable, "-m", "scionlab"]


def test_two_sweeps_of_one_experiment_at_once_leave_every_row_once(spec_file, tmp_path, clean_environment):
    path = spec_file([0.01, 0.02], seeds=1)
    asked = ["run", path, "--preset", "smoke", "--executor", "inline", "--stack", "1"]
    outputs = [tmp_path / "one.txt", tmp_path / "other.txt"]
    both = [Forked(asked, clean_environment, tmp_path, output) for output in outputs]
    for process, output in zip(both, outputs, strict=True):
        assert process.wait(timeout=120) == 0, output.read_text()
    store = RunStore(tmp_path / "results" / "runs")
    runs = store.runs()
    assert (len(runs), set(runs["status"])) == (4, {"ok"})
    assert not store.curves().duplicated(["trial_id", "step"]).any()
    assert list(store.sweeps()["status"]) == ["done", "done"]
    assert not list(tmp_path.rglob("*.tmp"))


OF_TOO_MUCH = """
import io, json, resource, sys
import torch
from rich.console import Console
from scionlab.spec import Experiment, Preset, Trial
from scionlab.runs.store import RunStore
from scionlab.sweep import How, run_sweep

fields = json.loads(sys.argv[2])
grid = [Trial(**fields), Trial(**fields | {"width": 8192, "head_dim": 8192}), Trial(**fields | {"seed": 1})]
spec = Experiment(name="big", title="", question="", presets={"smoke": Preset(trials=tuple(grid))})
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 2**29
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
run_sweep(spec, "smoke", RunStore(sys.argv[1]), Console(file=io.StringIO()), "inline", how=How("never", 1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_a_trial_that_needs_more_memory_than_there_is_fails_alone(tiny, tmp_path):
    fields = tiny().model_dump_json()
    command = [sys.executable, "-c", OF_TOO_MUCH, str(tmp_path / "runs"), fields]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = RunStore(tmp_path / "runs").runs().set_index("width")
    assert list(runs.loc[16, "status"]) == ["ok", "ok"]
    assert runs.loc[8192, "status"] == "error"
    assert "memory" in runs.loc[8192, "error"].splitlines()[-1].lower()


# A clock that jumps


class Yesterday(datetime):
    """A clock that was put back by a day."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) - timedelta(days=1)


def test_a_clock_that_is_put_back_changes_no_durations_and_not_which_call_is_the_newest(sweep, store, monkeypatch):
    sweep()
    (first,) = store.sweeps()["sweep_id"]
    for row in store.runs().to_dict("records")[:2]:
        (store.root / "runs" / f"{row['trial_id']}.parquet").unlink()
    for module in (calls, run_module, job_module):
        monkeypatch.setattr(module, "datetime", Yesterday)
    console = Console(file=io.StringIO(), width=80)
    assert sweep(console=console) == (2, None)
    printed = console.file.getvalue()
    assert "warning: the clock says " in printed
    assert "so that it is the newest" in printed
    newest = load_sweep(store.root.parent, "tiny", "smoke").sweep
    assert newest["sweep_id"] != first
    assert newest["n_trained"] == 2
    assert 0 < newest["wall_time_s"] < 60
    assert store.runs()["wall_time_s"].between(0, 60).all()
    assert whole(store)


def test_a_clock_that_jumps_while_a_trial_trains_changes_no_durations(sweep, store, monkeypatch):
    real = time.time
    assert sweep(lambda: monkeypatch.setattr(time, "time", lambda: real() - 86_400)) == (4, None)
    assert store.runs()["wall_time_s"].between(0, 60).all()
    assert 0 < store.sweeps()["wall_time_s"].item() < 60


# Stores of other versions

# The columns of the first version; all others came later, and files may lack them.
FIRST = {
    RUNS: "trial_id schema_version experiment preset status error optimizer model width depth head_dim tied residual "
    "n_params n_params_hidden vocab_size batch_size seq_len tokens tokens_budget steps steps_done epochs lr momentum "
    "schedule seed initial_loss val_loss train_loss wall_time_s tokens_per_s flops device dtype val_tokens data "
    "data_sha256 scionlab_version git_commit torch_version machine started_at spec",
    CURVES: "trial_id schema_version step tokens lr train_loss",
    SWEEPS: "sweep_id schema_version experiment preset title question status executor workers n_trials n_trained "
    "trial_seconds wall_time_s machine scionlab_version git_commit started_at trial_ids",
}


def rewrite(store, change):
    """Change every file of the store, whatever table it is of."""
    for table in FIRST:
        for path in (store.root / table.name).glob("*.parquet"):
            pq.write_table(change(table, pq.read_table(path)), path)


def command(*arguments):
    from scionlab.cli import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_store_of_the_first_version_is_read_gone_on_with_and_compacted(sweep, store):
    sweep()
    before = store.runs()
    rewrite(store, lambda table, rows: rows.select(FIRST[table].split()))
    columns = FIRST[RUNS].split()
    pd.testing.assert_frame_equal(store.runs(columns=columns), before[columns])
    assert whole(store)
    store.root.joinpath("runs", f"{before['trial_id'][0]}.parquet").unlink()
    assert sweep() == (1, None)
    status = command("status", "--json", "--results", store.root.parent)
    assert status.exit_code == 0, status.exception
    assert json.loads(status.stdout)["sweeps"][0]["ok"] == 4
    fitted = command("fit", "tiny", "--study", "lr-transfer", "--preset", "smoke", "--results", store.root.parent)
    assert fitted.exit_code == 0 or isinstance(fitted.exception, UserError), fitted.exception
    store.compact()
    assert whole(store)


def test_columns_of_a_newer_version_are_read_over_and_kept(sweep, store):
    sweep()
    rewrite(store, lambda table, rows: rows.append_column("added_later", [["x"] * len(rows)]))
    assert whole(store)
    assert sweep() == (0, None)
    for path in (store.root / "runs").glob("*.parquet"):
        assert "added_later" in pq.read_schema(path).names
    with pytest.raises(UserError, match="has columns that this version does not know"):
        store.compact()


@pytest.mark.parametrize("compacted", [False, True])
def test_a_store_whose_columns_mean_something_else_is_refused_untouched(compacted, sweep, store):
    sweep()
    if compacted:
        store.compact()
    rewrite(store, lambda table, rows: rows.replace_schema_metadata({"scionlab_schema_version": "2"}))
    before = {path: path.read_bytes() for path in store.root.rglob("*.parquet")}
    trained, message = sweep()
    assert trained == 0
    assert "was written by a newer version of scionlab (schema 2; this one knows 1): update scionlab" in message
    refused = command("status", "--results", store.root.parent)
    assert isinstance(refused.exception, UserError)
    assert {path: path.read_bytes() for path in store.root.rglob("*.parquet")} == before


def test_warnings_of_damage_reach_the_terminal_as_one_plain_line(tmp_path, store, sweep, clean_environment):
    sweep()
    torn(sorted((store.root / "runs").glob("*.parquet"))[0])
    asked = [*SCIONLAB, "status", "--results", str(store.root.parent)]
    done = subprocess.run(asked, capture_output=True, text=True, env=clean_environment, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: results: a file cannot be read and is left out: ")
    assert len(done.stderr.splitlines()) == 1

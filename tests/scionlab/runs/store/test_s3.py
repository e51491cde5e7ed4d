"""A store in an S3 bucket keeps the contract of one on a disk; what S3 refuses is said in a sentence."""

import pickle
from pathlib import Path

import forked
import pandas as pd
import pytest
import s3
from synthetic import curve_rows, fill, run_row, sweep_row

from scionlab.errors import UserError
from scionlab.runs.schema import LAYERS
from scionlab.runs.store import RunStore
from scionlab.runs.store.folder import COMPACTED
from scionlab.runs.store.places import join
from scionlab.runs.where import ResultsPlace

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def endpoint():
    with pytest.MonkeyPatch.context() as patch, s3.serving() as endpoint:
        for name, value in s3.CREDENTIALS.items():
            patch.setenv(name, value)
        yield endpoint


@pytest.fixture(params=["disk", "file URL", "bucket"])
def store(request, tmp_path, endpoint):
    """An empty store at each kind of place."""
    places = {
        "disk": str(tmp_path / "runs"),
        "file URL": (tmp_path / "a folder" / "runs").as_uri(),
        "bucket": s3.url(endpoint, f"{tmp_path.name}/a%20prefix/runs"),
    }
    return RunStore(places[request.param])


@pytest.fixture
def bucket(tmp_path, endpoint):
    """An empty store in the bucket."""
    return RunStore(s3.url(endpoint, f"{tmp_path.name}/runs"))


def write(store, trial_id, status="ok", loss=2.0, rows=3, layers=0):
    row = run_row(trial_id, "adam", 32, 2**-5, 0, loss if status == "ok" else None) | {"status": status}
    blank = dict.fromkeys(name for name in LAYERS.schema.names if name not in ("trial_id", "schema_version"))
    layer = blank | {"tokens": 1, "layer": "w", "role": "hidden"}
    store.write_run(row, curve_rows(loss)[:rows], [layer | {"step": step} for step in range(layers)])


def test_what_is_written_is_read(store):
    assert store.runs().empty
    assert store.finished() == set()
    write(store, "b", layers=2)
    write(store, "a", "diverged", rows=5)
    write(store, "c", "error", rows=0)
    store.write_sweep(sweep_row(["a", "b", "c"]))
    assert list(store.runs()["trial_id"]) == ["a", "b", "c"]
    assert list(store.runs(["c", "b"], ["trial_id", "status"])["status"]) == ["ok", "error"]
    assert store.finished() == {"a", "b"}
    assert list(store.curves(["a", "b"])["trial_id"]) == ["a"] * 5 + ["b"] * 3
    assert list(store.layers()["step"]) == [0, 1]
    assert store.sweep_ids() == set(store.sweeps()["sweep_id"])
    assert store.small_files() == 3


def test_a_later_write_replaces_an_earlier_one(store):
    write(store, "a", "error", rows=0)
    assert store.finished() == set()
    write(store, "a", loss=1.5)
    assert store.finished() == {"a"}
    assert store.runs()["val_loss"].tolist() == [1.5]
    assert len(store.curves()) == 3


def test_a_checkpoint_is_replaced_and_removed_and_tables_do_not_mind(store):
    assert (store.checkpoints.load("a"), store.checkpoints.trial_ids()) == (None, set())
    write(store, "a")
    store.checkpoints.save("a", b"early")
    store.checkpoints.save("b", late := b"late" * 2**20)
    store.checkpoints.save("a", late)
    assert store.checkpoints.load("a") == late
    assert store.checkpoints.trial_ids() == {"a", "b"}
    assert (list(store.runs()["trial_id"]), store.finished(), store.damaged()) == (["a"], {"a"}, [])
    if store.on_disk:
        store.compact()
        assert sorted(path.name for path in (store.root / "checkpoints").iterdir()) == ["a.pt", "b.pt"]
    for _ in range(2):
        store.checkpoints.remove("a")
    assert store.checkpoints.trial_ids() == {"b"}


def test_no_checkpoint_is_written_where_the_folder_of_the_store_has_gone(tmp_path):
    with pytest.raises(UserError, match=r"checkpoint: cannot write '.*/a\.pt': '.*' has gone"):
        RunStore(tmp_path / "gone" / "runs").checkpoints.save("a", b"")
    assert not (tmp_path / "gone").exists()


def test_it_can_be_opened_elsewhere(store):
    write(store, "a")
    for same in (RunStore(store.url), pickle.loads(pickle.dumps(store))):
        pd.testing.assert_frame_equal(same.runs(), store.runs())
        assert same.url == store.url


def test_checking_that_it_can_be_written_leaves_no_file(store):
    store.check_writable()
    assert not any(store.place.below(table).names() for table in ("runs", "curves", "layers", "sweeps"))


def test_objects_are_named_as_files_are(bucket, tmp_path, endpoint):
    local = RunStore(tmp_path / "local")
    for one in (bucket, local):
        write(one, "a", layers=1)
        one.write_sweep(sweep_row(["a"]))
    names = sorted(path.relative_to(local.root).as_posix() for path in local.root.rglob("*.parquet"))
    assert s3.objects(endpoint, f"{tmp_path.name}/runs") == names


def test_a_compacted_store_can_be_copied_into_a_bucket(bucket, tmp_path, endpoint):
    local = RunStore(tmp_path / "local")
    for trial in "abc":
        write(local, trial)
    local.compact()
    for path in local.root.rglob("*.parquet"):
        name = path.relative_to(local.root).as_posix()
        s3.put(endpoint, f"{tmp_path.name}/runs/{name}", path.read_bytes())
    assert f"runs/{COMPACTED}" in s3.objects(endpoint, f"{tmp_path.name}/runs")
    for one in (bucket, local):
        write(one, "b", loss=1.25)
    pd.testing.assert_frame_equal(bucket.runs(), local.runs())
    pd.testing.assert_frame_equal(bucket.curves(["b", "c"]), local.curves(["b", "c"]))


def test_compaction_in_a_bucket_is_refused(bucket):
    write(bucket, "a")
    with pytest.raises(UserError, match="cannot be compacted, only a folder on a disk can"):
        bucket.compact()
    assert bucket.finished() == {"a"}


def test_a_write_that_breaks_off_leaves_the_old_object(bucket, monkeypatch):
    write(bucket, "a")

    class Broken:
        """A file system whose connection ends in the middle of a file."""

        def __init__(self, files):
            self.files = files

        def __getattr__(self, name):
            return getattr(self.files, name)

        def open_output_stream(self, path):
            raise OSError("When completing the upload: AWS Error NETWORK_CONNECTION")

    monkeypatch.setattr(bucket.place, "_files", Broken(bucket.place._files))
    with pytest.raises(UserError, match=r"cannot write to 's3://.*/runs/curves': .*NETWORK_CONNECTION"):
        write(bucket, "a", loss=1.0)
    with pytest.raises(UserError, match="cannot write to"):
        bucket.check_writable()
    assert bucket.runs()["val_loss"].tolist() == [2.0]


def test_a_bucket_that_does_not_exist_is_named(endpoint):
    store = RunStore(f"s3://elsewhere/prefix?endpoint_override={endpoint}&scheme=http&region=us-east-1")
    with pytest.raises(UserError, match=r"results: cannot write to 's3://elsewhere/prefix/runs': .*NO_SUCH_BUCKET"):
        store.check_writable()


def test_the_endpoint_may_come_from_the_environment(bucket, endpoint, monkeypatch, tmp_path):
    write(bucket, "a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint}")
    assert RunStore(f"s3://{s3.BUCKET}/{tmp_path.name}/runs?region=us-east-1").finished() == {"a"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket/prefix", "must be a folder, file:///… or s3://bucket/prefix"),
        ("s3:///prefix", "the bucket is missing"),
        ("s3://key:secret@bucket/prefix", "the URL holds credentials"),
        ("s3://bucket/prefix?flavour=sweet", "Unexpected query parameter"),
        ("file://results", "write three slashes"),
    ],
)
def test_other_urls_are_refused(url, message):
    with pytest.raises(UserError, match=message) as refused:
        RunStore(url)
    assert "secret@" not in str(refused.value)


@pytest.mark.parametrize(
    ("root", "joined"),
    [
        ("results", "results/runs"),
        ("/mnt/results/", "/mnt/results/runs"),
        ("s3://bucket", "s3://bucket/runs"),
        ("s3://bucket/a/?region=x", "s3://bucket/a/runs?region=x"),
        ("file:///mnt/a%20b", "file:///mnt/a%20b/runs"),
    ],
)
def test_names_go_before_the_query(root, joined):
    assert join(root, "runs") == joined


def test_fits_of_runs_in_a_bucket_go_to_a_folder_here(tmp_path):
    assert ResultsPlace("s3://bucket/prefix?region=us-east-1").folder == Path("results/s3/bucket/prefix")
    assert ResultsPlace(tmp_path.as_uri()).folder == tmp_path
    assert ResultsPlace(str(tmp_path)).folder == tmp_path
    there = ResultsPlace("s3://bucket/prefix").writing_to(tmp_path)
    assert (there.folder, there.to_option, str(there)) == (tmp_path, ["--to", str(tmp_path)], "s3://bucket/prefix")


@pytest.mark.slow
def test_commands_read_a_bucket_and_write_here(endpoint, tmp_path, clean_environment):
    where = s3.url(endpoint, f"{tmp_path.name}/results")
    store = fill(join(where, "runs"), seeds=1)
    environment = clean_environment | s3.CREDENTIALS

    def scionlab(*arguments):
        return forked.run(arguments, environment, tmp_path)

    fitted = scionlab("fit", "--results", where, "--to", "here")
    assert fitted.returncode == 0, fitted.stderr
    assert "written: here/fits/" in fitted.stdout
    assert list((tmp_path / "here" / "fits").rglob("*.json"))
    assert scionlab("export", "--results", where, "--output", "runs.csv").returncode == 0
    assert len(pd.read_csv(tmp_path / "runs.csv")) == len(store.runs())
    wrong = where.replace("sweeps/", "elsewhere/", 1)
    for arguments in (["compact", "--results", where], ["fit", "--results", wrong], ["tune", "--results", where]):
        refused = scionlab(*arguments)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
    assert not (tmp_path / "results").exists()

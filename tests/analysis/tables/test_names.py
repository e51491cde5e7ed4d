"""Names in a store's rows become names of files: what leads elsewhere is refused, whoever wrote the row."""

import datetime

import pytest
from synthetic import fill, sweep_row

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.runs.where import named

LATE = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
BAD = ["../../../outside", "..", "a/b", "/tmp/outside", "a\\b", "", ".hidden", "Width", "a b", "a\n", "~", "a:b"]


@pytest.mark.parametrize("name", BAD)
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(UserError, match=r"^experiment: .* is not allowed"):
        named(name)


@pytest.mark.parametrize("name", ["width", "batch-muon", "seq-my_opt-mine", "7", "a--b"])
def test_names_of_experiments_pass(name):
    assert named(name) == name


@pytest.mark.parametrize("command", ["fit", "figures", "report"])
@pytest.mark.parametrize("given", [True, False])
def test_a_row_whose_name_leads_out_of_the_results_writes_nothing(call, tmp_path, command, given):
    runs = tmp_path / "a" / "b" / "results" / "runs"
    fill(runs, optimizers=("scion",), widths=(32,), seeds=1)
    store = RunStore(runs)
    row = sweep_row(list(store.sweeps()["trial_ids"].iloc[-1]))
    store.write_sweep(row | {"sweep_id": "20990101T000000-bad", "experiment": "../../../outside", "started_at": LATE})
    before = sorted(tmp_path.rglob("*"))
    asked = ["../../../outside"] if given else []
    done = call(command, *asked, "--preset", row["preset"], "--results", runs.parent)
    assert done.code == 2
    assert "experiment: '../../../outside' is not allowed" in done.err
    assert sorted(tmp_path.rglob("*")) == before

"""`scionlab fit`, `figures`, `report`: of which experiment, which preset and which study they are."""

import datetime
import json

import pytest
from synthetic import fill, fill_batch, sweep_row

from scionlab.cli.results import Asked, asked_of_fit
from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.runs.where import ResultsPlace

LATER = datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC)
IMPORT = "width,lr,val_loss,tokens,batch_size,seq_len\n" + "".join(
    f"{width},{2.0**k},{2 + 0.1 * (k + 5) ** 2},1000000,8,64\n" for width in (32, 64) for k in range(-8, -1)
)


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "results" / "runs", optimizers=("scion",), widths=(32, 64), seeds=1)


@pytest.fixture
def imported(call, tmp_path):
    """Runs imported under a name."""

    def take(name):
        (tmp_path / "theirs.csv").write_text(IMPORT)
        done = call("import", "theirs.csv", "--name", name)
        assert done.code == 0, done.err
        return done.out

    return take


def again(store, **changes):
    """A later call of the same grid."""
    row = sweep_row(list(store.sweeps()["trial_ids"].iloc[0]))
    store.write_sweep(row | {"sweep_id": "20260201T000000-abcdef", "started_at": LATER, **changes})


def document(call, *arguments):
    done = call(*arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.mark.parametrize("command", ["fit", "figures", "report"])
def test_the_experiment_is_the_argument_or_as_before_an_option(command, call, store):
    ways = (["width"], ["--experiment", "width"], ["width", "--experiment", "width"], [])
    found = [document(call, command, *way) for way in ways]
    assert all(one == found[0] for one in found)
    assert (found[0]["experiment"], found[0]["preset"]) == ("width", "laptop")


@pytest.mark.parametrize("command", ["figures", "report", "export", "plan"])
def test_two_names_are_refused_in_a_sentence(command, call, store):
    needed = {"export": ["--output", "x.csv"], "plan": ["--tokens", "1e9", "--results", "results"]}.get(command, [])
    done = call(command, "width", "--experiment", "batch", *needed)
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: experiment: 'width' and --experiment 'batch' are two; name one\n"


@pytest.mark.parametrize("command", ["fit", "figures", "report", "export", "plan"])
def test_help_shows_the_argument_alone(command, call):
    said = call(command, "--help").out
    assert "[experiment]" in said.lower()
    assert "--experiment" not in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((None, None, None), Asked(None, None)),
        (("width", None, None), Asked("width", None)),
        (("width", None, "batch-scaling"), Asked("width", "batch-scaling")),
        (("lr-transfer", None, None), Asked(None, "lr-transfer")),
        (("lr-transfer", "width", None), Asked("width", "lr-transfer")),  # the older way
        (("lr-transfer", "width", "lr-transfer"), Asked("width", "lr-transfer")),
        ((None, "width", None), Asked("width", None)),
        (("width", "width", None), Asked("width", None)),
        (("restarts", "restarts", None), Asked("restarts", "restarts")),
        (("restarts", None, None), Asked(None, "restarts")),  # a study, and an experiment that was not run
        (("depth", None, None), Asked("depth", None)),  # what is missing is said by what reads its sweep
    ],
)
def test_what_fit_is_asked(words, expected, store, tmp_path):
    assert asked_of_fit(ResultsPlace.of(tmp_path / "results"), *words) == expected


def test_an_experiment_of_the_store_goes_before_a_study_of_its_name(store, tmp_path, imported):
    again(store, experiment="restarts")
    imported("lr-transfer")
    for name in ("restarts", "lr-transfer"):
        assert asked_of_fit(ResultsPlace.of(tmp_path / "results"), name, None, None) == Asked(name, None)


def test_a_name_that_is_neither_names_what_is_allowed(store, tmp_path):
    with pytest.raises(UserError) as refused:
        asked_of_fit(ResultsPlace.of(tmp_path / "results"), "widht", None, None)
    text = str(refused.value)
    assert text.startswith("experiment: 'widht' is not known (did you mean 'width'?); choose one of batch-scaling, ")
    assert text.endswith(", width")
    with pytest.raises(UserError, match="study: 'lr-transfer' and --study 'batch-scaling' are two; name one"):
        asked_of_fit(ResultsPlace.of(tmp_path / "results"), "lr-transfer", "width", "batch-scaling")


def test_fit_by_a_study_is_of_the_experiment_that_it_is_meant_for(call, store, tmp_path):
    fill_batch(tmp_path / "results" / "runs", seeds=1)
    found = document(call, "fit", "lr-transfer")
    assert (found["experiment"], found["study"]) == ("width", "lr-transfer")
    assert document(call, "fit", "lr-transfer", "--experiment", "width") == found
    assert document(call, "fit", "width", "--study", "lr-transfer") == found


def test_the_preset_is_the_one_that_was_called_last(call, store):
    again(store, preset="smoke")
    assert document(call, "fit", "width")["preset"] == "smoke"
    assert document(call, "fit")["preset"] == "smoke"
    assert document(call, "fit", "width", "--preset", "laptop")["preset"] == "laptop"
    again(store, preset="smoke", experiment="other", sweep_id="20260301T000000-abcdef")
    assert document(call, "fit", "width")["preset"] == "smoke"
    assert document(call, "report")["experiment"] == "other"
    done = call("report", "width", "--preset", "full")
    assert done.err.startswith("error: results: no sweep of 'width' with preset 'full' in 'results/runs'; run it with")


def test_a_smoke_run_is_reported_without_more(call, spec_file):
    done = call("run", spec_file([2**-7, 2**-5, 2**-3]), "--preset", "smoke", "--executor", "inline")
    assert done.code == 0, done.err
    assert document(call, "report", "mine") == {
        "experiment": "mine",
        "preset": "smoke",
        "report": "results/report/mine.html",
        "index": "results/report/index.html",
    }


def test_an_import_is_reported_by_its_name_alone(call, imported):
    assert imported("my-import").endswith("next: scionlab report my-import --results results\n")
    assert document(call, "report", "my-import")["preset"] == "imported"
    assert document(call, "fit", "my-import")["preset"] == "imported"
    assert document(call, "figures", "my-import", "--preset", "imported")["preset"] == "imported"
    done = call("report")
    assert done.err == "error: results: no sweep in 'results/runs'; name one of its imports: my-import\n"
    assert "name the import beside --preset imported" in call("report", "--preset", "imported").err


def test_of_a_sweep_and_an_import_of_one_name_the_preset_says_which(call, store, imported):
    said = imported("width")
    assert said.endswith("next: scionlab report width --preset imported --results results\n")
    assert document(call, "fit", "width")["preset"] == "laptop"
    assert document(call, "fit", "width", "--preset", "imported")["preset"] == "imported"


def test_a_store_knows_its_experiments_by_sweeps_and_imports(store, imported, tmp_path):
    imported("theirs")
    assert RunStore(tmp_path / "results" / "runs").experiments() == ["theirs", "width"]
    assert RunStore(tmp_path / "nowhere").experiments() == []

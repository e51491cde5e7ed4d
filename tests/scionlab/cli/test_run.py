"""`scionlab run` with a grid that is extended: what is trained, what the sweep records, and what the fit then uses."""

import json
import shlex

import pytest

from analysis.fits.advice import Source, command
from analysis.fits.outcomes import Lacks, Missing, Seeds
from scionlab.runs.store import RunStore
from scionlab.spec.loading import load_experiment

RATES = [2**-7, 2**-5]
BUILT_IN = ("width", "batch", "seq", "depth", "momentum", "norm-choice", "restarts", "coordinates", "batch-tolerance")


@pytest.fixture
def run(call, spec_file):
    """Calls `scionlab run` on an experiment of two widths, two rates and two seeds, in this process."""
    path = spec_file(RATES)
    return lambda *arguments: call("run", path, "--preset", "smoke", "--executor", "inline", *arguments)


def planned(run, *options):
    done = run("--dry-run", "--json", *options)
    assert done.code == 0, done.err
    return json.loads(done.out)["trials"]


def test_each_option_extends_the_grid_and_all_go_together(run):
    assert planned(run) == planned(run, "--seeds", 1) == planned(run, "--seeds", 2) == 2 * 2 * 2
    assert planned(run, "--seeds", 5) == 2 * 2 * 5
    assert planned(run, "--more-rates", 1) == 2 * (2 + 2) * 2
    assert planned(run, "--finer-rates") == 2 * 3 * 2
    assert planned(run, "--more-rates", 1, "--finer-rates", "--seeds", 3) == 2 * 7 * 3


def test_a_dry_run_says_what_the_grid_is(run):
    text = run("--dry-run", "--more-rates", 1, "--seeds", 3).out
    assert text.startswith("mine/smoke: 1 more at both ends of the learning rates; at least 3 seeds\n")
    assert "2^-9 … 2^-3 (4)" in text
    assert "24 of 24 trials to train" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seeds", 0], "'--seeds'"),
        (["--more-rates", 0], "'--more-rates'"),
        (["--seeds", 10**9], "'--seeds'"),
        (["--checkpoint-minutes", 0], "checkpoint_minutes: 0.0 is not allowed: it must be above 0"),
        (["--checkpoint-minutes", "nan"], "checkpoint_minutes: nan is not allowed: it must be above 0"),
        (["--checkpoint-minutes", "often"], "'--checkpoint-minutes'"),
        (["--more-rates", 3], "lr: 2.0 is not allowed: a constrained step is a convex combination"),
        (["--more-rates", 30], "lr: 2097152.0 is not allowed: it must be less than or equal to 1000000"),
    ],
)
def test_a_bad_option_is_one_line_and_status_2(arguments, expected, run, tmp_path):
    done = run(*arguments)
    assert done.code == 2
    assert expected in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert not (tmp_path / "results").exists()


def test_rates_by_design_are_not_extended(call):
    done = call("run", "coordinates", "--preset", "smoke", "--more-rates", 1)
    assert done.code == 2
    assert done.err.startswith("error: more-rates: 1 is not allowed: every setting of this grid has one learning rate")
    listed = call("run", "coordinates", "--preset", "smoke", "--seeds", 3, "--dry-run", "--json")
    assert json.loads(listed.out)["trials"] == 5 * 3 * 3


def test_it_goes_with_another_optimizer(call):
    options = ["--preset", "smoke", "--optimizer", "adam", "--dry-run", "--json"]
    plain, more = (
        json.loads(call("run", "seq", *options, *extra).out) for extra in ([], ["--seeds", 2, "--finer-rates"])
    )
    assert more["experiment"] == plain["experiment"] == "seq-adam"
    assert more["trials"] == 2 * plain["trials"] // 3 * 5  # of three rates five


@pytest.mark.slow
def test_only_what_the_store_lacks_is_trained_and_the_fit_has_all_of_it(call, tmp_path):
    store = RunStore(tmp_path / "results" / "runs")

    def run(*options):
        done = call("run", "width-mlp", "--preset", "smoke", "--executor", "inline", *options)
        assert done.code == 0, done.err
        return done.out

    def fitted_seeds():
        done = call("fit", "width-mlp", "--json")
        assert done.code == 0, done.err
        return {optimum["n_seeds"] for optimum in json.loads(done.out)["fit"]["optima"]}

    assert "width-mlp/smoke: trained 32 of 32 trials" in run()
    assert fitted_seeds() == {2}
    written = {path: path.stat().st_mtime_ns for path in (store.root / "runs").iterdir()}

    document = json.loads(run("--seeds", 3, "--json"))
    assert (document["trials"], document["trained"], document["ok"]) == (48, 16, 16)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    runs = store.runs()
    assert set(store.sweeps()["trial_ids"].iloc[-1]) == set(runs["trial_id"])
    assert runs.groupby(["optimizer", "width", "lr"])["seed"].agg(set).tolist() == [{0, 1, 2}] * 16
    assert fitted_seeds() == {3}
    assert "width-mlp/smoke: all 48 trials are in the store, nothing to train" in run("--seeds", 3)

    # Without the option the grid is the preset's again, and so is what is fitted.
    assert "width-mlp/smoke: all 32 trials are in the store, nothing to train" in run()
    assert fitted_seeds() == {2}


@pytest.mark.parametrize("experiment", sorted(BUILT_IN))
def test_what_a_fit_advises_is_taken_by_the_command(experiment, call):
    # An experiment whose settings have one rate each has no rates to add, and its fit misses none.
    lacks = Lacks.of([Missing.SEEDS, Missing.RATES_BEYOND, Missing.RATES_CLOSER], Seeds(2, 8))
    seeds_alone = Lacks.of([Missing.SEEDS], Seeds(2, 8))
    plain = load_experiment(experiment).preset("laptop").trials
    several = len({trial.lr for trial in plain}) > 4
    source = Source("run", (experiment,), experiment, "laptop")
    words = shlex.split(command(lacks if several else seeds_alone, source))
    assert words[:2] == ["scionlab", "run"]
    done = call(*words[1:], "--dry-run", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["trials"] > len(plain)

import json

import pandas as pd
import pytest

from analysis.fits.advice import Extension, Larger, Source
from analysis.fits.outcomes import Missing
from analysis.origin import extension, origin
from analysis.tables.sweep import SweepTables
from scionlab.runs.where import ResultsPlace
from scionlab.spec import Trial

COLUMNS = ["optimizer", "width", "tokens", "batch_size", "seq_len", "lr", "seed"]


def rows(trials):
    return pd.DataFrame([t.model_dump(include=set(COLUMNS)) for t in trials], columns=COLUMNS).rename(
        columns={"tokens": "tokens_budget"}
    )


def grid(exponents, seeds=2, widths=(16, 32)):
    at = {"tokens": 2**14, "batch_size": 4, "seq_len": 16}
    return [
        Trial(optimizer="adam", width=width, lr=2.0**exponent, seed=seed, **at)
        for width in widths
        for exponent in exponents
        for seed in range(seeds)
    ]


@pytest.mark.parametrize(
    ("exponents", "seeds", "expected"),
    [
        ((-6, -5, -4), 2, Extension()),
        ((-6, -5), 1, Extension()),  # not all is trained
        ((-6, -5, -4), 5, Extension(seeds=5)),
        ((-8, -7, -6, -5, -4, -3, -2), 2, Extension(more_rates=2)),
        ((-6, -5.5, -5, -4.5, -4), 2, Extension(finer_rates=True)),
        ((-7, -6.5, -6, -5.5, -5, -4.5, -4, -3.5, -3), 3, Extension(3, 1, True)),
    ],
)
def test_what_options_added_to_a_preset_is_seen_in_its_runs(exponents, seeds, expected):
    asked = grid((-6, -5, -4))
    assert extension(asked, rows(grid(exponents, seeds))) == expected
    assert extension(asked, rows(grid((-1,), seeds=2, widths=(64,)))) == Extension()  # no setting of the grid


def source(experiment, preset="laptop", study="lr-transfer", place="results", to=None):
    sweep = {"experiment": experiment, "preset": preset, "study": study, "settings": json.dumps({})}
    return origin(SweepTables(sweep, pd.DataFrame(), rows([])), ResultsPlace.of(place).writing_to(to))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (source("mine"), Source("run", ("PATH.py",), "mine", "laptop")),
        (source("width", "medium"), Source("run", ("PATH.py",), "width", "medium")),
        (source("width", "gpu"), Source("run", ("width",), "width", "gpu")),
        (source("theirs", "imported", "batch-scaling"), Source("imported", ("PATH.py",), "theirs", "imported")),
        (source("ours", study="transfer"), Source("transfer", ("PATH.py",), "ours", "laptop")),
        (
            source("batch-tolerance", "gpu", place="s3://bucket/runs", to="here").place,
            ("--results", "s3://bucket/runs"),
        ),
        (source("mine", place="/data", to="here").to, ("--to", "here")),
    ],
)
def test_sources(told, expected):
    assert told == expected


def test_the_projects_own_experiments_have_a_larger_preset():
    assert source("width").larger == Larger("full", 3, frozenset({Missing.PLACES, Missing.LONGER}))
    assert source("width", "smoke").larger.preset == "laptop"
    assert source("batch-muon").which == ("batch", "--optimizer", "muon")
    assert source("batch-muon").larger == Larger(
        "full", 3, frozenset({Missing.BUDGETS, Missing.PLACES, Missing.LONGER})
    )
    assert source("width", "full").larger.more == frozenset()  # gpu has as many widths, each for fewer steps
    transfer = source("transfer", study="transfer")
    assert (transfer.kind, transfer.which, transfer.larger.preset) == ("transfer", ("transfer",), "full")
    assert transfer.trials > 1

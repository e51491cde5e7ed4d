"""`scionlab tune` and `transfer`: dry runs, and how the trials are trained."""

import json
import math
import textwrap

import pytest

from scionlab.runs.store import RunStore

SEARCHES = """
    from scionlab.spec.tuning import Method, TransferExperiment, TransferPreset

    SPEC = TransferExperiment(
        name="mine", title="Mine", question="Does it transfer?",
        presets={{
            "smoke": TransferPreset(
                about="two ranges",
                fixed=dict(
                    head_dim=8, depth=1, seq_len=16, val_tokens=256, val_seq_len=16, data="path:{text}", device="cpu"
                ),
                methods={{
                    "scion": Method(optimizer="scion", space={{"lr": (2**-7, 2**-3)}}),
                    "adam": Method(optimizer="adam", space={{"lr": (2**-9, 2**-5)}}),
                }},
                proxy=dict(width=16, tokens=1024, batch_size=4),
                targets={{"wider": dict(width=32), "longer": dict(tokens=8192)}},
                trials=3, search_seeds=(0, 7), seeds=(1, 2),
            )
        }},
    )
"""


@pytest.fixture
def searches(call, tmp_path, text_file):
    """Calls `scionlab tune` or `transfer` on a user's file, inline."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(SEARCHES.format(text=text_file)))

    def run(command, *options):
        return call(command, "mine.py", "--preset", "smoke", "--executor", "inline", *options)

    return run


def document(done):
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_a_dry_run_of_searches_trains_and_writes_nothing(searches, tmp_path, monkeypatch):
    monkeypatch.setattr("scionlab.sweep.estimate.train", None)
    monkeypatch.setattr("scionlab.tune.attempt.Run", None)
    found = document(searches("tune", "--dry-run", "--json"))
    of_all = {key: found[key] for key in ("experiment", "preset", "trials", "left", "tokens", "seconds", "workers")}
    assert of_all == {
        "experiment": "mine", "preset": "smoke", "trials": 12, "left": 12, "tokens": 12 * 1024, "seconds": None,
        "workers": 1,
    }  # fmt: skip
    assert [(one["method"], one["place"], one["seed"]) for one in found["searches"]] == [
        ("scion", "proxy", 0), ("scion", "proxy", 7), ("adam", "proxy", 0), ("adam", "proxy", 7),
    ]  # fmt: skip
    assert all((one["has"], one["left"], one["tokens"]) == (0, 3, 3 * 1024) for one in found["searches"])
    assert found["flops"] == sum(one["flops"] for one in found["searches"]) > 0
    said = searches("tune", "--dry-run").out
    assert said.startswith("mine/smoke: two ranges\n")
    assert "12 of 12 trials to train" in said
    assert "the store has no trial to tell by how long that takes" in said
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"mine.py"}  # Python's, of the user's file


def test_it_counts_what_a_search_has_and_tells_the_time_by_it(searches, tmp_path):
    assert searches("tune", "--method", "scion", "--trials", "2").code == 0
    found = document(searches("tune", "--dry-run", "--json"))
    assert [(one["has"], one["left"]) for one in found["searches"]] == [(2, 1), (2, 1), (0, 3), (0, 3)]
    assert (found["trials"], found["left"]) == (12, 8)
    assert 0 < found["seconds"] < 60
    assert "8 of 12 trials to train" in searches("tune", "--dry-run").out
    done = document(searches("tune", "--method", "scion", "--trials", "1", "--dry-run", "--json"))
    assert (done["trials"], done["left"], done["tokens"], done["flops"], done["seconds"]) == (4, 0, 0, 0, 0)
    made = document(searches("tune", "--method", "scion", "--json"))["made"]
    assert made == 2  # as was said: one a search
    (tmp_path / "results" / "tuning" / "mine.db").unlink()
    again = document(searches("tune", "--method", "scion", "--dry-run", "--json"))
    assert [(one["has"], one["left"]) for one in again["searches"]] == [(0, 3), (0, 3)]


def test_a_dry_run_of_transfer_has_the_comparison_and_asks_for_the_proxys_searches(searches):
    done = searches("transfer", "--dry-run", "--json")
    found = document(done)
    assert done.err.startswith("warning: tunings: 'scion' has no finished trial on the proxy of mine/smoke")
    assert len(found["searches"]) == 2 * 2 * 2
    assert {one["place"] for one in found["searches"]} == {"wider", "longer"}
    assert found["tokens"] == 2 * 2 * 3 * (1024 + 8192)
    # targets × methods × search seeds × 2 ways × fresh seeds
    assert found["comparison"]["trials"] == 2 * 2 * 2 * 2 * 2
    assert found["comparison"]["tokens"] == 2 * 2 * 2 * 2 * (1024 + 8192)
    assert (found["seconds"], found["comparison"]["seconds"]) == (None, None)
    searches("tune", "--trials", "1")
    done = searches("transfer", "--method", "adam", "--dry-run")
    assert done.err == ""
    assert "12 of 12 trials to train" in done.out
    assert "then the comparison: at most 16 trials, " in done.out
    assert "about 0:0" in done.out.splitlines()[-1]


@pytest.mark.slow
def test_the_comparison_is_no_larger_than_was_said(searches):
    options = ["--method", "scion", "--trials", "1"]
    searches("tune", *options)
    said = document(searches("transfer", *options, "--dry-run", "--json"))
    made = document(searches("transfer", *options, "--json"))
    assert made["made"] == said["left"] == 4
    assert made["comparison"]["trained"] <= said["comparison"]["trials"] == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "--executor", "dask", "--dry-run"), "executor: 'dask' is not known"),
        (("tune", "--compile", "often"), "compile: 'often' is not known; choose one of always, auto, never"),
        (("transfer", "--compile", "often"), "compile: 'often' is not known"),
        (("transfer", "--results", "s3://bucket/x"), "is not allowed here: this command needs a folder on a disk"),
        (("tune", "--track", "tensorboard"), "No such option: --track"),
        (("tune", "--stack", "2"), "No such option: --stack"),
        (("transfer", "--address", "auto"), "No such option: --address"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, message, searches, tmp_path):
    done = searches(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_trackers_are_known_before_the_searches(searches):
    searches("tune", "--method", "scion", "--trials", "1")
    done = searches("transfer", "--method", "scion", "--track", "tb")
    assert done.err == "error: track: 'tb' is not known; choose one of tensorboard, wandb\n"
    assert set(RunStore("results/runs").tunings()["place"]) == {"proxy"}


def test_the_comparison_is_trained_as_a_sweep_would_be(searches, tmp_path, monkeypatch):
    """What a user asks for reaches `run_sweep`, and what the searches know of it reaches their trials."""
    from scionlab import sweep
    from scionlab.trackers import TRACKERS

    heard, compiled = {}, []

    def run_sweep(experiment, preset, store, console, executor, workers, how, trackers):
        heard.update(how=how, trackers=list(trackers))
        raise KeyboardInterrupt

    class Run:
        def __init__(self, trial, corpus, compile):
            compiled.append(compile)
            raise RuntimeError("no need to train")

    assert "tensorboard" in TRACKERS
    pytest.importorskip("tensorboard")
    searches("tune", "--method", "scion", "--trials", "1")
    searches("transfer", "--method", "scion", "--trials", "1")  # so that the searches are there
    monkeypatch.setattr(sweep, "run_sweep", run_sweep, raising=False)
    options = ["--compile", "always", "--stack", "3", "--checkpoint-minutes", "inf", "--track", "tensorboard"]
    searches("transfer", "--method", "scion", "--trials", "1", *options)
    assert heard == {"how": sweep.How("always", 3, math.inf), "trackers": ["tensorboard"]}
    monkeypatch.setattr("scionlab.tune.attempt.Run", Run)
    for mode in ("auto", "never", "always"):
        searches("tune", "--method", "adam", "--trials", "1", "--compile", mode)
    assert compiled == [False, False] * 2 + [True, True]

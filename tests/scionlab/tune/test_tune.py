"""Searches: specs that are refused, what a study remembers, what a call that goes on does, and the commands."""

import io
import json
import textwrap

import numpy as np
import optuna
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from scionlab.cli import app
from scionlab.cli.tune import places
from scionlab.errors import UserError
from scionlab.runs.status import searches
from scionlab.runs.store import RunStore
from scionlab.spec.loading import load_experiment, load_transfer
from scionlab.spec.tuning import Method, TransferExperiment, TransferPreset
from scionlab.sweep import run_sweep
from scionlab.tune import attempt, inline
from scionlab.tune import run as run_module
from scionlab.tune.attempt import SHARES, Attempt
from scionlab.tune.final import final_experiment
from scionlab.tune.run import best_rows, tune
from scionlab.tune.search import make_searches
from scionlab.tune.studies import Study, database, opened
from scionlab.tune.turns import Turns, parallel

SPACE = {"lr": (2**-8, 2**-3), "momentum": (0.05, 0.5)}
PROXY = {"width": 16, "tokens": 16 * 64, "batch_size": 4}
VOLATILE = ["wall_time_s", "started_at"]


@pytest.fixture
def preset(text_file):
    """A search of a fraction of a second, and what can be changed of it."""

    def make(**changes):
        fixed = {
            "head_dim": 8, "depth": 1, "seq_len": 16, "val_tokens": 256, "val_seq_len": 16,
            "data": f"path:{text_file}", "device": "cpu",
        }  # fmt: skip
        fields = {
            "fixed": fixed,
            "methods": {
                "scion": Method(optimizer="scion", space=SPACE | {"radius_hidden": (1.0, 9.0)}),
                "adam": Method(optimizer="adam", space=SPACE),
            },
            "proxy": PROXY,
            "targets": {"wider": {"width": 32}, "longer": {"tokens": 8 * 16 * 64}},
            "trials": 7,
            "seeds": (1, 2),
        }
        return TransferPreset(**(fields | changes))

    return make


@pytest.fixture
def experiment(preset):
    def make(**changes):
        return TransferExperiment(name="mine", title="Mine", question="?", presets={"smoke": preset(**changes)})

    return make


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def search(experiment, store):
    """Searches of an experiment on the proxy."""

    def make(names=("scion",), trials=None, place=0, **changes):
        spec = experiment(**changes)
        where = places(spec.presets["smoke"], "bst")[place]
        return make_searches(spec, "smoke", names, [where], store, trials)

    return make


@pytest.fixture
def make_trials(tmp_path, store):
    def make(searches, into=None, **how):
        console = Console(file=io.StringIO(), width=100)
        return tune(
            searches, into or store, (into or store).root.parent / "tuning", console, **{"executor": "inline", **how}
        )

    return make


def rows_of(store):
    return store.tunings().drop(columns=VOLATILE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0, 1)}, "seeds: 0, 1 are not allowed: they must differ from one another and from search_seeds 0"),
        (
            {"search_seeds": (5, 2)},
            "seeds: 1, 2 are not allowed: they must differ from one another and from search_seeds 5, 2",
        ),
        ({"search_seeds": (7, 7)}, "search_seeds: 7, 7 are not allowed: they must differ from one another"),
        ({"search_seeds": ()}, "search_seeds: "),
        ({"search_seed": 0}, "search_seed: no such field"),
        ({"seeds": (1, 1)}, "seeds: 1, 1 are not allowed"),
        ({"pruning": "mean"}, "pruning: 'mean' is not allowed"),
        ({"targets": {"proxy": {"width": 32}}}, "targets: 'proxy' is not allowed"),
        ({"targets": {"wider": {"widht": 32}}}, "targets.wider: field: 'widht' is not known (did you mean 'width'?)"),
        ({"targets": {"wider": {"width": 33}}}, "targets.wider, methods.scion: head_dim: 8 does not divide width 33"),
        ({"targets": {"wider": {"seed": 3}}}, "targets.wider: 'seed' is not allowed"),
        ({"methods": {"adam": {"optimizer": "adam", "space": {"lr": (1.0, 0.1)}}}}, "lr goes from 1 to 0.1"),
        ({"methods": {"adam": {"optimizer": "adam", "space": {"lr": (0.0, 0.1)}}}}, "methods.adam.space.lr.0: 0.0"),
        ({"methods": {"adam": {"optimizer": "adam", "space": {"momentum": (0.1, 0.2)}}}}, "lr: is missing"),
    ],
)
def test_a_spec_that_cannot_work_is_refused_in_a_sentence(preset, changes, message):
    with pytest.raises(UserError) as refused:
        preset(**changes)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [({"lr": (0.1, 0.2), "radius": (1.0, 2.0)}, "radius"), ({"lr": (0.1, 3.0)}, "lr")],
)
def test_values_that_the_method_refuses_are_refused_before_anything_is_made(search, tmp_path, space, message):
    with pytest.raises(UserError, match=message):
        search(methods={"scion": Method(optimizer="scion", space=space)})
    assert not (tmp_path / "tuning").exists()


def test_the_middle_of_a_space_is_its_geometric_one():
    assert Method(optimizer="scion", space={"lr": (0.25, 4.0), "momentum": (0.02, 0.5)}).middle == {
        "lr": 1.0,
        "momentum": pytest.approx(0.1),
    }


def test_the_bst_rule_quadruples_the_batch_and_halves_the_rate_for_eight_times_the_tokens(preset):
    proxy, wider, longer = places(preset(), "bst")
    assert (proxy.name, proxy.lr_factor, proxy.fields["batch_size"]) == ("proxy", 1.0, 4)
    assert (wider.lr_factor, wider.fields["batch_size"], wider.fields["width"]) == (1.0, 4, 32)
    assert (longer.lr_factor, longer.fields["batch_size"]) == (pytest.approx(0.5), 16)


def test_other_rules_can_be_chosen_and_a_batch_size_of_the_targets_own_stays(preset):
    assert places(preset(), "no-change")[2].lr_factor == 1.0
    own = places(preset(targets={"longer": {"tokens": 8 * 16 * 64, "batch_size": 8}}), "bst")[1]
    assert (own.fields["batch_size"], own.lr_factor) == (8, pytest.approx(0.25))
    with pytest.raises(UserError, match="rule: 'bts' is not known"):
        places(preset(), "bts")


def test_every_whole_trial_of_a_search_is_a_row_like_any_other(search, make_trials, store, tmp_path):
    searches = search(names=("scion", "adam"))
    result = make_trials(searches)
    rows = store.tunings()
    assert len(result.made) == len(rows) == 14
    assert list(rows.groupby("study")["number"].apply(list)) == [list(range(7))] * 2
    whole = rows[rows["state"] == "complete"]
    runs = store.runs().set_index("trial_id")
    assert set(whole["trial_id"]) == set(runs.index)
    assert np.array_equal(runs.loc[whole["trial_id"], "val_loss"], whole["val_loss"])
    assert np.array_equal(runs.loc[whole["trial_id"], "flops"], whole["flops"])
    for _, row in whole.iterrows():
        spec = json.loads(runs.loc[row["trial_id"], "spec"])
        sampled = json.loads(row["params"])
        assert spec["lr"] == sampled.pop("lr")
        assert spec["momentum"] == sampled.pop("momentum")
        assert spec["options"] | sampled == spec["options"]
    first = json.loads(rows["params"][0])
    assert first == searches[0 if rows["method"][0] == "scion" else 1].method.middle


def test_optuna_opens_the_study_and_agrees(search, make_trials, store, tmp_path):
    (one,) = search()
    result = make_trials([one])
    study = optuna.load_study(study_name=one.study, storage=f"sqlite:///{database(tmp_path / 'tuning', 'mine')}")
    assert study.best_value == result.best(one)["val_loss"] == best_rows(store, [one])[one.study]["val_loss"]
    assert study.best_params == json.loads(result.best(one)["params"])
    states = store.tunings()["state"]
    assert [trial.state.name for trial in study.trials] == [
        {"complete": "COMPLETE", "pruned": "PRUNED", "diverged": "PRUNED"}[state] for state in states
    ]


def test_no_trial_is_ended_for_its_loss_unless_the_spec_asks_for_it(search, make_trials, store):
    make_trials(search(trials=16))
    rows = store.tunings()
    assert set(rows["state"]) == {"complete"}
    assert (rows["steps_done"] == 16).all()


@pytest.mark.parametrize(("pruning", "ended"), [("none", False), ("median", True)])
def test_a_trial_that_improves_late_is_ended_by_median_pruning_only(search, tmp_path, pruning, ended):
    """Losses on the way of five trials, and of one that is worse there and may be best at the end."""
    (one,) = search(pruning=pruning)
    with opened(tmp_path / "tuning", "mine") as storage:
        study, ends = Study(one, storage), [round(one.steps * share / SHARES) for share in range(1, SHARES + 1)]

        def report(trial, losses):
            """Whether the trial is to be ended on its way."""
            progress = [
                attempt.Progress("running", "2026-01-01T00:00:00+00:00", steps_done=end, loss=loss)
                for end, loss in zip(ends, losses, strict=False)
            ]
            return any(study.hopeless(trial, now) for now in progress)

        for _ in range(5):
            trial = study.ask()
            report(trial, [4.0, 3.0, 2.8, 2.7])
            study.tell(trial, attempt.Progress("complete", "2026-01-01T00:00:00+00:00", val_loss=2.6))
        assert report(study.ask(), [4.0, 3.4, 3.0, 2.7]) == ended


def test_hopeless_trials_are_pruned_and_are_no_rows(search, make_trials, store):
    """The low rates of these ranges learn nothing: the median of five whole trials is far below them."""
    make_trials(search(trials=16, pruning="median"))
    rows = store.tunings()
    pruned = rows[rows["state"] == "pruned"]
    assert len(pruned) > 0
    assert pruned[["trial_id", "val_loss"]].isna().all(axis=None)
    assert (pruned["steps_done"] < 16).all()
    assert (pruned["steps_done"] >= round(0.4 * 16)).all()
    assert (pruned["flops"] < rows["flops"].max()).all()
    assert len(store.runs()) == (rows["state"] == "complete").sum()
    whole = rows[rows["state"] == "complete"]
    assert len(whole) >= 5
    lowest = {json.loads(text)["lr"] for text in whole.sort_values("val_loss")["params"][:2]}
    assert min(lowest) > min(json.loads(text)["lr"] for text in pruned["params"])


def test_a_trial_that_diverges_ends_as_such_and_is_a_row(search, make_trials, store):
    methods = {"adam": Method(optimizer="adam", space={"lr": (100.0, 1000.0)})}
    (one,) = search(names=["adam"], trials=3, methods=methods, proxy=PROXY | {"divergence_factor": 1.001})
    result = make_trials([one])
    assert set(store.tunings()["state"]) == {"diverged"}
    assert set(store.runs()["status"]) == {"diverged"}
    assert set(store.tunings()["trial_id"]) == set(store.runs()["trial_id"])
    assert result.best(one) is None
    with pytest.raises(
        UserError,
        match=r"no trial of 'adam' on the proxy of mine/smoke with search seed 0 went to its end \(3 diverged\); its "
        "space was lr from 100 to 1000: change these ranges",
    ):
        best_rows(store, [one])
    (found,) = searches(store)
    assert (found.method, found.place, found.trials, found.best) == ("adam", "proxy", {"diverged": 3}, None)
    assert searches(store, "other") == searches(store, "mine", "laptop") == []


def test_a_search_that_was_not_made_is_asked_for(search, store):
    (one,) = search(names=["adam"])
    with pytest.raises(
        UserError, match="'adam' has no finished trial on the proxy of mine/smoke with search seed 0; run `scio"
    ):
        best_rows(store, [one])


def test_a_search_that_is_called_again_goes_on_and_trains_nothing_twice(search, make_trials, store, monkeypatch):
    assert len(make_trials(search(trials=3)).made) == 3
    assert len(make_trials(search(trials=3)).made) == 0
    again = make_trials(search(trials=5))
    assert len(again.made) == 2
    assert list(store.tunings()["number"]) == [0, 1, 2, 3, 4]


def test_a_killed_search_goes_on_to_the_same_numbers(search, make_trials, store, tmp_path, monkeypatch):
    whole = RunStore(tmp_path / "whole" / "runs")
    make_trials(search(trials=9, pruning="median"), into=whole)

    real, begun = Attempt.advance, []

    def killed(self):
        begun.append(self)
        if len(begun) == 23:
            raise KeyboardInterrupt
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Attempt, "advance", killed)
        result = make_trials(search(trials=9, pruning="median"))
    assert result.interrupted
    done = len(store.tunings().query("state != 'failed'"))
    assert 0 < done < 9
    assert list(store.tunings()["state"])[-1] == "failed"  # nobody leaves it running
    make_trials(search(trials=9, pruning="median"))
    mine = rows_of(store).query("state != 'failed'").drop(columns="number").reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, rows_of(whole).drop(columns="number"), check_dtype=False, check_exact=True)


def test_a_process_that_died_leaves_running_trials_and_they_are_made_up_for(search, make_trials, store, tmp_path):
    (one,) = search(trials=2)
    with opened(tmp_path / "tuning", "mine") as storage:
        Study(one, storage).ask()
    make_trials([one])
    assert list(store.tunings()["state"]) == ["failed", "complete", "complete"]
    assert store.tunings()["flops"].isna().tolist() == [True, False, False]


def test_a_trial_of_the_store_is_not_trained_again_and_says_the_same(search, make_trials, store, tmp_path, monkeypatch):
    make_trials(search(trials=9))
    fresh = tmp_path / "again"
    monkeypatch.setattr(attempt, "Run", None)  # whoever trains fails
    searches = search(trials=1)
    trial = json.loads(store.tunings()["params"][0])
    told = [Attempt(searches[0], trial, store).advance()]
    assert told[0].state == "running"
    complete = Attempt(searches[0], trial, store)
    states = [complete.advance() for _ in range(SHARES)]
    assert [now.state for now in states] == ["running"] * (SHARES - 1) + ["complete"]
    assert states[-1].val_loss == store.tunings()["val_loss"][0]
    assert states[-1].flops == store.tunings()["flops"][0]
    assert not fresh.exists()


def test_what_a_stored_trial_says_share_by_share_is_what_it_said_in_training(search, store):
    (one,) = search()
    values = one.method.middle
    first = Attempt(one, values, store)
    trained = [first.advance() for _ in range(SHARES)]
    second = Attempt(one, values, store)
    told = [second.advance() for _ in range(SHARES)]
    assert second.run is None
    for was, now in zip(trained, told, strict=True):
        assert (now.state, now.steps_done, now.loss, now.val_loss) == (
            was.state,
            was.steps_done,
            was.loss,
            was.val_loss,
        )
        assert now.flops == pytest.approx(was.flops)


def test_a_trial_that_raises_fails_alone_and_the_next_call_makes_up_for_it(search, make_trials, store, monkeypatch):
    real, count = attempt.data_of, []

    def breaks(trial):
        count.append(trial)
        if len(count) == 2:
            raise RuntimeError("boom")
        return real(trial)

    with monkeypatch.context() as patch:
        patch.setattr(attempt, "data_of", breaks)
        result = make_trials(search(trials=3))
    assert list(store.tunings()["state"]) == ["complete", "failed", "complete"]
    assert "boom" in result.errors()[0]
    failed = store.tunings().query("state == 'failed'")["trial_id"].item()
    assert store.runs([failed])["status"].item() == "error"
    assert len(make_trials(search(trials=3)).made) == 1
    assert list(store.tunings()["state"]) == ["complete", "failed", "complete", "complete"]
    assert store.tunings()["params"].nunique() == 4  # values that fail whenever they are tried block nothing


def test_other_ranges_seeds_or_fields_are_other_searches_and_more_trials_are_not(search):
    (one,), (more,) = search(), search(trials=50)
    assert more.study == one.study
    others = [
        search(**changes)[0].study
        for changes in (
            {"methods": {"scion": Method(optimizer="scion", space=SPACE)}},
            {"search_seeds": (3,)},
            {"proxy": PROXY | {"width": 32}},
            {"pruning": "median"},
        )
    ]
    assert len({one.study, *others}) == 5
    assert all(name.startswith("mine.smoke.scion.proxy.seed") for name in others)


def test_searches_take_turns_by_the_work_left_and_share_the_workers(search, tmp_path):
    searches = [*search(names=("scion", "adam"), trials=2), *search(names=("scion",), trials=2, place=1)]
    with opened(tmp_path / "tuning", "mine") as storage:
        turns = Turns([Study(one, storage) for one in searches])
        assert turns.order()[0].search is searches[2]  # the wider one
        turns.take(turns.order()[0])
        turns.take(turns.order()[0])
        assert turns.total == 4
        assert searches[2] not in [study.search for study in turns.order()]
    assert [parallel(2, 4), parallel(2, 1), parallel(8, 3)] == [1, 2, 3]


def test_two_calls_on_one_database_are_refused(search, make_trials, tmp_path):
    with opened(tmp_path / "tuning", "mine"), pytest.raises(UserError, match="another process is tuning"):
        make_trials(search())


def test_a_file_that_is_no_database_is_refused_in_a_sentence(search, make_trials, tmp_path):
    (tmp_path / "tuning").mkdir()
    database(tmp_path / "tuning", "mine").write_text("not a database, by any stretch")
    with pytest.raises(UserError, match=r"mine\.db' cannot be opened as Optuna's storage: .*not a database"):
        make_trials(search())


def test_the_comparison_trains_both_ways_with_the_same_fresh_seeds(experiment, store, make_trials):
    spec = experiment(trials=3)
    proxy, *targets = places(spec.presets["smoke"], "bst")
    proxies = make_searches(spec, "smoke", ["scion"], [proxy], store)
    directs = make_searches(spec, "smoke", ["scion"], targets, store)
    make_trials([*proxies, *directs])
    found = best_rows(store, [*proxies, *directs])
    found[proxies[0].study]["params"] = json.dumps({"lr": 2**-4, "momentum": 0.2, "radius_hidden": 2.0})
    found[directs[0].study]["params"] = json.dumps({"lr": 2**-4, "momentum": 0.2, "radius_hidden": 2.0})
    final = final_experiment(spec, "smoke", "bst", found, proxies, directs, store)
    assert final.settings["cells"][1]["changes"] == "tokens 8192 (1024), batch_size 16 (4), lr × 0.5"
    wider, longer = (cell["searches"][0] for cell in final.settings["cells"])
    assert wider["zero_shot"] == wider["direct"]  # the same values are the same trials, trained once
    assert len(final.presets["smoke"].trials) == 2 + 2 * 2
    run_sweep(final, "smoke", store, Console(file=io.StringIO()), "inline")
    rows = store.runs(longer["zero_shot"])
    assert set(rows["lr"]) == {2**-5}
    assert set(rows["momentum"]) == {0.2}
    assert set(rows["seed"]) == {1, 2} == set(store.runs(longer["direct"])["seed"])
    assert store.sweeps()["study"].item() == "transfer"


def test_every_search_seed_is_a_search_of_its_own_and_resumes(search, make_trials, store):
    searches = search(names=("scion", "adam"), trials=3, search_seeds=(0, 7))
    assert [(one.method_name, one.seed) for one in searches] == [("scion", 0), ("scion", 7), ("adam", 0), ("adam", 7)]
    assert len({one.study for one in searches}) == 4
    assert all(f".seed{one.seed}." in one.study for one in searches)
    assert search(trials=3)[0].study == searches[0].study  # more seeds leave those that are there as they are
    assert len(make_trials(searches).made) == 12
    assert make_trials(searches).made == []
    rows = store.tunings()
    assert rows.groupby("study")["seed"].unique().to_dict() == {one.study: [one.seed] for one in searches}
    assert all(store.runs(own["trial_id"])["seed"].eq(seed).all() for seed, own in rows.groupby("seed"))
    sampled = [set(rows.loc[rows["study"] == one.study, "params"]) for one in searches[:2]]
    assert len(sampled[0] & sampled[1]) == 1  # the middle, which every search tries first
    assert len(make_trials(search(trials=3, search_seeds=(0, 7, 8))).made) == 3


def test_a_search_seed_without_its_search_is_named(search, make_trials, store):
    make_trials(search(trials=1))
    with pytest.raises(
        UserError, match=r"no finished trial on the proxy of mine/smoke with search seed 7; run `scionl"
    ):
        best_rows(store, search(trials=1, search_seeds=(0, 7)))


def test_the_comparison_pairs_searches_by_their_seed_and_trains_nothing_twice(experiment, store):
    spec = experiment(search_seeds=(0, 7, 8))
    proxy, *targets = places(spec.presets["smoke"], "bst")
    proxies = make_searches(spec, "smoke", ["scion"], [proxy], store)
    directs = make_searches(spec, "smoke", ["scion"], targets[:1], store)
    rates = {"proxy": (2**-4, 2**-5, 2**-4), "wider": (2**-6, 2**-5, 2**-6)}
    found = {
        one.study: {"params": json.dumps({"lr": lr, "momentum": 0.2, "radius_hidden": 2.0})}
        for place, own in (("proxy", proxies), ("wider", directs))
        for one, lr in zip(own, rates[place], strict=True)
    }
    final = final_experiment(spec, "smoke", "bst", found, proxies, directs, store)
    run_sweep(final, "smoke", store, Console(file=io.StringIO()), "inline")
    (cell,) = final.settings["cells"]
    assert [one["seed"] for one in cell["searches"]] == [0, 7, 8]
    assert [one["proxy_search"] for one in cell["searches"]] == [one.study for one in proxies]
    assert [one["direct_search"] for one in cell["searches"]] == [one.study for one in directs]
    for i, one in enumerate(cell["searches"]):
        for way, place in (("zero_shot", "proxy"), ("direct", "wider")):
            rows = store.runs(one[way])
            assert (set(rows["lr"]), set(rows["seed"])) == ({rates[place][i]}, {1, 2})
    first, second, third = cell["searches"]
    assert first | {"seed": 8} == third | {name: first[name] for name in ("proxy_search", "direct_search")}
    assert second["zero_shot"] == second["direct"]
    assert len(final.presets["smoke"].trials) == len(store.runs()) == 3 * 2  # three rates, two fresh seeds


def test_progress_counts_the_search_seeds_of_a_method_and_place_together(search, make_trials, tmp_path):
    searches = search(trials=2, search_seeds=(0, 7))
    shown = io.StringIO()
    tune(searches, RunStore(tmp_path / "runs"), tmp_path / "tuning", Console(file=shown, width=100), "inline")
    assert "4/4 trials" in shown.getvalue()
    assert "scion, proxy: 4/4" in shown.getvalue()


OWN = """
    from scionlab.spec.tuning import Method, TransferExperiment, TransferPreset

    SPEC = TransferExperiment(
        name="mine", title="Mine", question="Does it transfer?",
        presets={{
            "smoke": TransferPreset(
                fixed=dict(
                    head_dim=8, depth=1, seq_len=16, val_tokens=256, val_seq_len=16, data="path:{text}", device="cpu"
                ),
                methods={{"scion": Method(optimizer="scion", space={{"lr": (2**-7, 2**-3)}})}},
                proxy=dict(width=16, tokens=1024, batch_size=4), targets={{"wider": dict(width=32)}},
                trials=2, search_seeds=(0, 7), seeds=(1, 2),
            )
        }},
    )
"""


@pytest.fixture
def own_file(tmp_path, text_file):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(OWN.format(text=text_file)))
    return path


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_commands_go_from_a_users_file_to_a_report(own_file, tmp_path):
    how = ["--preset", "smoke", "--results", tmp_path / "r"]
    early = call("transfer", own_file, *how, "--executor", "inline")
    assert isinstance(early.exception, UserError)
    assert "run `scionlab tune` with the same preset and results first" in str(early.exception)
    done = call("tune", own_file, *how, "--executor", "inline")
    assert done.exit_code == 0, done.output
    assert f"optuna-dashboard sqlite:///{tmp_path / 'r' / 'tuning' / 'mine.db'}" in done.output
    said = call("tune", own_file, *how, "--executor", "inline", "--trials", "3", "--json")
    document = json.loads(said.stdout)
    assert document["made"] == 2
    assert [one["seed"] for one in document["searches"]] == [0, 7]
    assert document["searches"][0]["trials"] == {"complete": 3}
    assert set(document["searches"][0]["best"]["params"]) == {"lr"}
    moved = call("transfer", own_file, *how, "--executor", "inline", "--json")
    assert moved.exit_code == 0, moved.output
    assert [(one["place"], one["seed"]) for one in json.loads(moved.stdout)["searches"]] == [("wider", 0), ("wider", 7)]
    assert json.loads(moved.stdout)["comparison"]["trials"] == len(
        RunStore(tmp_path / "r" / "runs").sweeps()["trial_ids"][0]
    )
    assert json.loads(call("transfer", own_file, *how, "--executor", "inline", "--json").stdout)["made"] == 0
    fitted = call("fit", "mine", *how)
    assert fitted.exit_code == 0, fitted.output
    (cell,) = json.loads((tmp_path / "r" / "fits" / "mine" / "proxy.json").read_text())["cells"]
    assert [one["seed"] for one in cell["searches"]] == [0, 7]
    assert cell["interval_holds"] == "noise of seeds and luck of searches"


def test_mistakes_on_the_command_line_are_sentences(own_file, tmp_path):
    for arguments, message in (
        (["tune", "width"], "experiment: 'width' is not known; choose one of PATH.py, transfer"),
        (["tune", "--preset", "lapto"], "preset: 'lapto' is not known (did you mean 'laptop'?)"),
        (["tune", own_file, "--preset", "smoke", "--method", "scoin"], "method: 'scoin' is not known"),
        (["transfer", own_file, "--preset", "smoke", "--rule", "bts"], "rule: 'bts' is not known"),
        (["run", "transfer"], "it searches for values: use `scionlab tune transfer` and then `scionlab transfer"),
        (["tune", own_file, "--preset", "smoke", "--executor", "dask"], "executor: 'dask' is not known"),
    ):
        done = call(*arguments, "--results", tmp_path / "r")
        assert isinstance(done.exception, UserError), (arguments, done.output)
        assert message in str(done.exception)


def test_the_experiment_that_ships_can_be_searched_in_every_preset(store):
    spec = load_transfer("transfer")
    assert list(spec.presets) == ["smoke", "laptop", "full", "gpu"]
    for name, chosen in spec.presets.items():
        assert chosen.about
        assert len(chosen.search_seeds) > 1, name  # or its intervals would not hold the luck of the searches
        for place in places(chosen, chosen.rule):
            for method in chosen.methods:
                trial = chosen.trial(method, place.fields, chosen.methods[method].middle, 1, place.lr_factor)
                assert trial.steps > 1, (name, place.name)
    with pytest.raises(UserError, match="it searches for values"):
        load_experiment("transfer")


def test_an_interrupted_search_says_so_and_exits_with_130(own_file, tmp_path, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(run_module.EXECUTORS, "inline", stopped)
    done = call("tune", own_file, "--preset", "smoke", "--results", tmp_path / "r", "--executor", "inline")
    assert done.exit_code == 130
    assert inline.run is not stopped


@pytest.mark.slow
def test_ray_finds_what_inline_finds_while_each_search_has_one_trial_at_a_time(search, make_trials, store, tmp_path):
    searches = search(names=("scion", "adam"), trials=8, pruning="median")
    make_trials(searches)
    other = RunStore(tmp_path / "ray" / "runs")
    result = make_trials(searches, into=other, executor="ray", workers=2)
    assert not result.errors()
    assert rows_of(other).equals(rows_of(store))

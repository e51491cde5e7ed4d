import io
from dataclasses import replace

import pytest
from rich.console import Console

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep import job as job_module
from scionlab.sweep import plan_sweep, run_sweep, stacking
from scionlab.sweep.estimate import estimate_seconds, seconds_by_store
from scionlab.sweep.tasks import Task


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=100)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No trial is timed for a stack, and so none is trained in one: which is faster here is not what is tested."""
    monkeypatch.setattr(stacking, "SMALL", 0.0)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def test_a_sweep_trains_every_cell_and_a_second_call_none(experiment, tiny, store, console):
    spec = experiment(tiny(), tiny(lr=2**-6), tiny(optimizer="adam"))
    first = run_sweep(spec, "smoke", store, console, "inline")
    assert len(first.reports) == 3
    assert {row["experiment"] for row in store.runs().to_dict("records")} == {"tiny"}
    second = run_sweep(spec, "smoke", store, console, "inline")
    assert second.reports == []
    assert len(store.sweeps()) == 2
    assert list(store.sweeps()["status"]) == ["done", "done"]


def test_a_larger_grid_trains_only_the_new_cells(experiment, tiny, store, console):
    run_sweep(experiment(tiny(lr=2**-5), tiny(lr=2**-6)), "smoke", store, console, "inline")
    larger = experiment(tiny(lr=2**-5), tiny(lr=2**-6), tiny(lr=2**-7))
    result = run_sweep(larger, "smoke", store, console, "inline")
    assert [cell.trial.lr for cell in result.plan.todo] == [2**-7]
    assert len(result.reports) == 1


def test_cells_are_shared_between_experiments(experiment, tiny, store, console):
    spec = experiment(tiny())
    run_sweep(spec, "smoke", store, console, "inline")
    other = spec.model_copy(update={"name": "other"})
    assert run_sweep(other, "smoke", store, console, "inline").reports == []


def test_the_longest_trials_come_first(experiment, tiny, store):
    spec = experiment(tiny(tokens=640), tiny(width=64), tiny(tokens=6400))
    costs = [cell.cost for cell in plan_sweep(spec, "smoke", store).todo]
    assert costs == sorted(costs, reverse=True)


def test_a_failed_trial_is_a_row_and_is_tried_again(experiment, tiny, store, console, monkeypatch):
    spec = experiment(tiny(), tiny(lr=2**-6))

    def fails_on_one(trial, corpus, *how):
        if trial.lr == 2**-6:
            raise RuntimeError("boom")
        return real(trial, corpus)

    real = job_module.Run
    monkeypatch.setattr(job_module, "Run", fails_on_one)
    result = run_sweep(spec, "smoke", store, console, "inline")
    assert sorted(store.runs()["status"]) == ["error", "ok"]
    assert "RuntimeError: boom" in result.errors()[0]
    monkeypatch.setattr(job_module, "Run", real)
    again = run_sweep(spec, "smoke", store, console, "inline")
    assert [cell.trial.lr for cell in again.plan.todo] == [2**-6]
    assert set(store.runs()["status"]) == {"ok"}


def test_ctrl_c_keeps_what_was_finished(experiment, tiny, store, console, monkeypatch):
    real, calls = job_module.Run, []

    def interrupted_on_the_third(trial, corpus, *how):
        calls.append(trial)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(trial, corpus)

    monkeypatch.setattr(job_module, "Run", interrupted_on_the_third)
    spec = experiment(*(tiny(seed=seed) for seed in range(4)))
    result = run_sweep(spec, "smoke", store, console, "inline")
    assert result.interrupted
    assert len(store.runs()) == 2
    assert store.sweeps()["status"].item() == "interrupted"
    monkeypatch.setattr(job_module, "Run", real)
    assert len(run_sweep(spec, "smoke", store, console, "inline").reports) == 2


def test_nothing_is_written_when_the_grid_is_wrong(experiment, tiny, store, console):
    for bad in (
        tiny(optimizer="adm"),
        tiny(options={"radius": 1}),
        tiny(data="path:absent.txt"),
        tiny(val_tokens=2**20),
        tiny(seq_len=2048, val_seq_len=16, probe=1),  # 26 windows
        tiny(seq_len=64, val_seq_len=16, noise_probe=1),  # fewer than 1,024
        tiny(stages=[{"from_tokens": 512, "batch_size": 8, "seq_len": 2**17, "lr": 0.1}], tokens=2**22),
        tiny(stages=[{"from_tokens": 512, "batch_size": 2**13, "seq_len": 16, "lr": 0.1}], tokens=2**22),
        tiny(stages=[{"from_tokens": 512, "batch_size": 8, "seq_len": 16, "lr": 1.5}]),
    ):
        with pytest.raises(UserError):
            run_sweep(experiment(tiny(), bad), "smoke", store, console, "inline")
        assert not store.root.exists()


IMAGES = {"model": "mlp", "data": "digits", "seq_len": 1, "val_seq_len": 1, "val_tokens": 64}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train_limit": 128, "batch_size": 16}, r"has 8 training windows of seq_len 16 within train_limit 128$"),
        (IMAGES | {"batch_size": 2**11}, r"'digits' has 1463 training images$"),
        (IMAGES | {"train_limit": 7, "batch_size": 8}, r"'digits' has 7 training images within train_limit 7$"),
    ],
    ids=["text", "images", "few images"],
)
def test_a_batch_beyond_an_epoch_is_refused_with_what_there_is(experiment, tiny, store, fields, message):
    with pytest.raises(UserError, match=message):
        plan_sweep(experiment(tiny(**fields)), "smoke", store)


@pytest.mark.parametrize("spelled", [{}, {"beta2": 0.95}], ids=["the same", "a default spelled out"])
def test_a_grid_that_holds_a_trial_twice_is_refused(experiment, tiny, store, spelled):
    spec = experiment(tiny(optimizer="adam"), tiny(optimizer="adam", options=spelled))
    with pytest.raises(UserError, match="holds this trial twice"):
        plan_sweep(spec, "smoke", store)


def test_a_text_that_changed_since_the_sweep_began_is_an_error(experiment, tiny, store):
    cell = replace(plan_sweep(experiment(tiny()), "smoke", store).todo[0], data_sha256="0" * 64)
    assert "has changed since the sweep began" in job_module.run_task(Task((cell,)), store)[0].error


def test_progress_counts_and_names_the_best_loss(experiment, tiny, store, console):
    spec = experiment(tiny(), tiny(optimizer="adam"))
    run_sweep(spec, "smoke", store, console, "inline")
    last_line = console.file.getvalue().strip().splitlines()[-1]
    assert last_line.startswith("2/2 trials")
    best = store.runs().groupby("optimizer")["val_loss"].min()
    assert f"best val loss: adam {best['adam']:.3f} · scion {best['scion']:.3f}" in last_line


def test_progress_knows_the_best_loss_in_the_store(experiment, tiny, store, console):
    run_sweep(experiment(tiny()), "smoke", store, console, "inline")
    best = store.runs()["val_loss"].item()
    run_sweep(experiment(tiny(), tiny(optimizer="adam")), "smoke", store, console, "inline")
    assert f"scion {best:.3f}" in console.file.getvalue().strip().splitlines()[-1]


def test_a_terminal_gets_a_bar(experiment, tiny, store):
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    run_sweep(experiment(tiny()), "smoke", store, console, "inline")
    assert "1/1" in console.file.getvalue()


def test_the_estimate_uses_the_store_before_it_probes(experiment, tiny, store, console):
    spec = experiment(tiny())
    plan = plan_sweep(spec, "smoke", store)
    assert estimate_seconds(plan.todo, store.runs()) > 0  # probed
    run_sweep(spec, "smoke", store, console, "inline")
    runs = store.runs().assign(tokens_per_s=plan.cells[0].trial.exact_tokens / 123.0)
    assert estimate_seconds(plan.cells, runs) == pytest.approx(123.0)
    assert len(store.runs()) == 1  # a probe leaves no row


def test_stages_are_estimated_one_by_one_and_probes_on_top(experiment, tiny, store, console):
    later = {"from_tokens": 512, "batch_size": 8, "seq_len": 16, "lr": 0.1}
    run_sweep(experiment(tiny(), tiny(batch_size=8)), "smoke", store, console, "inline")
    runs = store.runs()
    runs["tokens_per_s"] = runs["batch_size"].map({4: 512 / 10.0, 8: 512 / 1.0})

    def seconds(**fields):
        return estimate_seconds(plan_sweep(experiment(tiny(**fields)), "smoke", store).cells, runs)

    assert seconds() == pytest.approx(20)
    assert seconds(stages=[later]) == pytest.approx(10 + 1)
    (probed,) = plan_sweep(experiment(tiny(stages=[later], probe=2)), "smoke", store).cells
    assert seconds(stages=[later], probe=2) == pytest.approx(11 * probed.cost / (probed.cost - probed.probe_cost))


def test_speeds_of_staged_and_probed_runs_are_not_those_of_plain_ones(experiment, tiny, store, console):
    later = {"from_tokens": 512, "batch_size": 8, "seq_len": 16, "lr": 0.1}
    run_sweep(
        experiment(tiny(), tiny(probe=1), tiny(noise_probe=1), tiny(stages=[later])), "smoke", store, console, "inline"
    )
    runs = store.runs()
    plain = runs["stages"].isna() & ~runs["spec"].str.contains("probe")
    assert plain.sum() == 1
    runs["tokens_per_s"] = plain.map({True: 64.0, False: 1e9})
    cells = plan_sweep(experiment(tiny()), "smoke", store).cells
    assert estimate_seconds(cells, runs) == pytest.approx(cells[0].trial.exact_tokens / 64)


def test_by_the_store_alone_nothing_is_timed(experiment, tiny, store, console, monkeypatch):
    known, other = plan_sweep(experiment(tiny(), tiny(width=32, batch_size=8)), "smoke", store).cells
    monkeypatch.setattr("scionlab.sweep.estimate.train", None)
    assert seconds_by_store([known, other], store.runs()) == [None, None]
    run_sweep(experiment(known.trial), "smoke", store, console, "inline")
    runs = store.runs().assign(
        tokens_per_s=known.trial.exact_tokens / 3.0, wall_time_s=[7.0], compile_s=[5.0], status=["ok"]
    )
    of_its_shape, by_cost = seconds_by_store([known, other], runs)
    assert of_its_shape == pytest.approx(3.0)
    assert by_cost == pytest.approx((7.0 - 5.0) * other.cost / known.cost)
    assert seconds_by_store([other], runs.assign(device="cuda")) == [None]
    assert seconds_by_store([], runs) == []


@pytest.mark.parametrize("field", ["probe", "noise_probe"])
def test_probes_make_a_cell_cost_more(experiment, tiny, store, field):
    trials = tiny(), tiny(**{field: 1}), tiny(**{field: 2})
    plain, one, two = plan_sweep(experiment(*trials), "smoke", store).cells
    assert plain.probe_cost == 0
    assert plain.flops == one.flops == two.flops
    assert two.cost - plain.cost == pytest.approx(2 * (one.cost - plain.cost)) == pytest.approx(two.probe_cost)

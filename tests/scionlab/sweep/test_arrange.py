"""How cells become tasks: what is stacked, what is compiled, and in which order."""

import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep import How, compiling, plan_sweep, run_sweep, stacking
from scionlab.sweep.arrange import arrange
from scionlab.sweep.compiling import pays, shape_of, shapes_to_compile
from scionlab.sweep.plan import Plan
from scionlab.sweep.stacking import make_tasks, stack_sizes
from scionlab.sweep.tasks import Task

console = Console(quiet=True)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results" / "runs")


@pytest.fixture
def cells(experiment, tiny, store):
    """The cells of trials, in their order."""

    def make(*trials):
        return plan_sweep(experiment(*trials), "smoke", store).cells

    return make


@pytest.fixture
def timed(monkeypatch):
    """`seconds_per_step` by a planted law: a stack of N takes `law(N)` seconds. Gives the sizes that were timed."""
    sizes = []

    def plant(law):
        def seconds(trials, corpus, steps):
            sizes.append(len(trials))
            return law(len(trials))

        monkeypatch.setattr(stacking, "seconds_per_step", seconds)
        monkeypatch.setattr(stacking, "SMALL", 3e7)
        return sizes

    return plant


def make_stacks(cells, workers, cache, size=None):
    return make_tasks(cells, stack_sizes(cells, workers, cache, size), workers)


def sizes_of(tasks):
    return sorted((len(task.cells) for task in tasks), reverse=True)


# --- compiling ---


def test_a_shape_is_compiled_when_all_its_tasks_together_save_more_than_that_takes(cells, tiny):
    (cell,) = cells(tiny())
    saved = 16 * 1 * (compiling.SAVED_PER_BLOCK + compiling.SAVED_PER_NUMBER * 4 * 16 * 16)  # 16 steps of one block
    spent = compiling.MARGIN * 1.5 * (compiling.COMPILE_S + compiling.LOAD_S)  # one block, two workers
    enough = int(spent / saved) + 1
    assert pays([Task((cell,))] * enough, workers=2)
    assert not pays([Task((cell,))] * (enough - 1), workers=2)
    assert not pays([Task((cell,))] * enough, workers=3)


def test_all_methods_seeds_and_rates_of_a_shape_count_together(cells, tiny, monkeypatch):
    made = cells(*(tiny(optimizer=name, seed=seed) for name in ("scion", "adam") for seed in (0, 1)), tiny(width=32))
    assert len({shape_of(Task((cell,))) for cell in made}) == 2
    monkeypatch.setattr(compiling, "pays", lambda alike, workers: len(alike) == 4)
    assert shapes_to_compile([Task((cell,)) for cell in made], 2) == {shape_of(Task((made[0],)))}


def test_images_and_gpus_are_compiled_only_on_request(cells, tiny):
    sizes = {"data": "digits", "seq_len": 1, "val_seq_len": 1, "tokens": 10**9, "batch_size": 8}
    (image,) = cells(tiny(model="mlp", **sizes))
    (text,) = cells(tiny())
    on_gpu = replace(text, trial=text.trial.model_copy(update={"device": "cuda", "tokens": 10**12}))
    for cell in (image, on_gpu):
        assert not pays([Task((cell,))], 1)
        assert shapes_to_compile([Task((cell,))], 1, "always")
    long = replace(text, trial=text.trial.replace(tokens=10**9))
    assert pays([Task((long,))], 1)
    assert not shapes_to_compile([Task((long,))], 1, "never")


def test_every_stage_of_another_shape_is_a_graph_to_pay_for(cells, tiny):
    later = [{"from_tokens": 2**20, "batch_size": 8, "seq_len": 16, "lr": 2**-6}]
    plain, staged = cells(tiny(tokens=2**21), tiny(tokens=2**21, stages=later))
    count = next(n for n in range(1, 10**4) if pays([Task((plain,))] * n, 1))
    assert not pays([Task((staged,))] * count, 1)
    assert pays([Task((staged,))] * 3 * count, 1)


# --- stacking ---


def test_a_stack_holds_trials_of_one_shape_and_every_worker_gets_one(cells, tiny, tmp_path):
    made = cells(*(tiny(seed=seed) for seed in range(7)), tiny(width=32), tiny(probe=1), tiny(optimizer="shampoo"))
    tasks = make_stacks(made, 1, tmp_path / "cache", size=4)
    assert sizes_of(tasks) == [4, 3, 1, 1, 1]
    assert sorted(c.trial_id for task in tasks for c in task.cells) == sorted(c.trial_id for c in made)
    assert sizes_of(make_stacks(made[:7], 3, tmp_path / "cache", size=64)) == [3, 2, 2]
    assert sizes_of(make_stacks(made, 1, tmp_path / "cache", size=1)) == [1] * 10
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("law", "expected", "measured"),
    [
        (lambda n: n, [1] * 20, [1, 4]),  # no faster: not a second size is tried
        (lambda n: 0.95 * n if n > 1 else 1.0, [1] * 20, [1, 4]),  # not by enough
        (lambda n: 1.0, [10, 10], [1, 4, 16]),  # free: the largest, in equal parts
        (lambda n: 1.0 if n < 5 else 10.0, [4] * 5, [1, 4, 16]),  # four are faster than sixteen
    ],
)
def test_the_fastest_size_is_measured_once(law, expected, measured, cells, tiny, tmp_path, timed):
    sizes = timed(law)
    made, cache = cells(*(tiny(seed=seed) for seed in range(20))), tmp_path / "cache" / "stacks.json"
    for _ in range(2):
        assert sizes_of(make_stacks(made, 1, cache)) == expected
    assert sizes == measured
    cache.write_text("{ torn")
    assert sizes_of(make_stacks(made, 1, cache)) == expected
    assert sizes == 2 * measured
    assert len(json.loads(cache.read_text())) == 1


def test_large_or_lonely_trials_and_steps_in_half_precision_are_not_timed_on_a_cpu(cells, tiny, tmp_path, timed):
    sizes = timed(lambda n: 1.0)
    large = cells(*(tiny(width=256, seq_len=64, batch_size=64, tokens=2**16, seed=seed) for seed in range(4)))
    assert sizes_of(make_stacks(large, 1, tmp_path / "cache")) == [1] * 4
    assert sizes_of(make_stacks(cells(tiny()), 1, tmp_path / "cache")) == [1]
    halves = [{"optimizer": "muon"}, {"options": {"dtype": "bfloat16"}}]
    for half in halves:
        made = cells(*(tiny(seed=seed, **half) for seed in range(4)))
        assert sizes_of(make_stacks(made, 1, tmp_path / "cache")) == [1] * 4
        assert sizes_of(make_stacks(made, 1, tmp_path / "cache", size=4)) == [4]
    assert sizes == []


# --- together ---


def test_each_worker_begins_with_another_shape_to_compile_and_then_the_longest_come_first(cells, tiny, tmp_path):
    made = cells(*(tiny(width=width, seed=seed) for width in (16, 32, 64) for seed in (0, 1)))
    tasks = arrange(Plan(made, made), 2, tmp_path / "cache", How("always", 1))
    assert [task.cells[0].trial.width for task in tasks] == [64, 32, 16, 64, 32, 16]
    plain = arrange(Plan(made, made), 2, tmp_path / "cache", How("never", 1))
    assert [task.cells[0].trial.width for task in plain] == [64, 64, 32, 32, 16, 16]


def test_a_sweep_that_goes_on_stacks_and_compiles_as_it_began(cells, tiny, tmp_path, monkeypatch):
    made = cells(*(tiny(seed=seed) for seed in range(5)))
    monkeypatch.setattr(compiling, "pays", lambda alike, workers: sum(len(task.cells) for task in alike) == 5)
    for left in (made, made[:2], made[3:4]):
        tasks = arrange(Plan(made, left), 1, tmp_path / "cache", How(stack=4))
        assert all(task.stacked and task.compile for task in tasks)
        assert sum(len(task.cells) for task in tasks) == len(left)


def test_a_sweep_in_stacks_has_the_rows_of_one_without(experiment, tiny, store, tmp_path):
    spec = experiment(*(tiny(lr=lr, seed=seed) for lr in (2**-5, 2**-6) for seed in (0, 1)), tiny(probe=1))
    run_sweep(spec, "smoke", store, console, "inline", how=How(stack=4))
    other = RunStore(tmp_path / "other")
    result = run_sweep(spec, "smoke", other, console, "inline", how=How(stack=1))
    assert [len(task.cells) for task in result.tasks] == [1] * 5
    stacked, alone = (s.runs().set_index("trial_id").sort_index() for s in (store, other))
    assert sorted(stacked["stack"]) == [0, 4, 4, 4, 4]
    assert set(alone["stack"]) == {0}
    assert not stacked["compiled"].any()
    # float32 sums in another order, over sixteen steps
    assert stacked["val_loss"].to_list() == pytest.approx(alone["val_loss"].to_list(), rel=2e-5)
    assert stacked["lr"].equals(alone["lr"])
    assert len(store.curves()) == len(other.curves())


def test_what_is_asked_for_is_checked():
    with pytest.raises(UserError, match="compile: 'yes' is not known"):
        How("yes")
    with pytest.raises(UserError, match="stack: 0 is not allowed"):
        How(stack=0)
    for minutes in (0.0, -1.0, math.nan, -math.inf):
        with pytest.raises(UserError, match=r"checkpoint_minutes: .* is not allowed: it must be above 0"):
            How(checkpoint_minutes=minutes)

"""Which trials share a stem, and that a sweep's rows are the same with stems and without."""

import json

import pytest
from rich.console import Console
from stores import numbers

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep import How, compiling, plan_sweep, run_sweep, stacking
from scionlab.sweep.arrange import arrange, planned_stems
from scionlab.sweep.compiling import shape_of
from scionlab.sweep.estimate import estimate_seconds, seconds_by_store
from scionlab.sweep.plan import Plan
from scionlab.sweep.stems import choose_stems, makespan, shares_of, with_stems
from scionlab.sweep.tasks import Task

console = Console(quiet=True)
WSD = {"schedule": "trapezoid", "decay_fraction": 0.25, "warmup": 0.0}
BUDGETS = (8, 16, 32)  # in steps
# The constant parts of 8, 16 and 32 steps, and the first step of each decay, whose rate is whole.
TRAINED = 13 + (8 - 7) + (16 - 13) + (32 - 13)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results" / "runs")


@pytest.fixture
def budgets(tiny):
    """Trials of one setting at several budgets."""

    def make(steps=BUDGETS, **fields):
        return [tiny(**{"tokens": 64 * n, **WSD, **fields}) for n in steps]

    return make


@pytest.fixture
def cells(experiment, store):
    def make(*trials):
        return plan_sweep(experiment(*trials), "smoke", store).cells

    return make


def stemmed(cells, mode="auto", gains=(), workers=1):
    """The steps of the trials of every stem."""
    chosen = choose_stems(cells, dict(gains), workers, mode)
    return sorted([sorted(cell.trial.steps for cell in task.cells) for task in chosen])


# --- which trials ---


def test_budgets_of_one_setting_share_a_stem(cells, budgets, tiny):
    settings = [{"lr": lr, "seed": seed} for lr in (2**-5, 2**-6) for seed in (0, 1)]
    made = cells(*(one for fields in settings for one in budgets(**fields)), tiny(lr=2**-7, **WSD), tiny())
    assert stemmed(made) == [list(BUDGETS)] * 4
    assert stemmed(made, "never") == []
    for task in choose_stems(made, {}, 1):
        assert len({(cell.trial.lr, cell.trial.seed) for cell in task.cells}) == 1


def test_trials_that_share_too_little_are_stemmed_only_if_asked(cells, budgets):
    falling = cells(*budgets((16, 32, 64), schedule="linear"))  # the first step alone is at the whole rate
    assert stemmed(falling) == []
    assert stemmed(falling, "always") == [[16, 32, 64]]
    warming = cells(*budgets(warmup=0.25))  # as shares of other budgets, they differ from the first step on
    assert stemmed(warming, "always") == []


def test_what_does_not_fit_into_one_stem_is_in_another(cells, budgets):
    warming = [one for n in (4, 8) for steps in BUDGETS[1:] for one in budgets([steps], warmup=n / steps / 2)]
    assert stemmed(cells(*warming)) == [[16, 32], [16, 32]]


def test_probed_trials_and_code_of_the_callers_are_trained_alone(cells, budgets, tmp_path, monkeypatch):
    assert stemmed(cells(*budgets(probe=1)), "always") == []
    (tmp_path / "stem_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    for fields in ({"model": "stem_own:build"}, {"sampler": "stem_own:Uniform"}):
        own = cells(*budgets(**fields))
        assert stemmed(own) == []
        assert stemmed(own, "always") == [list(BUDGETS)]


OWN = """
from torch import nn

from scionlab.problems.data.sampler import Drawn, Sampler


def build(width, depth):
    return nn.Sequential(nn.Embedding(256, width), nn.Linear(width, 256))


class Uniform(Sampler):
    def draw(self, count):
        return Drawn(self.rng.integers(self.n_examples, size=count))
"""


def test_a_stem_is_used_where_it_costs_less_than_stacks(cells, budgets):
    made = cells(*budgets())
    saving = sum(BUDGETS) / TRAINED
    keys = [cell.stack_key for cell in made]
    assert stemmed(made, gains=dict.fromkeys(keys, 0.99 * saving)) == [list(BUDGETS)]
    faster = dict.fromkeys(keys, 1.01 * saving)
    assert stemmed(made, gains=faster) == []
    assert stemmed(made, "always", faster) == [list(BUDGETS)]


def test_a_stem_is_not_used_where_workers_would_wait_for_it(cells, budgets):
    made = cells(*budgets(steps=(24, 32)))
    # alone, two workers need the longer of the two; from one stem, one of them does it all
    assert makespan([Task((cell,)) for cell in made], 2) < makespan(with_stems(made, choose_stems(made, {}, 1)), 2)
    assert stemmed(made, workers=1) == stemmed(made, "always", workers=2) == [[24, 32]]
    assert stemmed(made, workers=2) == []
    many = cells(*(one for seed in range(4) for one in budgets(steps=(24, 32), seed=seed)))
    assert stemmed(many, workers=2) == [[24, 32]] * 4


def test_tasks_end_when_the_last_worker_does(cells, budgets):
    four = [Task((cell,)) for cell in cells(*budgets(steps=(8, 16, 24, 32)))]
    per_step = four[0].cost / 8
    assert makespan(four, 1) == pytest.approx(80 * per_step)
    assert makespan(four, 2) == pytest.approx(40 * per_step)
    assert makespan(four, 9) == pytest.approx(32 * per_step)


def test_the_steps_of_a_stem_cost_once(cells, budgets):
    made = cells(*budgets())
    (task,) = with_stems(made, choose_stems(made, {}, 1))
    assert task.tokens == 64 * TRAINED
    assert task.cost == pytest.approx(sum(cell.cost for cell in made) * TRAINED / sum(BUDGETS))
    assert task.flops == pytest.approx(sum(cell.flops for cell in made) * TRAINED / sum(BUDGETS))
    assert shares_of([task]) == {cell.trial_id: TRAINED / sum(BUDGETS) for cell in made}


def test_of_a_stem_those_left_are_trained_together(cells, budgets):
    made = cells(*budgets())
    stems = choose_stems(made, {}, 1)
    assert with_stems(made[:2], stems) == [Task(made[:2], stem=True)]
    assert with_stems(made[1:2], stems) == [Task(made[1:2])]
    assert with_stems([], stems) == []


def test_what_is_compiled_does_not_depend_on_stems(cells, budgets, tmp_path, monkeypatch):
    made = cells(*budgets())
    monkeypatch.setattr(compiling, "pays", lambda alike, workers: [len(task.cells) for task in alike] == [1, 1, 1])
    for mode in ("never", "always"):
        tasks = arrange(Plan(made, made), 1, tmp_path / "cache", How(stack=1, stem=mode))
        assert [task.compile for task in tasks] == [True] * len(tasks)
    assert shape_of(tasks[0]) == shape_of(Task(made[:1]))


def test_what_is_asked_for_is_checked():
    with pytest.raises(UserError, match="stem: 'yes' is not known"):
        How(stem="yes")


# --- the same rows ---


@pytest.fixture
def swept(experiment, tmp_path, monkeypatch):
    """The store of a sweep, and what it did."""
    monkeypatch.setattr(stacking, "SMALL", 0.0)  # no trial is timed for a stack

    def sweep(trials, name, stem, executor="inline", **more):
        store = RunStore(tmp_path / name / "runs")
        return store, run_sweep(experiment(*trials), "smoke", store, console, executor, how=How(stem=stem), **more)

    return sweep


def same_rows(one, other):
    assert numbers(one).equals(numbers(other))
    tables = [
        store.curves().sort_values(["trial_id", "step"], kind="stable", ignore_index=True) for store in (one, other)
    ]
    assert tables[0].equals(tables[1])


def test_a_sweep_with_stems_has_the_rows_of_one_without(swept, budgets, tiny):
    methods = ("scion", "adam", "muon", "scion-light")
    trials = [one for name in methods for one in budgets(optimizer=name, lr=2**-6)]
    trials += [*budgets(lr=2**-7, validate_every=128, ema=0.9), *budgets(optimizer="adam", lr=3.0)]
    trials += [tiny(probe=1, **WSD), tiny(schedule="linear")]
    alone, _ = swept(trials, "alone", "never")
    stems, done = swept(trials, "stems", "auto")
    assert sorted(len(task.cells) for task in done.tasks) == [1, 1, *[3] * 6]
    same_rows(alone, stems)
    rows = stems.runs()
    assert set(rows.loc[rows["lr"] == 2**-6, "stem_steps"]) == {7, 13}
    assert set(rows.loc[rows["lr"] == 3.0, "status"]) == {"diverged"}
    assert set(alone.runs()["stem_steps"]) == {0}
    assert stems.checkpoints.trial_ids() == set()
    # seconds and tokens are shared out once
    plain = rows[(rows["lr"] == 2**-6)]
    trained = (plain["tokens_per_s"] * plain["wall_time_s"]).sum()
    assert trained == pytest.approx(4 * 64 * TRAINED, rel=1e-9)  # float64 rounding
    assert done.trial_seconds <= done.wall_time_s


@pytest.mark.slow
def test_a_sweep_under_ray_of_stems_and_trials_alone_has_the_rows_of_one_without_either(swept, budgets, tiny, ray_here):
    trials = [one for seed in range(2) for one in budgets(seed=seed)]
    trials += [tiny(optimizer=name, seed=seed) for name in ("adam", "muon", "scion") for seed in (0, 1)]
    trials.append(tiny(optimizer="adam", lr=1000.0))
    alone, _ = swept(trials, "alone", "never")
    stems, done = swept(trials, "stems", "auto", "ray", workers=2, address=ray_here)
    assert sorted(task.stem for task in done.tasks) == [False] * 7 + [True] * 2
    assert len(done.reports) == len(trials)
    same_rows(alone, stems)


def test_a_larger_grid_takes_what_there_is_and_stems_the_rest(swept, budgets, experiment, tmp_path):
    store, _ = swept(budgets((8, 32)), "stems", "auto")
    before = store.runs().set_index("trial_id")["started_at"]
    result = run_sweep(experiment(*budgets((8, 16, 32, 64))), "smoke", store, console, "inline")
    assert [len(task.cells) for task in result.tasks] == [2]
    after = store.runs().set_index("trial_id")
    assert after["started_at"][before.index].equals(before)
    assert sorted(after["stem_steps"]) == [7, 7, 13, 13]
    same_rows(store, swept(budgets((8, 16, 32, 64)), "alone", "never")[0])


def test_what_the_store_tells_of_speed_is_the_same_from_a_stem(cells, budgets, store, swept):
    other, _ = swept(budgets(), "stems", "auto")
    runs, made = other.runs(), cells(*budgets())
    speed = (runs["tokens_per_s"] * runs["wall_time_s"]).sum() / runs["wall_time_s"].sum()
    by_shape = runs.assign(tokens_per_s=speed, wall_time_s=speed**-1 * runs["tokens_per_s"] * runs["wall_time_s"])
    assert estimate_seconds(made, by_shape) == pytest.approx(64 * sum(BUDGETS) / speed)
    shares = shares_of(with_stems(made, choose_stems(made, {}, 1)))
    assert estimate_seconds(made, by_shape, shares) == pytest.approx(64 * TRAINED / speed)
    # by cost, for a shape that has not been trained: its seconds alone, from those that were shared out
    seconds = 64 * TRAINED / speed
    cost = sum(cell.cost for cell in made) * TRAINED / sum(BUDGETS)
    (wide,) = cells(budgets((16,), width=32)[0])
    assert seconds_by_store([wide], by_shape) == [pytest.approx(wide.cost * seconds / cost)]


def test_a_dry_run_counts_the_steps_of_a_stem_once(experiment, budgets, store, tmp_path, monkeypatch, capsys):
    from scionlab.cli import terminal

    plan = plan_sweep(experiment(*budgets(), *budgets((16,), seed=1)), "smoke", store)
    stems = planned_stems(plan, 1, How())
    assert [len(task.cells) for task in stems] == [3]
    assert planned_stems(plan, 1, How(stack=4)) == planned_stems(plan, 1, How(stem="never")) == []
    tasks = with_stems(plan.todo, stems)
    terminal.print_plan(plan, tasks, store.runs(), 1, Console(width=120))
    said = capsys.readouterr().out
    assert f"3 trials begin with 1 stem: {64 * (TRAINED + 16):,} tokens are trained, not {64 * 72:,}" in said


def test_the_command_says_so_too(call, budgets, tmp_path, text_file):
    spec = tmp_path / "mine.py"
    spec.write_text(SPEC.format(text=text_file))
    asked = ["run", spec, "--preset", "smoke", "--workers", 1, "--dry-run", "--json"]
    done = json.loads(call(*asked).out)
    assert (done["trials"], done["stems"], done["tokens"], done["tokens_trained"]) == (2, 1, 64 * 48, 64 * 35)
    assert done["flops_trained"] == pytest.approx(done["flops"] * 35 / 48)
    never = json.loads(call(*asked, "--stem", "never").out)
    assert (never["stems"], never["tokens_trained"]) == (0, never["tokens"])
    wrong = call(*asked, "--stem", "some")
    assert wrong.code == 2
    assert "stem: 'some' is not known" in wrong.err


SPEC = """
from scionlab.spec import Experiment, Preset, Trial

FIXED = dict(
    optimizer="scion", lr=2**-5, width=16, head_dim=8, depth=1, batch_size=4, seq_len=16, val_tokens=256,
    val_seq_len=16, data="path:{text}", device="cpu", schedule="trapezoid", decay_fraction=0.25, warmup=0.0,
)
SPEC = Experiment(
    name="mine", title="Mine", question="Does it run?",
    presets={{"smoke": Preset(trials=[Trial(tokens=64 * steps, **FIXED) for steps in (16, 32)])}},
)
"""

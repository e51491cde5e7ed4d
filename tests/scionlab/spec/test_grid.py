"""The extension of a grid: what stays, what is added, and what is no question of rates."""

import math
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionlab.errors import UserError
from scionlab.spec import Stage, Trial, trial_id
from scionlab.spec.grid import extend, extend_preset, log2_range, trials
from scionlab.spec.loading import experiment_names, load_experiment

SHA = "a" * 64
FIXED = {"optimizer": "adam", "width": 16, "device": "cpu", "dtype": "float32", "warmup": 0.0, "calls_per_step": 1}
quick = settings(deadline=None, derandomize=True, max_examples=60)

rate_axes = st.sets(st.integers(-16, 0), min_size=2, max_size=5).map(
    lambda found: [2 ** (e / 4) for e in sorted(found)]
)
seed_axes = st.sets(st.integers(0, 9), min_size=1, max_size=3)


@st.composite
def grids(draw):
    """Widths, each with rates and seeds of its own, some seeds lacking at some rates; a few trials are probed."""
    found = []
    for width in draw(st.sets(st.sampled_from([16, 32, 48]), min_size=1)):
        rates, seeds = draw(rate_axes), draw(seed_axes)
        whole = trials({**FIXED, "width": width}, lr=draw(st.permutations(rates)), seed=sorted(seeds))
        kept = [trial for trial in whole if trial.seed == min(seeds) or draw(st.booleans())]
        probe = draw(st.sampled_from([0, 0, 3]))
        found += [trial.replace(probe=probe) if trial.seed == min(seeds) else trial for trial in kept]
    return tuple(found)


def seeds_by_rate(grid):
    found = {}
    for trial in grid:
        found.setdefault((trial.width, trial.lr), []).append(trial.seed)
    return found


def rates_by_width(grid):
    return {width: sorted({t.lr for t in grid if t.width == width}) for width in {t.width for t in grid}}


asked = st.fixed_dictionaries(
    {"seeds": st.integers(1, 5), "more_rates": st.integers(0, 3), "finer_rates": st.booleans()}
)


@quick
@given(grids(), asked)
def test_the_grid_comes_first_as_it_is_and_no_trial_comes_twice(grid, how):
    extended = extend(grid, **how)
    assert extended[: len(grid)] == grid
    assert len({trial_id(trial, SHA) for trial in extended}) == len(extended)
    assert all(len(set(seeds)) == len(seeds) for seeds in seeds_by_rate(extended).values())


@quick
@given(grids(), st.integers(1, 6))
def test_seeds_are_filled_up_with_the_smallest_that_are_free_and_once_is_enough(grid, seeds):
    extended = extend(grid, seeds=seeds)
    before, after = seeds_by_rate(grid), seeds_by_rate(extended)
    assert before.keys() == after.keys()
    for key, had in before.items():
        free = (seed for seed in count() if seed not in had)
        expected = {*had, *(next(free) for _ in range(seeds - len(had)))}
        assert set(after[key]) == expected
    assert extend(extended, seeds=seeds) == extended


@quick
@given(grids())
def test_finer_rates_are_the_geometric_means_of_neighbours_with_every_seed_of_their_setting(grid):
    extended = extend(grid, finer_rates=True)
    seeds = seeds_by_rate(extended)
    for width, rates in rates_by_width(grid).items():
        means = [math.sqrt(low * high) for low, high in pairwise(rates)]
        assert rates_by_width(extended)[width] == pytest.approx(sorted(rates + means), rel=1e-12)
        of_setting = {trial.seed for trial in grid if trial.width == width}
        new = set(rates_by_width(extended)[width]) - set(rates)
        assert all(set(seeds[width, rate]) == of_setting for rate in new)


@quick
@given(grids(), st.integers(1, 3))
def test_more_rates_go_on_by_the_ratio_at_each_end(grid, more):
    extended = rates_by_width(extend(grid, more_rates=more))
    for width, rates in rates_by_width(grid).items():
        steps = range(1, more + 1)
        below = [rates[0] * (rates[0] / rates[1]) ** step for step in steps]
        above = [rates[-1] * (rates[-1] / rates[-2]) ** step for step in steps]
        assert extended[width] == pytest.approx(sorted([*below, *rates, *above]), rel=1e-12)


@quick
@given(grids(), st.integers(0, 2), st.integers(1, 3))
def test_to_ask_for_more_takes_nothing_away(grid, more, seeds):
    most = set(map(Trial.model_dump_json, extend(grid, seeds + 1, more + 1, finer_rates=True)))
    for finer in (False, True):
        assert set(map(Trial.model_dump_json, extend(grid, seeds, more, finer))) <= most
    # Seeds come after the rates, so that new rates get them, too.
    assert min(map(len, seeds_by_rate(extend(grid, seeds, more, finer_rates=True)).values())) >= seeds


def test_octaves_stay_octaves():
    grid = trials(FIXED, lr=log2_range(-6, -2)[::2])
    assert rates_by_width(extend(grid, more_rates=1, finer_rates=True)) == {16: log2_range(-8, 0)}
    finer = extend(trials(FIXED, lr=log2_range(-5, -4)), finer_rates=True)
    assert rates_by_width(finer) == {16: [2**-5, 2**-4.5, 2**-4]}


def test_a_setting_of_one_rate_keeps_it_beside_others_that_are_tuned():
    tuned, baseline = trials(FIXED, lr=[0.25, 0.5]), trials({**FIXED, "optimizer": "sgd", "lr": 0.1}, seed=[0, 1])
    extended = extend((*baseline, *tuned), seeds=3, more_rates=1, finer_rates=True)
    assert {trial.lr for trial in extended if trial.optimizer == "sgd"} == {0.1}
    rates = sorted({trial.lr for trial in extended if trial.optimizer == "adam"})
    assert rates == pytest.approx([2 ** (e / 2) for e in range(-6, 1)])
    assert sum(trial.optimizer == "sgd" for trial in extended) == 3


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"more_rates": 2}, "more-rates: 2 is not allowed: every setting of this grid has one learning rate"),
        ({"finer_rates": True}, "finer-rates: True is not allowed: every setting of this grid has one learning rate"),
        ({"seeds": 0}, "seeds: 0 is not allowed: it must be at least 1"),
        ({"more_rates": -1}, "more-rates: -1 is not allowed: it must be at least 0"),
    ],
)
def test_what_would_add_nothing_is_refused(how, expected):
    with pytest.raises(UserError, match=f"^{expected}"):
        extend(trials({**FIXED, "lr": 0.1}, width=[16, 32]), **how)


@pytest.mark.parametrize("rates", [[2.0**10, 2.0**19], [2.0**-1000, 2.0**-900]])
def test_rates_that_no_trial_may_have_are_refused(rates):
    with pytest.raises(UserError, match=r"^lr: \S+ is not allowed: it must be "):
        extend(trials(FIXED, lr=rates), more_rates=10, finer_rates=True)


# 0.7 makes ratios that are rounded differently from rate to rate.
def staged(lr, later=0.7):
    stage = {"batch_size": 4, "seq_len": 64}
    stages = [Stage(from_tokens=2**10, lr=lr * later, **stage), Stage(from_tokens=2**12, lr=lr / 2, **stage)]
    return Trial(**FIXED, lr=lr, stages=stages, tokens=2**14)


def test_the_rates_of_all_stages_go_together():
    grid = tuple(staged(lr) for lr in (0.1, 0.3, 0.9))
    extended = extend(grid, more_rates=1, finer_rates=True)
    assert len({trial.lr for trial in extended}) == len(extended) == 9
    for trial in extended:
        assert [stage.lr for stage in trial.stages] == pytest.approx([trial.lr * 0.7, trial.lr / 2], rel=1e-12)
    # A further seed is of the very setting, to the last digit.
    more = extend(grid, seeds=2)
    assert [trial.replace(seed=0) for trial in more[3:]] == list(grid)


def test_stages_that_do_not_go_with_the_rate_are_settings_of_their_own():
    with pytest.raises(UserError, match="has one learning rate"):
        extend([staged(0.1), staged(0.2, later=0.15)], more_rates=1)


def test_further_trials_measure_what_all_of_their_setting_do():
    grid = trials({**FIXED, "watch": 4}, lr=[0.25, 0.5], seed=[0, 1])
    probed = tuple(trial.replace(probe=2) if trial.seed == 0 and trial.lr == 0.5 else trial for trial in grid)
    added = extend(probed, seeds=3, more_rates=1)[len(grid) :]
    assert {(trial.probe, trial.watch) for trial in added} == {(0, 4)}
    assert sorted(trial.seed for trial in added if trial.lr == 0.5) == [2]


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_can_have_a_seed_more(name):
    spec = load_experiment(name)
    for preset, asked in spec.presets.items():
        seeds = max(trial.seed for trial in asked.trials) + 2
        extended = extend_preset(spec, preset, seeds=seeds).presets[preset].trials
        dumps = [trial.model_dump(exclude={"seed", "probe"}) for trial in extended]
        of_setting = {}
        for trial, dump in zip(extended, map(repr, dumps), strict=True):
            of_setting.setdefault(dump, []).append(trial.seed)
        assert all(sorted(found) == list(range(seeds)) for found in of_setting.values())


# Those whose rate is part of the question, or what a theorem says.
UNTUNED = {"coordinates", "norm-control", "gradient-noise", "convergence"}


@pytest.mark.parametrize("name", experiment_names())
def test_rates_can_be_added_where_they_are_tuned(name):
    spec = load_experiment(name)
    if name in UNTUNED:
        with pytest.raises(UserError, match="has one learning rate"):
            extend_preset(spec, "laptop", more_rates=1)
        return
    before = spec.preset("laptop").trials
    after = extend_preset(spec, "laptop", more_rates=1, finer_rates=True).preset("laptop").trials
    assert len(after) > len(before)
    assert not any(trial.probe for trial in after[len(before) :])


def test_only_the_preset_that_is_named_is_extended_and_says_so():
    spec = load_experiment("width")
    extended = extend_preset(spec, "smoke", seeds=3, more_rates=1, finer_rates=True)
    assert {name: preset for name, preset in extended.presets.items() if name != "smoke"} == {
        name: preset for name, preset in spec.presets.items() if name != "smoke"
    }
    assert extended.preset("smoke").about == (
        f"{spec.preset('smoke').about}; 1 more at both ends of the learning rates; "
        "a learning rate between every two; at least 3 seeds"
    )
    assert extended.model_copy(update={"presets": spec.presets}) == spec
    with pytest.raises(UserError, match="preset: 'smok' is not known"):
        extend_preset(spec, "smok", seeds=3)


@pytest.mark.parametrize("values", [0, "01", b"01", 0.5, None, {"a": 1}])
def test_an_axis_that_is_no_collection_of_values_is_refused_by_name(values):
    with pytest.raises(UserError, match=r"^seed: .* is not allowed: an axis must be a list of values"):
        trials({**FIXED, "lr": 0.1}, seed=values)


def test_an_axis_may_be_any_collection():
    axes = ([0, 1], (0, 1), range(2), (seed for seed in (0, 1)), np.arange(2))
    assert all([trial.seed for trial in trials({**FIXED, "lr": 0.1}, seed=values)] == [0, 1] for values in axes)

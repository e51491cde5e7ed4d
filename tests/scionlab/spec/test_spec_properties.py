"""Properties of specs and grids: identities, JSON, refusals in one line, and what a grid holds."""

import json
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scionlab.errors import UserError
from scionlab.spec import Experiment, Preset, Stage, Trial, trial_id
from scionlab.spec.grid import log2_range, trials
from scionlab.training.prepare import resolve

SHA = "a" * 64
quick = settings(deadline=None, derandomize=True, max_examples=60)

rates = st.floats(1e-9, 1e6)
words = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
options = st.dictionaries(
    words, st.one_of(st.booleans(), st.integers(-(2**63), 2**63), st.floats(-1e300, 1e300), words)
)


@st.composite
def stages(draw, tokens):
    """None, or up to three later stages of at least half a step each."""
    starts = sorted(draw(st.sets(st.integers(1, tokens - 1), max_size=3))) if tokens > 1 else []
    return [
        {"from_tokens": start, "batch_size": draw(st.integers(1, 16)), "seq_len": draw(st.integers(1, 16)), "lr": rate}
        for start, rate in zip(starts, draw(st.lists(rates, min_size=len(starts), max_size=len(starts))), strict=True)
    ]


@st.composite
def fields(draw):
    """Fields of a valid trial; many of those that have a default are left to it."""
    head_dim, val_seq_len, tokens = 2 * draw(st.integers(1, 32)), draw(st.integers(1, 512)), draw(st.integers(1, 10**9))
    needed = {"optimizer": draw(st.sampled_from(["adam", "scion", "muon"])), "lr": draw(rates)}
    sizes = {
        "width": head_dim * draw(st.integers(1, 16)),
        "head_dim": head_dim,
        "val_seq_len": val_seq_len,
        "val_tokens": val_seq_len * draw(st.integers(1, 512)),
        "tokens": tokens,
        "device": "cpu",
        "dtype": draw(st.sampled_from(["float32", "bfloat16"])),
        "warmup": 0.0,
        "calls_per_step": 1,
    }
    free = {
        "options": options,
        "momentum": st.floats(1e-9, 1),
        "momentum_schedule": st.sampled_from(["constant", "vanishing"]),
        "schedule": st.sampled_from(["trapezoid", "linear", "constant"]),
        "decay_fraction": st.floats(1e-9, 1),
        "depth": st.integers(1, 1000),
        "tied": st.booleans(),
        "residual": st.sampled_from(["1", "1/sqrt(2L)", "1/L"]),
        "data": words.map("path:{}".format),
        "batch_size": st.integers(1, 2**20),
        "seq_len": st.integers(1, 2**20),
        "train_limit": st.integers(0, 10**15),
        "seed": st.integers(0, 2**31 - 1),
        "divergence_factor": st.floats(1.0001, 1e9),
        "probe": st.integers(0, 1000),
        "watch": st.integers(0, 1000),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(free)), max_size=6))
    return needed | sizes | {name: draw(free[name]) for name in sorted(chosen)}


@st.composite
def specs(draw):
    """A valid trial, some with later stages."""
    found = draw(fields())
    if draw(st.booleans()):
        try:
            return Trial(**found, stages=draw(stages(found["tokens"])))
        except UserError as error:
            assume("is less than half a step" not in str(error))
            raise
    return Trial(**found)


@quick
@given(specs())
def test_a_trial_survives_json_with_its_identity(trial):
    back = Trial.model_validate_json(trial.model_dump_json())
    assert back == trial
    assert trial_id(back, SHA) == trial_id(trial, SHA)
    assert Trial(**json.loads(json.dumps(trial.model_dump(mode="json")))) == trial


@quick
@given(st.lists(specs(), min_size=1, max_size=3), words, st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,9}\Z"))
def test_an_experiment_survives_json(grid, text, name):
    asked = Experiment(name=name, title=text, question=text, presets={name: Preset(trials=tuple(grid), about=text)})
    assert Experiment.model_validate_json(asked.model_dump_json()) == asked


@quick
@given(specs(), st.randoms(use_true_random=False))
def test_neither_the_order_of_fields_nor_what_is_left_to_defaults_changes_an_identity(trial, random):
    spelled = [(name, getattr(trial, name)) for name in Trial.model_fields]
    random.shuffle(spelled)
    shuffled = dict(random.sample(sorted(trial.options.items()), len(trial.options)))
    assert trial_id(Trial(**{**dict(spelled), "options": shuffled}), SHA) == trial_id(trial, SHA)
    said = {
        name: value
        for name, value in spelled
        if Trial.model_fields[name].is_required() or value != Trial.model_fields[name].default
    }
    assert trial_id(Trial(**said), SHA) == trial_id(trial, SHA)


@quick
@given(specs(), specs(), st.data())
def test_identities_differ_with_any_field_that_changes_numbers(one, other, data):
    name = data.draw(st.sampled_from(sorted(set(Trial.model_fields) - {"data"})))
    try:
        changed = one.replace(**{name: getattr(other, name)})
    except UserError:
        return  # the other's value does not go with the rest
    written = [json.dumps(trial.model_dump().get(name), sort_keys=True) for trial in (one, changed)]
    assert (trial_id(changed, SHA) == trial_id(one, SHA)) == (written[0] == written[1])
    assert trial_id(one.replace(data="elsewhere"), SHA) == trial_id(one, SHA) != trial_id(one, "b" * 64)


@quick
@given(specs())
def test_options_that_are_spelled_out_or_written_as_integers_are_the_same_trial(trial):
    plain = trial.replace(options={}, lr=min(trial.lr, 0.9), stages=(), momentum_schedule="constant")
    resolved = resolve(plain)
    whole = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in resolved.options.items()
    }
    assert trial_id(resolve(plain.replace(options=whole)), SHA) == trial_id(resolved, SHA)


junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from(
            [10**400, -(10**400), 2**63, math.inf, -math.inf, math.nan, "1e400", "\ud800", "a\nb", b"\xff"]
        ),
        st.floats(),
        st.text(max_size=20),
        st.binary(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


def made(make):
    """What `make` gives, or None where it refuses with one line."""
    try:
        return make()
    except UserError as error:
        message = str(error)
    assert message.isprintable()
    return None


@pytest.mark.parametrize("name", [*Trial.model_fields, "no\nfield"])
@settings(quick, max_examples=25)
@given(valid=fields(), value=junk)
def test_any_value_of_any_field_is_a_trial_or_refused_in_one_line(name, valid, value):
    trial = made(lambda: Trial(**{**valid, name: value}))
    if trial is None:
        return
    assert Trial.model_validate_json(trial.model_dump_json()) == trial
    assert trial.steps >= 1


@quick
@given(junk)
def test_any_value_as_a_stage_is_a_stage_or_refused_in_one_line(value):
    for make in (
        lambda: Trial(optimizer="adam", lr=0.1, width=32, stages=[value]),
        lambda: Stage(**{**value} if isinstance(value, dict) else {"from_tokens": value}),
        lambda: Experiment(name="a", title="", question="", presets={"smoke": value}),
        lambda: Experiment(name=value, title=value, question="", presets={}),
    ):
        made(make)


# Grids

axes = st.fixed_dictionaries(
    {},
    optional={
        "width": st.lists(st.integers(1, 64).map(lambda n: 16 * n), min_size=1, max_size=4, unique=True),
        "lr": st.lists(st.floats(1e-6, 10), min_size=1, max_size=4, unique=True),
        "seed": st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
        "optimizer": st.lists(st.sampled_from(["adam", "scion", "muon"]), min_size=1, max_size=3, unique=True),
    },
)
FIXED = {
    **{"optimizer": "adam", "lr": 0.1, "width": 16, "device": "cpu", "dtype": "float32"},
    **{"warmup": 0.0, "calls_per_step": 1},
}


@quick
@given(axes, st.randoms(use_true_random=False))
def test_a_grid_is_the_product_of_its_axes_in_order_and_holds_nothing_twice(found, random):
    names = random.sample(sorted(found), len(found))
    asked = {name: found[name] for name in names}
    grid = trials(FIXED, **asked)
    assert len(grid) == math.prod(len(values) for values in asked.values())
    assert len({trial_id(trial, SHA) for trial in grid}) == len(grid)
    places = [tuple(asked[name].index(getattr(trial, name)) for name in names) for trial in grid]
    assert places == sorted(places)  # the last axis varies fastest
    assert all(getattr(trial, name) == FIXED[name] for trial in grid for name in FIXED if name not in asked)


@quick
@given(st.integers(-300, 300), st.integers(-3, 40))
def test_a_range_of_octaves_has_both_ends_and_steps_of_two(first, more):
    values = log2_range(first, first + more)
    assert len(values) == max(0, more + 1)
    assert [math.log2(value) for value in values] == list(range(first, first + more + 1))

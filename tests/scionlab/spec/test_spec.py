"""Trials as values: their identity, their checks and the messages of those."""

import json
import os
import subprocess
import sys

import pytest

from scionlab.errors import UserError
from scionlab.spec import ADDED_LATER, Experiment, PlannedStage, Preset, Stage, Trial, trial_id

SHA = "a" * 64
BASE = {
    **{"optimizer": "adam", "lr": 0.01, "width": 32, "device": "cpu", "dtype": "float32", "options": {"eps": 1e-8}},
    **{"warmup": 0.0, "calls_per_step": 1},
}
# another allowed value for every field that changes a trial's numbers; the data enters by its hash
OTHER = {
    "optimizer": "scion",
    "options": {"eps": 1e-7},
    "lr": 0.02,
    "momentum": 0.2,
    "schedule": "constant",
    "decay_fraction": 0.5,
    "model": "deit",
    "width": 64,
    "depth": 3,
    "head_dim": 8,
    "tied": True,
    "residual": "1",
    "tokens": 2**17,
    "batch_size": 8,
    "seq_len": 32,
    "val_tokens": 2**14,
    "val_seq_len": 32,
    "seed": 1,
    "divergence_factor": 5.0,
    "device": "cuda",
    "dtype": "bfloat16",
    "stages": (Stage(from_tokens=2**16, batch_size=8, seq_len=32, lr=0.02),),
    "probe": 3,
    "noise_probe": 2,
    "watch": 4,
    "momentum_schedule": "vanishing",
    "train_limit": 2**12,
    "rules": (".*=hidden",),
    "roles": "image",
    "warmup": 0.2,
    "decay": "cosine",
    "min_lr_ratio": 0.1,
    "clip_norm": 1.0,
    "clip_by": "dual",
    "ema": 0.9,
    "validate_every": 2**10,
    "divergence_scale": 2.0,
    "initialization": "model",
    "calls_per_step": 2,
    "sampler": "my_sampler:Mine",
    "sampler_options": {"eta": 0.5},
    "drop_path": 0.1,
}
# What the other values of these fields are not allowed without.
NEEDED = {"sampler_options": {"sampler": OTHER["sampler"]}, "drop_path": {"model": OTHER["model"]}}
# The identity of BASE. Trials already in stores keep theirs only while this does; a new field goes to ADDED_LATER.
GOLDEN_ID = "81909671fa7114fe"


def trial(**fields) -> Trial:
    return Trial(**{**BASE, **fields})


def other(field) -> Trial:
    """BASE with another value of one field, and of what it is not allowed without."""
    return trial(**NEEDED.get(field, {}), **{field: OTHER[field]})


def test_every_field_but_the_data_is_listed_here():
    assert set(OTHER) == set(Trial.model_fields) - {"data"}, "say in OTHER how the new field may change"


def test_the_identity_of_trials_in_stores_has_not_changed():
    assert trial_id(trial(), SHA) == GOLDEN_ID


@pytest.mark.parametrize("field", ADDED_LATER)
def test_fields_added_later_are_no_part_of_the_identity_where_they_say_nothing(field):
    before = ADDED_LATER[field]
    assert Trial.model_fields[field].default in (before, None)
    assert trial_id(trial(**{field: before}), SHA) == GOLDEN_ID
    if Trial.model_fields[field].default == before:
        assert field not in json.loads(trial().model_dump_json())
    assert field in json.loads(other(field).model_dump_json())
    assert other(field).replace(**{field: before}) == other(field).model_copy(update={field: before})


def test_a_copy_and_its_text_keep_what_is_no_part_of_the_identity():
    # An explicit 0 is not the default, which is the optimizer's own.
    assert trial(warmup=0.0).replace(seed=1).warmup == 0
    assert Trial.model_validate_json(trial(warmup=0.0).model_dump_json()).warmup == 0


@pytest.mark.parametrize("change", [{"from_tokens": 2**15}, {"batch_size": 4}, {"seq_len": 16}, {"lr": 0.03}])
def test_identity_changes_with_every_field_of_a_stage(change):
    (stage,) = OTHER["stages"]
    other = stage.model_copy(update=change)
    assert trial_id(trial(stages=(other,)), SHA) != trial_id(trial(stages=(stage,)), SHA)


@pytest.mark.parametrize("field", OTHER)
def test_identity_changes_with_every_field(field):
    assert getattr(trial(), field) != OTHER[field]
    assert trial_id(other(field), SHA) != trial_id(trial(), SHA)


def test_identities_of_all_the_changes_differ():
    assert len({trial_id(other(field), SHA) for field in OTHER}) == len(OTHER)


def test_identity_follows_the_text_and_not_its_path():
    assert trial_id(trial(data="path:/a"), SHA) == trial_id(trial(data="path:/b"), SHA) == trial_id(trial(), SHA)
    assert trial_id(trial(), "b" * 64) != trial_id(trial(), SHA)


def test_identity_changes_with_the_version_of_the_numerics(monkeypatch):
    before = trial_id(trial(), SHA)
    monkeypatch.setattr("scionlab.spec.identity.NUMERICS_VERSION", -1)
    assert trial_id(trial(), SHA) != before


def test_identity_ignores_the_order_of_fields_and_options_and_how_a_number_is_written():
    options = {"eps": 1e-8, "beta2": 0.9}
    one = Trial(**{**BASE, "lr": 1, "options": options})
    two = Trial(**{**dict(reversed(BASE.items())), "lr": 1.0, "options": dict(reversed(options.items()))})
    assert trial_id(one, SHA) == trial_id(two, SHA)


def test_identity_is_the_same_in_another_process():
    code = "import json, sys; from scionlab.spec import *; print(trial_id(Trial(**json.loads(sys.argv[1])), 'a' * 64))"
    command = [sys.executable, "-c", code, json.dumps(BASE)]
    # string hashes, and with them the order of sets, are drawn anew under another hash seed
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    found = {subprocess.run(command, env=e, capture_output=True, text=True, check=True).stdout for e in environments}
    assert found == {trial_id(trial(), SHA) + "\n"}


@pytest.mark.parametrize("open_", [{"device": "auto"}, {"dtype": "auto"}, {"warmup": None}, {"calls_per_step": None}])
def test_identity_is_of_resolved_trials_only(open_):
    with pytest.raises(AssertionError, match="resolved"):
        trial_id(trial(**open_), SHA)


STAGE = {"from_tokens": 2**16, "batch_size": 8, "seq_len": 32, "lr": 0.02}
REFUSED = {
    "negative width": ({"width": -32}, "width: -32 is not allowed: .*greater than 0"),
    "fractional width": ({"width": 32.5}, r"width: 32\.5 is not allowed: .*integer"),
    "head size that does not divide": ({"width": 40}, "head_dim: 16 does not divide width 40"),
    "odd head size": ({"width": 35, "head_dim": 7}, "head_dim: 7 is odd"),
    "zero lr": ({"lr": 0}, "lr: 0 is not allowed: .*greater than 0"),
    "NaN lr": ({"lr": float("nan")}, "lr: nan is not allowed: .*finite"),
    "infinite lr": ({"lr": float("inf")}, "lr: inf is not allowed: .*finite"),
    "text for lr": ({"lr": "fast\ncar"}, r"lr: 'fast\\ncar' is not allowed: .*number"),
    "momentum above 1": ({"momentum": 1.5}, r"momentum: 1\.5 is not allowed: .*less than or equal to 1"),
    "unknown schedule": ({"schedule": "step"}, "schedule: 'step' is not allowed: .*'trapezoid'"),
    "unknown residual": ({"residual": "1/2"}, "residual: '1/2' is not allowed: .*'1/L'"),
    "validation in part windows": ({"val_tokens": 100}, "val_tokens: 100 is not a multiple of val_seq_len 64"),
    "negative seed": ({"seed": -1}, "seed: -1 is not allowed"),
    "divergence factor of 1": ({"divergence_factor": 1}, "divergence_factor: 1 is not allowed"),
    "unknown field": ({"witdh": 32}, r"witdh: no such field \(value 32\)"),
    "list as an option": ({"options": {"eps": [1]}}, r"options\.eps.*: \[1\] is not allowed"),
    "stage from the end": (
        {"stages": [STAGE | {"from_tokens": 2**18}]},
        "stages: from_tokens 262144 is not allowed: .* below tokens 262144",
    ),
    "stages out of order": (
        {"stages": [STAGE, STAGE]},
        "stages: from_tokens 65536, 65536 is not allowed: it must rise",
    ),
    "first stage without a step": (
        {"stages": [STAGE | {"from_tokens": 511}]},
        "stages: a stage of 511 tokens is less than half a step of batch_size 16 × seq_len 64",
    ),
    "later stage without a step": (
        {"stages": [STAGE | {"batch_size": 2**19}]},
        "stages: a stage of 196608 tokens is less than half a step of batch_size 524288 × seq_len 32",
    ),
    "stage from zero": ({"stages": [STAGE | {"from_tokens": 0}]}, r"stages\.0\.from_tokens: 0 is not allowed"),
    "negative rate of a stage": (
        {"stages": [STAGE, STAGE | {"lr": -1}]},
        r"stages\.1\.lr: -1 is not allowed: .*greater than 0",
    ),
    "stage without a rate": (
        {"stages": [{"from_tokens": 2**16, "batch_size": 8, "seq_len": 32}]},
        r"stages\.0\.lr: is missing",
    ),
    "unknown field of a stage": ({"stages": [STAGE | {"width": 8}]}, r"stages\.0\.width: no such field \(value 8\)"),
    "stages that are no list": ({"stages": 3}, "stages: 3 is not allowed: it must be a list$"),
    "text for a number": ({"lr": "x"}, "lr: 'x' is not allowed: it must be a number$"),
    "text for a choice of two": ({"tied": "maybe"}, "tied: 'maybe' is not allowed: it must be true or false$"),
    "negative probe": ({"probe": -1}, "probe: -1 is not allowed"),
    "NaN option": ({"options": {"eps": float("nan")}}, r"options\.eps.*: nan is not allowed"),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_field_is_refused_in_one_line_that_names_it_and_its_value(fields, message):
    with pytest.raises(UserError, match=f"^{message}") as caught:
        trial(**fields)
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_refused_by_name():
    with pytest.raises(UserError, match=r"^lr: is missing$"):
        Trial(optimizer="adam", width=32)


def test_steps_are_whole_and_tokens_exact():
    odd = trial(tokens=1_000, batch_size=4, seq_len=16)
    assert (odd.steps, odd.exact_tokens) == (16, 1_024)  # 15.6 steps
    tiny = trial(tokens=1, batch_size=4, seq_len=16)
    assert (tiny.steps, tiny.exact_tokens) == (1, 64)


def test_stages_are_planned_in_whole_steps_and_add_up():
    later = [STAGE | {"from_tokens": 1_000, "batch_size": 3}, STAGE | {"from_tokens": 5_000, "lr": 0.5}]
    asked = trial(tokens=10_000, batch_size=4, seq_len=16, stages=later)
    # 1,000, 4,000 and 5,000 tokens in steps of 64, 96 and 256: 15.6, 41.7 and 19.5
    assert asked.plan == (
        PlannedStage(batch_size=4, seq_len=16, lr=0.01, steps=16),
        PlannedStage(batch_size=3, seq_len=32, lr=0.02, steps=42),
        PlannedStage(batch_size=8, seq_len=32, lr=0.5, steps=20),
    )
    assert asked.steps == 78
    assert asked.exact_tokens == 16 * 64 + 42 * 96 + 20 * 256
    assert trial().plan == (PlannedStage(batch_size=16, seq_len=64, lr=0.01, steps=256),)


def test_trials_are_frozen_and_replace_validates():
    base = trial()
    with pytest.raises(ValueError, match="frozen"):
        base.width = 64
    assert base.replace(width=64) == trial(width=64)
    assert base.width == 32
    with pytest.raises(UserError, match="width: -1"):
        base.replace(width=-1)


def test_trials_survive_json():
    changed = trial(**OTHER)
    assert Trial.model_validate_json(changed.model_dump_json()) == changed


def test_a_preset_needs_trials_and_an_experiment_presets():
    with pytest.raises(UserError, match="trials: "):
        Preset(trials=())
    with pytest.raises(UserError, match=r"presets: .* at least one preset"):
        Experiment(name="width", title="", question="", presets={})
    with pytest.raises(UserError, match="name: 'Two Words' is not allowed"):
        Experiment(name="Two Words", title="", question="", presets={"smoke": Preset(trials=(trial(),))})


def test_an_unknown_preset_is_refused_with_the_closest_name():
    preset = Preset(trials=(trial(),))
    experiment = Experiment(name="width", title="", question="", presets={"smoke": preset, "laptop": preset})
    assert experiment.preset("smoke") == preset
    with pytest.raises(UserError, match=r"preset: 'labtop' is not known .*'laptop'.* laptop, smoke"):
        experiment.preset("labtop")

"""What nothing in a trial reads is not in its identity: held against training with it and without."""

import pytest

from scionlab.errors import UserError
from scionlab.optim import recipe
from scionlab.runs.store import RunStore
from scionlab.sweep import plan_sweep
from scionlab.training import Run
from scionlab.training.prepare import data_of, identity, resolve
from scionlab.training.unread import unread_fields

MLP = {"model": "mlp", "data": "digits", "seq_len": 1, "val_seq_len": 1, "val_tokens": 16, "tokens": 32}
QUADRATIC = {
    "model": "quadratic",
    "data": "noise:gaussian-1",
    "optimizer": "adam",
    "val_tokens": 1,
    "val_seq_len": 1,
    "seq_len": 1,
}
UNREAD = {
    "the fall of a trapezoid, linear": ({}, {"decay_fraction": 0.7, "decay": "cosine"}),
    "the lowest rate, constant": ({"schedule": "constant"}, {"min_lr_ratio": 0.3}),
    "the norm of no clipping": ({}, {"clip_by": "dual"}),
    "momentum, vanishing": ({"momentum_schedule": "vanishing"}, {"momentum": 0.4}),
    "momentum, sign-sgd": ({"optimizer": "sign-sgd"}, {"momentum": 0.4}),
    "momentum, adagrad": ({"optimizer": "adagrad"}, {"momentum": 0.4}),
    "momentum, rmsprop": ({"optimizer": "rmsprop"}, {"momentum": 0.4}),
    "heads and branches of an MLP": (MLP, {"head_dim": 4, "residual": "1"}),
    "heads of a CNN": (MLP | {"model": "cnn"}, {"head_dim": 4}),
    "depth of a quadratic": (QUADRATIC, {"depth": 3, "residual": "1"}),
    "scope and smoothness of the LMO": ({}, {"options": {"scope": "layer", "smoothness": 3.0}}),
    "smoothness of steepest descent": (
        {"optimizer": "sgd", "options": {}},
        {"options": {"smoothness": 3.0}},
    ),
    "the first of no average": ({"optimizer": "sign-sgd"}, {"options": {"first_average": "gradient"}}),
    "how no decay is added": ({"optimizer": "uscion"}, {"options": {"coupled": True}}),
}
READ = {
    "the fall of a trapezoid": ({"schedule": "trapezoid"}, {"decay_fraction": 0.7}),
    "the lowest rate": ({}, {"min_lr_ratio": 0.3}),
    "the norm of clipping": ({"clip_norm": 0.1}, {"clip_by": "dual"}),
    "momentum": ({}, {"momentum": 0.4}),
    "heads of a GPT": ({}, {"head_dim": 4}),
    "branches of a GPT": ({}, {"residual": "1"}),
    "depth of an MLP": (MLP, {"depth": 3}),
    "branches of a CNN": (MLP | {"model": "cnn"}, {"residual": "1"}),
    "scope of clipped steps": (
        {"options": {"step_rule": "clipped"}},
        {"options": {"step_rule": "clipped", "scope": "layer"}},
    ),
    "the first of an average": ({}, {"options": {"first_average": "gradient"}}),
    "when a run ends": ({}, {"divergence_factor": 2.0}),
}


def known_as(trial):
    resolved = resolve(trial)
    return identity(resolved, data_of(resolved))


def losses(trial):
    """Those of a run of the trial as it is, with what it does not read."""
    explicit = {name: getattr(resolve(trial), name) for name in ("device", "dtype", "warmup", "roles")}
    run = Run(trial.replace(**explicit), data_of(trial))
    while not run.finished:
        run.run_stage()
    outcome = run.outcome()
    return outcome.summary["val_loss"], [row["train_loss"] for row in outcome.curve]


@pytest.mark.parametrize(("fields", "changes"), UNREAD.values(), ids=UNREAD)
def test_what_is_not_read_changes_neither_the_identity_nor_a_bit_of_the_numbers(tiny, fields, changes):
    plain, changed = tiny(**fields), tiny(**{**fields, **changes})
    assert known_as(plain) == known_as(changed)
    assert resolve(plain) == resolve(changed)
    assert losses(plain) == losses(changed)


@pytest.mark.parametrize(("fields", "changes"), READ.values(), ids=READ)
def test_what_is_read_changes_the_identity(tiny, fields, changes):
    assert known_as(tiny(**fields)) != known_as(tiny(**{**fields, **changes}))


def test_an_own_model_is_called_with_width_and_depth_and_reads_no_other_size(tiny):
    trial = tiny(model="my_model:build", head_dim=4, residual="1")
    assert {"head_dim", "residual", "tied"} <= unread_fields(trial, recipe(trial))
    assert "depth" not in unread_fields(trial, recipe(trial))


def test_a_grid_over_what_is_not_read_is_refused_with_the_field(tiny, experiment, tmp_path):
    spec = experiment(*(tiny(optimizer="rmsprop", momentum=momentum) for momentum in (0.1, 0.2)))
    with pytest.raises(UserError, match=r"twice.*nothing in it reads momentum, in which the two differ"):
        plan_sweep(spec, "smoke", RunStore(tmp_path))

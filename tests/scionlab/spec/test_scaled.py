import pytest
from hypothesis import given
from hypothesis import strategies as st

from scionlab.errors import UserError
from scionlab.grid import scaled, trials
from scionlab.spec import Trial

FIXED = {"optimizer": "adam", "width": 32, "seq_len": 32, "tokens": 2**16}


@given(tau=st.floats(0.01, 10), batch=st.sampled_from([1, 4, 64]), lr=st.floats(1e-4, 1e-1))
def test_a_timescale_is_met_by_the_plain_decay_of_the_trial(tau, batch, lr):
    decay = scaled(1 / tau, batch_size=1, seq_len=1, lr=-1, tokens=-1)
    (trial,) = trials({**FIXED, "batch_size": batch}, lr=[lr], options=[{"weight_decay": decay, "beta2": 0.9}])
    found = trial.options["weight_decay"]
    assert type(found) is float
    assert batch * 32 / (lr * found * 2**16) == pytest.approx(tau, rel=1e-5)
    assert trial.options["beta2"] == 0.9


def test_every_trial_has_its_own_and_is_the_one_written_with_plain_numbers():
    axes = {"batch_size": [4, 16], "tokens": [2**15, 2**18]}
    found = trials(
        {**FIXED, "lr": 0.01}, **axes, momentum=[scaled(2, most=1.0, batch_size=1, seq_len=1, tokens=-2 / 3)]
    )
    expected = [0.25, 0.0625, 1.0, 0.25]
    assert [trial.momentum for trial in found] == expected
    plain = [
        t.replace(momentum=alpha) for t, alpha in zip(trials({**FIXED, "lr": 0.01}, **axes), expected, strict=True)
    ]
    assert list(found) == plain


def test_fields_that_the_grid_does_not_name_have_their_defaults():
    (trial,) = trials(
        {"optimizer": "scion", "width": 32, "lr": 0.01}, momentum=[scaled(2**-12, batch_size=1, seq_len=1)]
    )
    assert trial.momentum == Trial.model_fields["batch_size"].default * Trial.model_fields["seq_len"].default / 2**12


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"momentum": scaled(1, batchsize=1)},
            "momentum, scaled by: 'batchsize' is not known (did you mean",
        ),
        (
            {"momentum": scaled(1, lr=1), "lr": scaled(1, tokens=-1)},
            "momentum: is scaled by lr, which is scaled",
        ),
        (
            {"momentum": scaled(1, lr=1)},
            "momentum: is scaled by lr, which must be a number above 0",
        ),
        (
            {"options": {"weight_decay": scaled(1, data=1)}, "lr": 0.1},
            "options.weight_decay: is scaled by data",
        ),
        ({"momentum": scaled(5, width=1), "lr": 0.1}, "momentum: 160.0 is not allowed"),
    ],
)
def test_what_cannot_be_scaled_is_said(fields, said):
    with pytest.raises(UserError) as refused:
        trials(FIXED, **{name: [value] for name, value in fields.items()})
    assert str(refused.value).startswith(said)

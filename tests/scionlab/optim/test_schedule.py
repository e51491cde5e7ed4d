"""Schedules against their closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scionlab.errors import UserError
from scionlab.optim.schedule import DECAYS, schedule
from scionlab.spec import Trial

NAMES = ("constant", "linear", "cosine", "trapezoid")


def values(name, steps, decay_fraction=0.4, **options):
    factor = schedule(name, steps, decay_fraction, **options)
    return [factor(k) for k in range(steps)]


def test_schedules_have_their_closed_forms():
    assert values("constant", 10) == [1.0] * 10
    assert values("linear", 10) == [(10 - k) / 10 for k in range(10)]
    assert values("trapezoid", 10) == [1.0] * 7 + [0.75, 0.5, 0.25]
    assert values("trapezoid", 10, decay="sqrt") == pytest.approx([1.0] * 7 + [1 - math.sqrt(x / 4) for x in (1, 2, 3)])
    assert values("trapezoid", 10, decay="cosine") == pytest.approx(
        [1.0] * 7 + [(1 + math.cos(math.pi * x / 4)) / 2 for x in (1, 2, 3)]
    )


def test_a_cosine_is_pytorchs():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.1), []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert values("cosine", 10, min_lr_ratio=0.1) == pytest.approx(rates)


def test_a_warm_up_rises_in_equal_steps_and_the_decay_begins_where_it_ends():
    assert values("constant", 10, warmup=0.4) == [0.25, 0.5, 0.75] + [1.0] * 7
    assert values("linear", 10, warmup=0.4) == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    )
    assert values("trapezoid", 10, warmup=0.4) == [0.25, 0.5, 0.75] + [1.0] * 4 + [0.75, 0.5, 0.25]
    assert values("linear", 4, warmup=0.1) == pytest.approx([1.0, (4 - 1) / 3.6, (4 - 2) / 3.6, (4 - 3) / 3.6])


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(NAMES), st.integers(1, 60), st.floats(0.01, 0.5), st.floats(0, 0.5),
    st.sampled_from(sorted(DECAYS)), st.sampled_from([0.0, 0.1, 1.0]),
)  # fmt: skip
def test_schedules_rise_to_the_peak_then_fall_and_waste_no_step(name, steps, fraction, warmup, decay, least):
    factor = schedule(name, steps, fraction, warmup, decay, least)
    found = [factor(k) for k in range(steps)]
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    # The last step of the warm-up may fall between two of the run.
    assert warmup > 0 or found[0] == 1
    assert min(found) > 0
    assert max(found) <= 1
    assert factor(steps) == pytest.approx(1 if name == "constant" else least)


def test_wsd_is_a_name_of_the_trapezoid():
    fields = {"optimizer": "adam", "lr": 0.01, "width": 32}
    assert Trial(**fields, schedule="wsd") == Trial(**fields, schedule="trapezoid")


def test_a_warm_up_and_a_decay_longer_than_the_run_are_refused():
    with pytest.raises(UserError, match=r"warmup: 0\.7 and decay_fraction 0\.4 are not allowed: .* the whole run"):
        Trial(optimizer="adam", lr=0.01, width=32, schedule="trapezoid", warmup=0.7)

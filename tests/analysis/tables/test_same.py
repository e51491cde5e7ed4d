import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.tables.same import SAME_BUDGET, same_budget, same_number, same_rate


@given(
    octaves=st.lists(st.integers(10, 30), min_size=1, max_size=5, unique=True),
    rounding=st.lists(st.floats(1, SAME_BUDGET), min_size=1, max_size=6),
)
def test_budgets_that_whole_steps_have_rounded_are_one(octaves, rounding):
    tokens = pd.Series([2.0**octave * factor for octave in octaves for factor in rounding])
    merged = same_budget(tokens)
    assert merged.nunique() == len(octaves)
    assert merged.groupby(np.log2(tokens).astype(int)).nunique().max() == 1
    assert ((merged / tokens - 1).abs() <= SAME_BUDGET - 1).all()


def test_budgets_four_percent_apart_are_two():
    assert list(same_budget(pd.Series([100.0, 104.0, 101.0]))) == [100.5, 104.0, 100.5]


@pytest.mark.parametrize("other", [np.float32(0.003), float(f"{2**-9:.3g}"), 1 - 0.9])
def test_numbers_equal_but_for_rounding_are_one(other):
    close = {np.float32(0.003): 0.003, 0.00195: 2**-9}.get(other, 0.1)
    rates = pd.DataFrame({"width": 64, "lr": [close, float(other), 10 * close], "seed": [0, 1, 0]})
    merged = same_rate(rates, ["width"])
    assert merged[0] == merged[1] == pytest.approx(close, rel=2e-3)
    assert merged[2] == 10 * close


def test_a_computed_momentum_is_the_one_it_is_meant_to_be():
    merged = same_number(pd.Series([0.1, 0.1, 1 - 0.9, np.nan, 0.05]))
    assert merged.nunique() == 2
    assert merged.isna().tolist() == [False, False, False, True, False]


def test_rates_of_one_seed_are_two_unless_rounding_alone_parts_them():
    rates = pd.DataFrame({"width": 64, "lr": [0.003, 0.003 * 1.003, 0.1, 0.1 * (1 + 1e-8)], "seed": 0})
    assert list(same_rate(rates, ["width"]).round(6)) == [0.003, 0.003009, 0.1, 0.1]
    elsewhere = rates.assign(width=[64, 128, 64, 64])
    assert same_rate(elsewhere, ["width"]).nunique() == 2

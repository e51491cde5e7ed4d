"""Numbers of a table that are meant to be one: equal but for rounding, or for whole steps.

A rate that went through float32 or three digits of text, a momentum that was computed as 1 - 0.9, a budget that a whole
number of steps made longer: to count them apart would make cells, curves and settings that nobody trained.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

# Budgets that differ by less than this are one: a whole number of steps rounds each batch size's budget differently.
SAME_BUDGET = 1.03
# What three digits of text or bfloat16 make of a rate lies within this; no grid of rates is as fine.
SAME_RATE = 1.005
ROUNDING = 1 + 1e-6  # float32, or seven digits of text


def same_budget(tokens: "pd.Series[Any]") -> "pd.Series[Any]":
    """Every value replaced by the median of those within `SAME_BUDGET` of the smallest of its group."""
    return _same(tokens, SAME_BUDGET)


def same_number(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Every value replaced by the median of those that equal it but for `ROUNDING`; NaN stays."""
    return _same(values, ROUNDING)


def same_rate(runs: pd.DataFrame, setting: Sequence[str]) -> "pd.Series[Any]":
    """The column `lr`, with rates within `SAME_RATE` of each other as one, but those of one seed as they are.

    A seed that was run at both, in a `setting` (the columns that make one), was run at two rates, as in a random
    search; unless they are equal but for `ROUNDING`.
    """
    merged = _same(runs["lr"], SAME_RATE)
    twice = runs.assign(lr=merged).duplicated([*setting, "lr", "seed"], keep=False)
    return same_number(runs["lr"].where(merged.isin(merged[twice]), merged))


def _same(values: "pd.Series[Any]", factor: float) -> "pd.Series[Any]":
    labels, first = {}, 0.0
    for value in sorted(values.dropna().unique()):
        if value > first * factor:
            first = value
        labels[value] = first
    return values.groupby(values.map(labels)).transform("median")

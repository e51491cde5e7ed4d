"""Which study a table of runs without an experiment is for: what varies in it says so."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.tables.same import same_budget, same_number

SIZES = {"width": "width", "n_params": "number of parameters"}  # axes to follow a best rate along, best first


@dataclass(frozen=True)
class Choice:
    """A study by its name, what it is told, and what it is about in words."""

    study: str
    about: str
    settings: dict[str, Any] = field(default_factory=dict)


def grouped(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of an import under the names that fits tell them apart by: `optimizer` becomes the group's.

    Fits never mix two of these. Where there are several methods, the method's follows it; runs without a group keep
    that alone.
    """
    if "group" not in runs or runs["group"].isna().all():
        return runs
    several = runs["optimizer"].nunique() > 1
    named = runs["group"] + ": " + runs["optimizer"] if several else runs["group"]
    return runs.assign(optimizer=named.where(runs["group"].notna(), runs["optimizer"]))


def study_of(runs: pd.DataFrame) -> Choice:
    """lr-transfer where networks of several sizes were trained with one batch size and one budget; scaling-law where
    nothing is known but sizes, tokens and losses; else batch-scaling.

    `runs` has the columns of the imports table.
    """
    if runs["lr"].isna().all():
        return Choice("scaling-law", "the law of number of parameters and tokens")
    table = runs.assign(budget=same_budget(runs["tokens"]), batch=same_number(runs["batch_size"] * runs["seq_len"]))
    one_setting = table.groupby("optimizer")[["budget", "batch"]].nunique().max().max() <= 1
    for axis, words in SIZES.items():
        several = table.groupby("optimizer")[axis].nunique().max() > 1
        if one_setting and several and table[axis].notna().all():
            return Choice("lr-transfer", f"the best learning rate along {words}", {"axis": axis})
    return Choice("batch-scaling", "batch size and learning rate")

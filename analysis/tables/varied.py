"""Which study a table of runs without an experiment is for: what varies in it says so."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.tables.goals import of_goals
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


def only_sizes(runs: pd.DataFrame) -> bool:
    """Whether runs are points of a law of their sizes and no more: there is nothing to compare at a size and budget.

    So it is without learning rates, and in an import where each of several sizes has one setting at every budget, as in
    a table of optima, whatever its seeds. `runs` has the columns of the imports table.
    """
    if runs["lr"].isna().all():
        return True
    few = runs["n_params"].nunique() < 2 or same_budget(runs["tokens"]).nunique() < 2
    if few or runs["n_params"].isna().any():
        return False
    setting = ["lr", "batch_size", "seq_len", "momentum"]
    budget = runs["tokens"].groupby(runs["n_params"]).transform(same_budget)
    cells = runs.assign(budget=budget).groupby(["optimizer", "n_params", "budget"])[setting]
    return int(cells.nunique(dropna=False).max().max()) == 1


def study_of(runs: pd.DataFrame) -> Choice:
    """critical-batch for a table of tokens to a target (`of_goals`); lr-transfer where networks of several sizes were
    trained with one batch size and one budget; scaling-law where there are sizes, tokens and losses and nothing to
    compare beside them (`only_sizes`); else batch-scaling.

    `runs` has the columns of the imports table.
    """
    if of_goals(runs):
        return Choice("critical-batch", "tokens to a target loss and the critical batch size")
    if only_sizes(runs):
        return Choice("scaling-law", "the law of number of parameters and tokens")
    table = runs.assign(budget=same_budget(runs["tokens"]), batch=same_number(runs["batch_size"] * runs["seq_len"]))
    one_setting = table.groupby("optimizer")[["budget", "batch"]].nunique().max().max() <= 1
    for axis, words in SIZES.items():
        several = table.groupby("optimizer")[axis].nunique().max() > 1
        if one_setting and several and table[axis].notna().all():
            return Choice("lr-transfer", f"the best learning rate along {words}", {"axis": axis})
    return Choice("batch-scaling", "batch size and learning rate")

"""Points of a law of network size and tokens: what runs of any kind say of N, T and the loss, by method or source."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fits.power_sum import levels
from analysis.tables import keys
from analysis.tables.goals import of_goals
from scionlab.errors import UserError, listed, option

OPERATIONS = 6  # of a parameter and a token: two of the forward pass, four of the backward


RECIPE = ["schedule", *keys.OF_IMPORTS]  # what a law of sizes alone should not mix unsaid


@dataclass(frozen=True)
class Points:
    """Points called `name`: a frame with the columns n_params, tokens, flops and val_loss, as they are, in rows' order.

    `flops` are those that an import gives, else 6 N T. `left_out` counts runs that are no points, by reason. `mixed`
    says, a sentence each, what differs between points beside these columns.
    """

    name: str
    frame: pd.DataFrame
    left_out: dict[str, int]
    mixed: tuple[str, ...] = ()


def points_of(runs: pd.DataFrame) -> list[Points]:
    """The points of every optimizer, or source, of a table of runs.

    Where learning rates are known the lowest loss counts at every size and budget (budgets within 5%), at its own
    tokens; else every run is a point. No number is moved. UserError where no run says how large its network is, or none
    trained, for several data sets under one name, and for a table of tokens to a target.
    """
    if "n_params" not in runs or runs["n_params"].isna().all():
        raise UserError("runs: none says how many parameters its network has (n_params), so there is no law of them")
    found = []
    for name, rows in runs.groupby("optimizer", sort=True):
        check_data(rows)
        check_goals(rows)
        trained = rows[(rows["status"] == "ok") & rows["val_loss"].notna()]
        sized = trained[trained["n_params"].notna()]
        kept = _lowest(sized) if "lr" in sized and sized["lr"].notna().any() else sized
        counts = {
            "did not train to their end": len(rows) - len(trained),
            "do not say their size": len(trained) - len(sized),
            "are not the best of their size and budget": len(sized) - len(kept),
        }
        if len(kept):
            left_out = {why: count for why, count in counts.items() if count}
            found.append(Points(str(name), _frame(kept), left_out, mixed(kept)))
    if not found:
        raise UserError(f"runs: none of {len(runs)} trained to its end and says its size: there is nothing to fit")
    return found


def check_data(table: pd.DataFrame) -> None:
    """UserError for several data sets of a foreign table; of others the hash of the data tells."""
    if "data" in table and "spec" not in table and table["data"].nunique(dropna=False) > 1:
        values = listed(sorted(map(str, table["data"].unique())))
        raise UserError(
            f"runs: data of {str(table['optimizer'].iloc[0])!r} takes several values ({values}); import them with each "
            f"data set as a group of its own, or each under a name of its own with {option('where')}"
        )


def check_goals(table: pd.DataFrame) -> None:
    """UserError for a table of tokens to a target: its losses are what was asked for, not what was found."""
    if of_goals(table):
        raise UserError(
            f"runs: val_loss of {str(table['optimizer'].iloc[0])!r} is a goal that every batch size comes to: this is "
            "a table of tokens to a target, which no law of losses can be fitted to; ask for "
            f"{option('study', 'critical-batch')}"
        )


def mixed(table: pd.DataFrame) -> tuple[str, ...]:
    """What differs between runs that are fitted as one, a sentence each."""
    known = keys.as_meant(table[[column for column in RECIPE if column in table]])
    return tuple(
        f"{column} takes several values ({listed(sorted(map(str, values.unique())))}), and the law is of all of them "
        "together; a group for each tells them apart"
        for column, values in known.items()
        if values.nunique(dropna=False) > 1
    )


def _lowest(rows: pd.DataFrame) -> pd.DataFrame:
    """The run of the lowest loss at every size and budget."""
    budget = rows.groupby("n_params")["tokens"].transform(lambda tokens: levels(tokens.to_numpy(float)))
    return rows.loc[rows.groupby([rows["n_params"], budget])["val_loss"].idxmin()]


def _frame(rows: pd.DataFrame) -> pd.DataFrame:
    frame = rows[["n_params", "tokens", "val_loss"]].astype(float).reset_index(drop=True)
    counted = OPERATIONS * frame["n_params"] * frame["tokens"]
    given = rows["flops"].astype(float).reset_index(drop=True) if "flops" in rows and "spec" not in rows else counted
    return frame.assign(flops=np.where(given.notna(), given, counted))

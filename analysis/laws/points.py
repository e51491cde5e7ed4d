"""Points of a law of network size and tokens: what runs of any kind say of N, T and the loss, by method or source."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fits.power_sum import levels
from scionlab.errors import UserError

OPERATIONS = 6  # of a parameter and a token: two of the forward pass, four of the backward


@dataclass(frozen=True)
class Points:
    """Points called `name`: a frame with the columns n_params, tokens, flops and val_loss, as they are, in rows' order.

    `flops` are those of the table where it has them, else 6 N T. `left_out` counts runs that are no points, by reason.
    """

    name: str
    frame: pd.DataFrame
    left_out: dict[str, int]


def points_of(runs: pd.DataFrame) -> list[Points]:
    """The points of every optimizer, or source, of a table of runs.

    Where learning rates are known the lowest loss counts at every size and budget (budgets within 5%), at its own
    tokens; else every run is a point. No number is moved. UserError where no run says how large its network is, or none
    trained.
    """
    if "n_params" not in runs or runs["n_params"].isna().all():
        raise UserError("runs: none says how many parameters its network has (n_params), so there is no law of them")
    found = []
    for name, rows in runs.groupby("optimizer", sort=True):
        trained = rows[(rows["status"] == "ok") & rows["val_loss"].notna()]
        sized = trained[trained["n_params"].notna()]
        kept = _lowest(sized) if "lr" in sized and sized["lr"].notna().any() else sized
        counts = {
            "did not train to their end": len(rows) - len(trained),
            "do not say their size": len(trained) - len(sized),
            "are not the best of their size and budget": len(sized) - len(kept),
        }
        if len(kept):
            found.append(Points(str(name), _frame(kept), {why: count for why, count in counts.items() if count}))
    if not found:
        raise UserError(f"runs: none of {len(runs)} trained to its end and says its size: there is nothing to fit")
    return found


def _lowest(rows: pd.DataFrame) -> pd.DataFrame:
    """The run of the lowest loss at every size and budget."""
    budget = rows.groupby("n_params")["tokens"].transform(lambda tokens: levels(tokens.to_numpy(float)))
    return rows.loc[rows.groupby([rows["n_params"], budget])["val_loss"].idxmin()]


def _frame(rows: pd.DataFrame) -> pd.DataFrame:
    frame = rows[["n_params", "tokens", "val_loss"]].astype(float).reset_index(drop=True)
    counted = OPERATIONS * frame["n_params"] * frame["tokens"]
    given = rows["given_flops"].astype(float).reset_index(drop=True) if "given_flops" in rows else counted
    return frame.assign(flops=np.where(given.notna(), given, counted))

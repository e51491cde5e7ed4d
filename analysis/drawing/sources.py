"""Figures with a panel for every source of a table, of which there may be many."""

import pandas as pd
from matplotlib.colors import LogNorm

MOST = 12  # panels


def shown(data: pd.DataFrame) -> list[str]:
    """The sources that have a panel, in the order of the rows; `data` has a column `source`."""
    return list(dict.fromkeys(data["source"]))[:MOST]


def beyond(data: pd.DataFrame) -> str:
    """A sentence, with a blank before it, on sources without a panel; empty where all have one."""
    count = data["source"].nunique()
    return f" The first {MOST} of {count} sources." if count > MOST else ""


def shades(values: "pd.Series[float]") -> LogNorm:
    """The scale of colours from the smallest to the largest of positive values, also where they are one."""
    return LogNorm(values.min(), max(values.max(), 1.001 * values.min()))

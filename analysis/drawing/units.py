"""The unit of losses (`analysis.tables.units`) in a figure's table: a column `per`, unless it is bytes of text."""

import pandas as pd

from analysis.tables.units import unit


def with_unit(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The table with the column `per`, where it says something."""
    per = unit(runs)
    return table if per == "byte" else table.assign(per=per or "none")


def nats(data: pd.DataFrame) -> str:
    """The unit of the table's losses, to stand in brackets behind a label."""
    per = _per(data)
    return "" if per == "none" else f" (nats per {per})"


def examples(data: pd.DataFrame) -> str:
    """What a token of the table is."""
    return {"image": "images", "byte": "tokens", "token": "tokens"}.get(_per(data), "examples")


def _per(data: pd.DataFrame) -> str:
    return str(data["per"].iloc[0]) if "per" in data else "byte"

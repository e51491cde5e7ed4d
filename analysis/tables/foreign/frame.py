"""A DataFrame as a table of runs: for those who have one, and no file."""

from collections import Counter

import pandas as pd

from analysis.tables.foreign.table import Columns, Table
from scionlab.errors import UserError

FRAME = "DataFrame"  # what problems call it


def table_of(frame: pd.DataFrame, decimal: str | None = None) -> Table:
    """The cells of a frame, with rows counted from 1 whatever its index says; the index is no column.

    What pandas calls missing (NaN, None, NA, NaT) is an empty cell: a frame cannot say that a loss is no number other
    than by inf. `decimal` is as for files. UserError for a frame without rows.
    """
    if frame.empty:
        raise UserError(f"source: the {FRAME} has no rows, or no columns")
    names = [str(name) for name in frame.columns]
    places = {name: i for i, name in enumerate(names)}

    def read(name: str) -> list[object]:
        cells = frame.iloc[:, places[name]]
        return cells.astype(object).where(cells.notna(), None).tolist()

    twins = frozenset(name for name, count in Counter(names).items() if count > 1)
    columns = Columns([name for name in names if name], read)
    return Table(FRAME, columns, list(range(1, len(frame) + 1)), twins, decimal=decimal)

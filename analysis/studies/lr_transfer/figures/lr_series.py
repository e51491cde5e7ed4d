"""What the tables of learning-rate transfer have in common: a column that names the series, and one of the axis.

The series is named by `series`, or where there is no such column by `optimizer`; the axis is the column after that.
"""

from dataclasses import dataclass

import pandas as pd

from analysis.drawing import style
from analysis.tables.keys import plain, spoken


@dataclass(frozen=True)
class Layout:
    """Where a table keeps its series and its axis, and the colour of every series in their order."""

    series: str
    column: str
    colours: dict[str, str]

    @classmethod
    def of(cls, data: pd.DataFrame) -> "Layout":
        """Of a table with these columns."""
        column = str(data.columns[list(data.columns).index("optimizer") + 1])
        series = "series" if "series" in data else "optimizer"
        return cls(series, column, style.colours(data[series], data["optimizer"]))

    @property
    def axis(self) -> str:
        """The axis in words."""
        return spoken(self.column)

    def places(self, data: pd.DataFrame) -> list[float]:
        """The places on the axis."""
        return sorted(data[self.column].unique())

    def place(self, row: "pd.Series[float]") -> str:
        """A row's place in words."""
        return f"{self.axis} {plain(row[self.column])}"

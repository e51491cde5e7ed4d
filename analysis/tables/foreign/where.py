"""Which rows of a table are wanted: `scionlab import --where COLUMN=VALUE`."""

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.tables.arrays import Bools
from analysis.tables.foreign.problems import shown
from analysis.tables.foreign.table import Numbers, Table, is_empty
from scionlab.errors import UserError, listed, unknown

FORM = re.compile(r"\s*(`[^`]*`|[^=!<>`]+?)\s*(!=|<=|>=|==|=|<|>)\s*(.*?)\s*", re.DOTALL)
ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
LISTED = 8  # values of a column that are named
REASON = "reason"


@dataclass(frozen=True)
class Condition:
    """A column is one of some values (`=`), none of them (`!=`), or a number on one side of another."""

    text: str
    column: str
    sign: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """`status=FINISHED`, `status=FINISHED|ok`, `status!=FAILED`, `step>=1000`; a column may be in backticks."""
        form = FORM.fullmatch(text)
        if form is None:
            raise UserError(f"where: {text!r} is not of the form COLUMN=VALUE; also allowed are !=, <, <=, > and >=")
        sign = "=" if form[2] == "==" else form[2]
        values = tuple(value.strip().strip("`") for value in form[3].split("|"))
        if sign in ORDERS and (len(values) > 1 or _number(values[0]) is None):
            raise UserError(f"where: {form[3]!r} is not a number, which {text.strip()!r} needs")
        return cls(text.strip(), form[1].strip("`"), sign, values)

    def holds(self, cells: Sequence[Any], numbers: Numbers) -> Bools:
        """For which cells (n,) it is true; an order never is of what is no number."""
        if self.sign in ORDERS:
            return np.asarray(ORDERS[self.sign](numbers.values, float(self.values[0])) & ~numbers.wrong)
        wanted = {_plain(value) for value in self.values}
        return np.array([(_plain(cell) in wanted) == (self.sign == "=") for cell in cells], dtype=bool)


def choose(table: Table, conditions: Sequence[Condition]) -> Table:
    """The rows for which all conditions hold; UserError where there is none, or no such column."""
    for condition in conditions:
        if condition.column not in table.columns:
            raise unknown("where: column", condition.column, table.columns)
        cells = table.columns[condition.column]
        kept = condition.holds(cells, table.numbers(condition.column))
        if not kept.any():
            values = sorted({shown(str(cell).strip()) for cell in cells if not is_empty(cell)})
            has = listed(values[:LISTED]) + (", …" if len(values) > LISTED else "")
            raise UserError(f"where: no row has {condition.text}; {condition.column!r} is {has or 'empty'}")
        table = table.only(kept)
    return table


def reasons(table: Table) -> dict[str, list[int]]:
    """The rows that are left out, by what a column called `reason` says of them, most rows first; {} without one."""
    everything = table.all_rows
    if REASON not in everything.columns or REASON in table.twins:
        return {}
    left, found = set(table.left_out), dict[str, list[int]]()
    for row, cell in zip(everything.rows, everything.columns[REASON], strict=True):
        if row in left:
            found.setdefault("no reason given" if is_empty(cell) else shown(str(cell).strip()), []).append(row)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _plain(cell: Any) -> float | str:
    """What makes two cells equal: their number, or their text without blanks and case."""
    text = "" if is_empty(cell) else str(cell).strip()
    number = _number(text)
    return text.casefold() if number is None or math.isnan(number) else number

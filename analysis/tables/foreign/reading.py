"""The cells of a table as the targets they are the sources of, with every cell that cannot be one as a problem."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.tables.arrays import Bools, Floats
from analysis.tables.foreign.causes import cause_of
from analysis.tables.foreign.problems import Problems
from analysis.tables.foreign.sources import Source, quoted
from analysis.tables.foreign.table import Numbers, Table, is_empty
from analysis.tables.foreign.targets import ENDED, LONGEST_SEED, NUMBERS, STATUSES, TEXTS
from scionlab.errors import option


@dataclass(frozen=True)
class Reading:
    """A table's columns as numbers, where they are used as such, and where each target comes from.

    `needed` are optional targets that every row must have all the same.
    """

    table: Table
    sources: Mapping[str, Source]
    numbers: Mapping[str, Numbers]
    problems: Problems
    needed: Collection[str] = ()

    @classmethod
    def of(
        cls, table: Table, sources: Mapping[str, Source], problems: Problems, needed: Collection[str] = ()
    ) -> "Reading":
        """Reads the columns that are used."""
        used = dict.fromkeys(column for source in sources.values() if source.expression for column in source.columns)
        return cls(table, sources, {column: table.numbers(column) for column in used}, problems, needed)

    @property
    def written(self) -> dict[str, str]:
        """How the numbers of columns are written that not every program reads so."""
        return {column: numbers.about for column, numbers in self.numbers.items() if numbers.about}

    def columns(self) -> dict[str, list[Any]]:
        """All targets in the order of the dictionary, a list (n,) each, with None for what is not known."""
        status = self.status()
        nothing = np.zeros(len(self.table.rows), dtype=bool)
        values = {target: self.number(target, nothing)[0] for target in NUMBERS if target != "val_loss"}
        with np.errstate(all="ignore"):
            steps = values["tokens"] / (values["batch_size"] * values["seq_len"])
        values["steps"] = np.where(np.isnan(values["steps"]), steps, values["steps"])
        lost = np.array([text not in ("", "ok") for text in status], dtype=bool)
        values["val_loss"], diverged = self.number("val_loss", lost)
        texts = {target: self.text(target) for target in TEXTS if target != "status"}
        return {
            **{target: [cell or None for cell in cells] for target, cells in texts.items()},
            "status": ["diverged" if lost else "ok" for lost in diverged],
            **{target: _as_list(column, NUMBERS[target].whole) for target, column in values.items()},
            "seed": self.seeds(values["seed"]),
        }

    def seeds(self, values: Floats) -> list[Any]:
        """Those of a column as they are written: a seed of 64 bits is no float, nor are two that differ in a digit."""
        column = self.sources["seed"].column
        if column is None:
            return _as_list(values, whole=True)
        cells = self.table.columns[column]
        known = zip(cells, values, strict=True)
        return [None if math.isnan(value) else _exact(cell, value) for cell, value in known]

    def text(self, target: str) -> list[str]:
        """A target (n,) as texts without blanks around them; "" for an optional one that is not known."""
        source = self.sources.get(target, Source(""))
        if not source.columns:
            return [source.text] * len(self.table.rows)
        cells = ["" if is_empty(cell) else str(cell).strip() for cell in self.table.columns[source.text]]
        for row, cell in zip(self.table.rows, cells, strict=True):
            if not cell and not TEXTS[target].optional:
                self.problems.add(row, f"column {source.text!r}: is empty")
            if not cell.isprintable():  # it is printed by every table and figure
                self.problems.add(row, f"column {source.text!r}: {cell!r} has characters that cannot be printed")
        return cells

    def status(self) -> list[str]:
        """`ok`, `diverged`, "" where only the loss can say, or what is none of these and a problem."""
        written = self.text("status")
        status = ["ok" if text.lower() in ENDED else text.lower() for text in written]
        for row, text, told in zip(self.table.rows, written, status, strict=True):
            if told and told not in STATUSES:
                column = self.sources["status"].text
                self.problems.add(
                    row,
                    f"status: {text!r} is not allowed; it must be {TEXTS['status'].about}; "
                    f"{option('where', f'{quoted(column)}!={text}')} leaves such rows out",
                    f"status {text}",
                )
        return status

    def number(self, target: str, lost: Bools) -> tuple[Floats, Bools]:
        """A target (n,), NaN where it is not known; and which rows diverged, to begin with those that are `lost`."""
        about, source = NUMBERS[target], self.sources.get(target)
        if source is None or source.expression is None:
            return np.full(len(lost), math.nan), lost
        usable = self.usable(target, source.columns, lost)
        if target == "val_loss":
            infinite = [~np.isfinite(self.numbers[column].values) for column in source.columns]
            lost = lost | (usable & np.any(infinite, axis=0))
        columns = {column: self.numbers[column].values for column in source.columns}
        values = np.broadcast_to(np.asarray(source.expression(columns), dtype=float), len(lost))
        known, allowed, limits = usable & ~lost, about.allows(values), about.allowed
        if target == "seed" and source.column is not None:
            allowed = (values == np.floor(values)) & (values >= about.low) & (values < LONGEST_SEED)
            limits = limits.replace("2^53", "2^63")
        for i in np.flatnonzero(known & ~allowed):
            self.problems.add(
                self.table.rows[i],
                f"{_named(target, source)}: {values[i]:.6g} is not allowed; it must be {limits}",
            )
        return np.where(known & allowed, values, math.nan), lost

    def usable(self, target: str, columns: Sequence[str], lost: Bools) -> Bools:
        """Rows (n,) whose cells are all numbers. What else is in a cell is a problem, but in rows that are `lost`."""
        usable = np.ones(len(lost), dtype=bool)
        needed = not NUMBERS[target].optional or target in self.needed
        for column in columns:
            numbers = self.numbers[column]
            usable &= ~numbers.wrong & ~numbers.empty
            cells = self.table.columns[column] if numbers.wrong.any() else []
            for i in np.flatnonzero(numbers.wrong & ~lost):
                cell = str(cells[i])
                cause = cause_of(cell, target == "val_loss", numbers.hint)
                why, name = (f"; {cause.text()}", cause.name) if cause else ("", "")
                self.problems.add(self.table.rows[i], f"column {column!r}: {cell!r} is not a number{why}", name)
            hint = f"; {option('where', f'{quoted(column)}!=')} leaves such rows out"
            if target == "val_loss":
                hint = "; write inf for a run that diverged, or map its status"
            for i in np.flatnonzero(numbers.empty & ~lost & needed):
                self.problems.add(self.table.rows[i], f"column {column!r}: is empty{hint}")
        return usable


def _named(target: str, source: Source) -> str:
    return target if source.text == target else f"{target} ({source.text})"


def _exact(cell: Any, value: float) -> int:
    """A whole number as it is written, or the float it was read as, where it is written as one."""
    try:
        return int(cell)
    except ValueError:
        return int(value)


def _as_list(values: Floats, whole: bool) -> list[float | int | None]:
    return [None if math.isnan(value) else int(value) if whole else float(value) for value in values]

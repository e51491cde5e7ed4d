"""Reading a table that somebody else wrote, CSV or Parquet, so that every complaint can name its row and column."""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.tables.arrays import Bools, Floats
from scionlab.errors import UserError, printable

SHOWN = 20  # problems that are printed; the others are counted
LONGEST = 500  # characters of a problem that are printed


@dataclass
class Problems:
    """What is wrong with a file, collected and said once, in the order of its rows. Row 0 stands for the whole file."""

    file: str
    found: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = shown(self.file)

    def add(self, row: int, text: str) -> None:
        """Something wrong with a row; the same words count once."""
        self.found[f"row {row}, {text}" if row else text] = row

    @property
    def rows(self) -> set[int]:
        """The rows with a problem."""
        return set(self.found.values())

    def raise_any(self) -> None:
        """UserError if there is anything: one problem in one line, several in a line each."""
        texts = [shown(text) for text in sorted(self.found, key=self.found.__getitem__)]
        if len(texts) == 1:
            raise UserError(f"{self.file}: {texts[0]}")
        if texts:
            rest = [f"… and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
            lines = "\n".join(f"  {text}" for text in [*texts[:SHOWN], *rest])
            raise UserError(f"{self.file}: {len(texts)} problems\n{lines}")


@dataclass(frozen=True)
class Table:
    """Columns of cells as they stand in the file, and the number of each row as its reader counts it."""

    file: str
    columns: dict[str, list[Any]]
    rows: list[int]


@dataclass(frozen=True)
class Numbers:
    """A column (n,) as numbers: NaN where a cell says so, is `empty`, or is `wrong`, no number."""

    values: Floats
    empty: Bools
    wrong: Bools

    @classmethod
    def of(cls, cells: Sequence[Any]) -> "Numbers":
        """Texts are read as Python reads a float; inf and nan are numbers."""
        empty = np.array([is_empty(cell) for cell in cells], dtype=bool)
        values, wrong = np.full(len(cells), math.nan), np.zeros(len(cells), dtype=bool)
        for i, cell in enumerate(cells):
            try:
                values[i] = math.nan if empty[i] else float(cell)
            except (ValueError, TypeError):
                wrong[i] = True
        return cls(values, empty, wrong)


def is_empty(cell: Any) -> bool:
    """Nothing but blanks, or null."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def shown(text: str) -> str:
    """The text in one line that a terminal can show; what is too long is cut."""
    line = printable(text[:LONGEST])
    return line if len(line) <= LONGEST >= len(text) else f"{line[: LONGEST - 2]} …"


def read_table(path: Path, problems: Problems) -> Table:
    """A .csv or .tsv file, rows counted by lines so that the header is 1, or .parquet, data rows from 1.

    The separator of a CSV is whichever of comma, semicolon and tab its header has most of. Rows of another length than
    the header are problems. UserError if the file cannot be read, has no rows, or has two columns of one name.
    """
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet, ".pq": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"file: {str(path)!r} is none of {', '.join(readers)}")
    try:
        table = reader(path, problems)
    except OSError as error:
        raise UserError(f"file: {str(path)!r} cannot be read: {shown(error.strerror or str(error))}") from None
    except UnicodeDecodeError:
        raise UserError(f"file: {str(path)!r} is not UTF-8 text") from None
    if not table.rows and not problems.found:
        raise UserError(f"file: {str(path)!r} has no rows below its header")
    return table


def _read_csv(path: Path, problems: Problems) -> Table:
    # Spreadsheets write a byte-order mark, which utf-8-sig takes off.
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=max(",;\t", key=header.count))
        try:
            lines = [(reader.line_num, line) for line in reader if line]  # an empty line is no row
        except csv.Error as error:
            raise UserError(f"file: {str(path)!r}, line {reader.line_num}: is not CSV: {error}") from None
    names = [name.strip() for name in lines[0][1]] if lines else []
    _refuse_twins(path, names)
    whole = [(row, line) for row, line in lines[1:] if len(line) == len(names)]
    for row, line in lines[1:]:
        if len(line) != len(names):
            problems.add(row, f"has {len(line)} cells where the header has {len(names)}")
    columns = {name: [line[i] for _, line in whole] for i, name in enumerate(names)}
    return Table(shown(path.name), columns, [row for row, _ in whole])


def _read_parquet(path: Path, problems: Problems) -> Table:
    try:
        with pq.ParquetFile(path) as file:
            # Of the columns, not of pandas' notes on them: its index is a column like the others.
            found = file.read()
        _refuse_twins(path, found.column_names)
        columns = {name: found[name].to_pylist() for name in found.column_names}
    except UserError:
        raise
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise UserError(f"file: {str(path)!r} is not Parquet: {shown(str(error))}") from None
    return Table(shown(path.name), columns, list(range(1, len(found) + 1)))


def _refuse_twins(path: Path, names: Sequence[str]) -> None:
    """UserError for two columns of one name: neither could be meant."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"file: {str(path)!r} has two columns called {shown(repr(twice))}")

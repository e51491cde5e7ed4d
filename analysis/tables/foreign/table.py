"""Reading a table that somebody else wrote, so that every complaint can name its row and column."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.tables.arrays import Bools, Floats
from analysis.tables.foreign.lines import read_lines
from analysis.tables.foreign.marks import numbers_of
from analysis.tables.foreign.problems import Problems, shown
from analysis.tables.foreign.text import read_text
from scionlab.errors import UserError

PACKED = ".gz"
INSTEAD = {
    "unpack it": (PACKED, ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar"),
    "save the sheet as CSV": (".xlsx", ".xls", ".xlsm", ".ods", ".numbers"),
    "write one object a line, as .jsonl": (".json",),
}


class Columns(Mapping[str, list[Any]]):
    """Cells by the name of their column, read when they are asked for: what nobody uses may be of any type."""

    def __init__(self, names: Sequence[str], read: Callable[[str], list[Any]]) -> None:
        """`names` in the file's order; `read` gives a column's cells (n,)."""
        self._names, self._read = dict.fromkeys(names), read

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Numbers:
    """A column (n,) as numbers: NaN where a cell says so, is `empty`, or is `wrong`, no number.

    `about` and `hint` are those of `marks.Written`: how its texts are written, and how they are to be.
    """

    values: Floats
    empty: Bools
    wrong: Bools
    about: str = ""
    hint: str = ""

    @classmethod
    def of(cls, cells: Sequence[Any], decimal: str | None = None) -> "Numbers":
        """Texts are read as Python reads a float, inf and nan too, or else as `marks` reads them."""
        empty = np.array([is_empty(cell) for cell in cells], dtype=bool)
        values, wrong = np.full(len(cells), math.nan), np.zeros(len(cells), dtype=bool)
        texts = [i for i, cell in enumerate(cells) if isinstance(cell, str) and not empty[i]]
        written = numbers_of([cells[i] for i in texts], decimal)
        values[texts], wrong[texts] = written.values, written.wrong
        for i, cell in enumerate(cells):
            if not empty[i] and not isinstance(cell, str):
                try:
                    values[i] = float(cell)
                except (ValueError, TypeError, OverflowError):
                    wrong[i] = True
        return cls(values, empty, wrong, written.about, written.hint)

    def only(self, places: "NDArray[np.intp]") -> "Numbers":
        """The cells at some places."""
        return replace(self, values=self.values[places], empty=self.empty[places], wrong=self.wrong[places])


@dataclass(frozen=True)
class Table:
    """Columns of cells as they stand in the file, and the number of each row as its reader counts it.

    `twins` are names that several columns have: none of them can be meant. `left_out` are the numbers of rows that are
    not wanted. `decimal` is the mark that its texts have, None where each column is to say it. `whole` is the table
    with all rows, where some were taken out: what a column's texts mean is asked of all of them.
    """

    file: str
    columns: Mapping[str, list[Any]]
    rows: list[int]
    twins: frozenset[str] = field(default_factory=frozenset)
    left_out: tuple[int, ...] = ()
    decimal: str | None = None
    whole: "Table | None" = None
    places: NDArray[np.intp] | None = None

    @property
    def all_rows(self) -> "Table":
        """The table as it was read."""
        return self if self.whole is None else self.whole.all_rows

    def numbers(self, name: str) -> Numbers:
        """A column (n,) as numbers."""
        if self.whole is not None and self.places is not None:
            return self.whole.numbers(name).only(self.places)
        return Numbers.of(self.columns[name], self.decimal)

    def only(self, kept: Bools) -> "Table":
        """The rows (n,) that are kept."""
        places = np.flatnonzero(kept)

        def read(name: str) -> list[Any]:
            cells = self.columns[name]
            return [cells[i] for i in places]

        return replace(
            self,
            columns=Columns(list(self.columns), read),
            rows=[self.rows[i] for i in places],
            left_out=(*self.left_out, *(row for row, keep in zip(self.rows, kept, strict=True) if not keep)),
            whole=self,
            places=places,
        )


def is_empty(cell: Any) -> bool:
    """Nothing but blanks, or null."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def read_table(path: Path, problems: Problems, decimal: str | None = None) -> Table:
    """A file of rows: .csv, .tsv or .jsonl, also as .gz, or .parquet.

    Rows are counted by lines, the first being 1, and those of Parquet from 1. `decimal` is the mark that its texts
    have, `.` or `,`; None where each column is to say it. What is wrong with rows goes to `problems`. A column
    without a name is none. UserError if the file cannot be read or has no rows.
    """
    text, binary = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_lines, ".ndjson": _read_lines}, _read_parquet
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".parquet": binary, ".pq": binary, **text}
    packed = path.suffix.lower() == PACKED
    reader = readers.get(Path(path.stem).suffix.lower() if packed else path.suffix.lower())
    if reader is None or (packed and reader is binary):
        hint = next((f"; {hint}" for hint, suffixes in INSTEAD.items() if path.suffix.lower() in suffixes), "")
        also = ", ".join(f"{suffix}{PACKED}" for suffix in text)
        raise UserError(f"file: {str(path)!r} is none of {', '.join(readers)}, {also}{hint}")
    try:
        table = replace(reader(path, problems), decimal=decimal)
    except OSError as error:
        raise UserError(f"file: {str(path)!r} cannot be read: {shown(error.strerror or str(error))}") from None
    if not table.rows and not problems.found:
        below = "" if reader is _read_lines else " below its header"
        raise UserError(f"file: {str(path)!r} has no rows{below}")
    return table


def _read_csv(path: Path, problems: Problems) -> Table:
    text = read_text(path, problems)
    cells = {name: [line[i] for _, line in text.rows] for i, name in enumerate(text.names)}
    return Table(
        shown(path.name), _named(text.names, cells.__getitem__), [row for row, _ in text.rows], _twins(text.names)
    )


def _read_lines(path: Path, problems: Problems) -> Table:
    text = read_lines(path, problems)
    cells = {name: [line.get(name) for _, line in text.rows] for name in text.names}
    return Table(shown(path.name), _named(text.names, cells.__getitem__), [row for row, _ in text.rows], text.twins)


def _read_parquet(path: Path, problems: Problems) -> Table:
    try:
        with pq.ParquetFile(path) as file:
            # Of the columns, not of pandas' notes on them: its index is a column like the others.
            names, count = file.schema_arrow.names, file.metadata.num_rows
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise UserError(f"file: {str(path)!r} is not Parquet: {shown(str(error))}") from None

    def read(name: str) -> list[Any]:
        cells = _cells(path, name)
        if len(cells) != count:
            raise UserError(
                f"file: {str(path)!r}: column {shown(name)!r} has {len(cells)} cells where the file has {count} rows"
            )
        return cells

    return Table(shown(path.name), _named(names, read), list(range(1, count + 1)), _twins(names))


def _cells(path: Path, name: str) -> list[Any]:
    """The cells of a column of a Parquet file; texts of writers that do not mark them as such are texts, too."""
    try:
        with pq.ParquetFile(path) as file:
            cells = file.read(columns=[name])[name].to_pylist()
        return [cell.decode() if isinstance(cell, bytes) else cell for cell in cells]
    except UnicodeDecodeError:
        raise UserError(f"file: {str(path)!r}: column {shown(name)!r} holds bytes that are not UTF-8 text") from None
    except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError) as error:
        raise UserError(f"file: {str(path)!r}: column {shown(name)!r} cannot be read: {shown(str(error))}") from None


def _named(names: Sequence[str], read: Callable[[str], list[Any]]) -> Columns:
    return Columns([name for name in names if name], read)


def _twins(names: Sequence[str]) -> frozenset[str]:
    return frozenset(name for name, count in Counter(names).items() if name and count > 1)

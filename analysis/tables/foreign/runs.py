"""Runs that were trained elsewhere: a table and a map of its columns → rows of the store's imports table.

    file → cells (`table`) → where targets come from (`sources`) → the last row of every run, and its curve (`curves`)
         → targets by arithmetic (`reading`) → checks → rows

Nothing is dropped or repaired: what is missing, no number, impossible or there twice is collected over the whole file,
and named by row and column in one UserError. A loss written as inf or nan is no mistake but a run that diverged.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from analysis.tables.foreign.checks import check_rows, number_repeats
from analysis.tables.foreign.curves import last_rows, logged_steps
from analysis.tables.foreign.names import Name, known_by
from analysis.tables.foreign.problems import Problems, shown
from analysis.tables.foreign.questions import questions
from analysis.tables.foreign.reading import Reading
from analysis.tables.foreign.sources import sources_of
from analysis.tables.foreign.table import Table, is_empty
from scionlab.errors import UserError, argument

NAMED = 6  # columns in which two rows differ


@dataclass(frozen=True)
class ForeignRuns:
    """Rows for `RunStore.write_import`, the text each target came from, and the file's columns that were not used.

    `written` says how the numbers of columns are written, where not every program reads them so. `curves` says of which
    rows of runs the last ones are, "" where a row is a run. `repeated` runs were given seeds, as they repeat others.
    `logged` has the logged steps of runs that have any, by trial_id. `questions` are what may be meant otherwise, a
    sentence each.
    """

    rows: list[dict[str, Any]]
    sources: dict[str, str]
    unused: tuple[str, ...]
    questions: tuple[str, ...] = ()
    written: dict[str, str] = field(default_factory=dict)
    curves: str = ""
    repeated: int = 0
    logged: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def n_diverged(self) -> int:
        """Runs without a loss."""
        return sum(row["status"] == "diverged" for row in self.rows)

    def values(self, column: str) -> list[Any]:
        """The different values of a column, ascending, without null."""
        return sorted({row[column] for row in self.rows if row[column] is not None})


def read_runs(
    table: Table,
    name: str,
    mapping: Mapping[str, str],
    constants: Mapping[str, str],
    problems: Problems,
    repeats: bool = False,
) -> ForeignRuns:
    """The rows of an import called `name`; `mapping` {target: expression} and `constants` {target: value} are texts.

    With `repeats`, runs that agree in all but their losses are seeds 0, 1, …; otherwise they are problems. Numbers are
    float, whole ones int, and None where an optional one is not known. UserError with all `problems`.
    """
    sources = sources_of(table, mapping, constants, problems)
    if 0 in problems.rows:
        problems.raise_any()
    if repeats and sources["seed"].columns:
        raise UserError(f"{argument('number-repeats')}: seed has a column, which is to tell runs apart")
    ends = last_rows(table, sources, problems)
    # Where no learning rate is given, runs are points of a law of their sizes.
    reading = Reading.of(ends.table, sources, problems, () if "lr" in sources else ("n_params",))
    columns = reading.columns()
    rows = [
        {"source": table.file, "row": row, **{target: values[i] for target, values in columns.items()}}
        for i, row in enumerate(ends.table.rows)
    ]
    used = {column for source in sources.values() for column in source.columns}
    unused = [column for column in table.columns if column not in used]
    repeated = number_repeats([row for row in rows if row["row"] not in problems.rows]) if repeats else 0
    check_rows(rows, problems, _Difference(ends.table, unused))
    curves = logged_steps(ends, sources, rows, problems)
    problems.raise_any()
    named = [{"trial_id": _trial_id(name, row), **row} for row in rows]
    return ForeignRuns(
        rows=named,
        logged={row["trial_id"]: curve for row, curve in zip(named, curves, strict=True) if curve},
        sources={target: shown(source.text) for target, source in sources.items()},
        unused=tuple(shown(column) for column in unused),
        questions=(*questions(rows, sources, _wanted(table, unused)), *ends.questions(rows)),
        written={shown(column): shown(about) for column, about in reading.written.items()},
        curves=ends.about,
        repeated=repeated,
    )


def _wanted(table: Table, unused: Sequence[str]) -> dict[str, Name]:
    """Columns that are not used, not empty, and called as other programs call a target."""
    found = {}
    for target, name in known_by(unused).items():
        with suppress(UserError):  # what nobody uses may be of any type
            if not all(map(is_empty, table.columns[name.column])):
                found[target] = name
    return found


@dataclass(frozen=True)
class _Difference:
    """The columns, among some of a table, in which two rows differ: the first few, as they may say which run it is."""

    table: Table
    columns: Sequence[str]

    @cached_property
    def cells(self) -> dict[str, list[Any]]:
        """Those that can be read: what nobody uses may be of any type."""
        found = {}
        for column in self.columns:
            with suppress(UserError):
                found[column] = self.table.columns[column]
        return found

    @cached_property
    def places(self) -> dict[int, int]:
        """Where a row of a number stands."""
        return {row: place for place, row in enumerate(self.table.rows)}

    def __call__(self, row: int, other: int) -> list[str]:
        here, there = self.places[row], self.places[other]
        found = [shown(column) for column, cells in self.cells.items() if cells[here] != cells[there]]
        more = len(found) - NAMED
        return [*found[:NAMED], *([f"… ({more} more)"] if more > 0 else [])]


def _trial_id(name: str, row: Mapping[str, Any]) -> str:
    """16 hex digits of a hash of the import's name and the run, wherever in whichever file it stands."""
    content = {key: value for key, value in row.items() if key not in ("source", "row")}
    return hashlib.sha256(json.dumps([name, content], sort_keys=True).encode()).hexdigest()[:16]

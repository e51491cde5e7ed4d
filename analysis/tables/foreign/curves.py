"""Tables with a row a logged step, as loggers write them: the last row of a run with a loss is the run, all its curve.

The tokens of a step are those of its row where a run's rows differ in them; else they are the run's, in proportion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.tables.arrays import Bools, Floats
from analysis.tables.foreign.causes import cause_of
from analysis.tables.foreign.problems import Problems
from analysis.tables.foreign.sources import Source
from analysis.tables.foreign.table import Table, is_empty
from analysis.tables.foreign.targets import CURVES, STEP, TRAIN_LOSS
from analysis.tables.same import SAME_BUDGET

LOSSES = (TRAIN_LOSS, "val_loss")  # of a logged step


@dataclass(frozen=True)
class Logged:
    """All rows (m,) of a table of logged steps: their steps `at`, and the places `of` their runs among the ends."""

    table: Table
    at: Floats
    of: NDArray[np.intp]


@dataclass(frozen=True)
class Ends:
    """The last rows of runs: their table, and at which step each is, (n,); None where every row is a run.

    `n_rows` are those of all runs, `behind` how many runs have rows after their last loss.
    """

    table: Table
    steps: Floats | None = None
    n_rows: int = 0
    behind: int = 0
    logged: Logged | None = None

    @property
    def about(self) -> str:
        """What was taken of how many rows, in a sentence; empty where every row is a run."""
        if self.steps is None or self.n_rows == len(self.steps):
            return ""
        late = f", for {self.behind} of them not the last one of all" if self.behind else ""
        return (
            f"{self.n_rows} rows of {len(self.steps)} runs: a run is its last row with a loss{late}; all are its curve"
        )

    def questions(self, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """Whether runs end at different shares of their steps, in `rows` (n,) of the imports table."""
        if self.steps is None:
            return ()
        shares = [float(step) / row["steps"] for step, row in zip(self.steps, rows, strict=True) if row["steps"]]
        if not shares or max(shares) <= SAME_BUDGET * min(shares):
            return ()
        low = sum(share * SAME_BUDGET < max(shares) for share in shares)
        return (
            f"step: the last rows of runs stand at {min(shares):.0%} to {max(shares):.0%} of their steps; the losses "
            f"of {low} run{'s' * (low > 1)} are of a learning rate that was still to come down, unlike the others'",
        )


def last_rows(table: Table, sources: Mapping[str, Source], problems: Problems) -> Ends:
    """The row of every run with the largest step that has a loss, or the largest one where none has.

    Every row is a run where `run` or `step` has no source.
    """
    step, run = sources.get(STEP), sources.get("run")
    if step is None or step.expression is None or run is None or not run.columns:
        return Ends(table)
    names = ["" if is_empty(cell) else str(cell).strip() for cell in table.columns[run.text]]
    steps = _steps(table, step, problems)
    has_loss = _filled(table, sources["val_loss"])
    last, last_of_all, seen = dict[str, int](), dict[str, int](), dict[tuple[str, float], int]()
    for i, (name, at) in enumerate(zip(names, steps, strict=True)):
        if not name:
            problems.add(table.rows[i], f"column {run.text!r}: is empty", "run")
            continue
        twin = seen.setdefault((name, float(at)), i)
        if twin != i and not np.isnan(at):
            problems.add(
                table.rows[i], f"{STEP}: run {name!r} has {at:.10g} in row {table.rows[twin]}, too", "step twice"
            )
        last_of_all[name] = max(last_of_all.get(name, i), i, key=steps.__getitem__)
        other = last.get(name, i)
        last[name] = max(other, i, key=lambda j: (has_loss[j], steps[j]))
    if problems.rows:
        problems.raise_any()
    kept = np.zeros(len(names), dtype=bool)
    kept[list(last.values())] = True
    behind = sum(last[name] != last_of_all[name] for name in last)
    place = {names[i]: k for k, i in enumerate(np.flatnonzero(kept))}
    of = np.array([place[name] for name in names], dtype=np.intp)
    return Ends(table.only(kept), steps[kept], len(names), behind, Logged(table, steps, of))


def logged_steps(
    ends: Ends, sources: Mapping[str, Source], rows: Sequence[Mapping[str, Any]], problems: Problems
) -> list[list[dict[str, Any]]]:
    """The rows of the store's table of curves of every run in `rows` (n,) of the imports table, in order of steps.

    [] for a run with fewer than two, as where every row is a run. A step without any loss has no row, a loss of nan or
    inf is infinite; one that is no number becomes a problem.
    """
    found: list[list[dict[str, Any]]] = [[] for _ in rows]
    if (logged := ends.logged) is None:
        return found
    losses = {name: _losses(logged.table, sources[name], problems) for name in LOSSES if name in sources}
    seen = _tokens(logged, sources["tokens"], rows)
    for i in np.argsort(logged.at, kind="stable"):
        known = {name: values[i] for name, values in losses.items() if not np.isnan(values[i])}
        if known:
            point = {"step": round(logged.at[i]), "tokens": round(seen[i])}
            found[logged.of[i]].append(point | {name: float(value) for name, value in known.items()})
    return [curve if len(curve) > 1 else [] for curve in found]


def _tokens(logged: Logged, source: Source, rows: Sequence[Mapping[str, Any]]) -> Floats:
    """Tokens seen at every row (m,)."""
    written = _values(logged.table, source)
    found = np.empty(len(written))
    for place, row in enumerate(rows):
        mine = logged.of == place
        at = logged.at[mine]
        steps = row["steps"] or at.max()
        share = at / steps if steps else np.ones(len(at))
        differ = np.isfinite(written[mine]).all() and np.ptp(written[mine]) > 0
        found[mine] = written[mine] if differ else (row["tokens"] or 0.0) * share
    return found


def _losses(table: Table, source: Source, problems: Problems) -> Floats:
    """At every row (m,): NaN where a cell is empty, and infinite where it says nan or inf."""
    filled, values = _filled(table, source), _values(table, source)
    for column in source.columns:
        numbers = table.numbers(column)
        cells = table.columns[column] if numbers.wrong.any() else []
        for i in np.flatnonzero(numbers.wrong):
            cause = cause_of(str(cells[i]), is_loss=True, hint=numbers.hint)
            why, name = (f"; {cause.text()}", cause.name) if cause else ("", "")
            problems.add(table.rows[i], f"column {column!r}: {str(cells[i])!r} is not a number{why}", name)
    return np.where(filled, np.where(np.isfinite(values), values, np.inf), np.nan)


def _values(table: Table, source: Source) -> Floats:
    """Of every row (m,)."""
    if source.expression is None:
        return np.full(len(table.rows), np.nan)
    values = source.expression({column: table.numbers(column).values for column in source.columns})
    return np.broadcast_to(np.asarray(values, dtype=float), len(table.rows))


def _steps(table: Table, source: Source, problems: Problems) -> Floats:
    """Of every row; what is none is a problem."""
    steps = _values(table, source)
    for i in np.flatnonzero(~CURVES[STEP].allows(steps)):
        problems.add(table.rows[i], f"{STEP} ({source.text}): is not a number, {CURVES[STEP].allowed}", "steps of rows")
    return steps


def _filled(table: Table, source: Source) -> Bools:
    """Which rows have something in every cell of a source."""
    filled = np.ones(len(table.rows), dtype=bool)
    for column in source.columns:
        filled &= np.array([not is_empty(cell) for cell in table.columns[column]], dtype=bool)
    return filled

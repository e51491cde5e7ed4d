"""Tables with a row a logged step, as loggers write them: the last row of every run is the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.tables.arrays import Bools, Floats
from analysis.tables.foreign.problems import Problems
from analysis.tables.foreign.sources import Source
from analysis.tables.foreign.table import Table, is_empty
from analysis.tables.foreign.targets import CURVES, STEP
from analysis.tables.same import SAME_BUDGET


@dataclass(frozen=True)
class Ends:
    """The last rows of runs: their table, and at which step each is, (n,); None where every row is a run.

    `n_rows` are those of all runs, `behind` how many runs have rows after their last loss.
    """

    table: Table
    steps: Floats | None = None
    n_rows: int = 0
    behind: int = 0

    @property
    def about(self) -> str:
        """What was taken of how many rows, in a sentence; empty where every row is a run."""
        if self.steps is None:
            return ""
        late = f", for {self.behind} of them not the last one of all" if self.behind else ""
        return (
            f"{self.n_rows} rows of {len(self.steps)} runs: a run is its last row with a loss{late}; "
            "the rows before are not kept"
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
    return Ends(table.only(kept), steps[kept], len(names), behind)


def _steps(table: Table, source: Source, problems: Problems) -> Floats:
    """Of every row; what is none is a problem."""
    assert source.expression is not None, "a step is a number"
    numbers = {column: table.numbers(column) for column in source.columns}
    values = source.expression({column: found.values for column, found in numbers.items()})
    steps = np.broadcast_to(np.asarray(values, dtype=float), len(table.rows))
    for i in np.flatnonzero(~CURVES[STEP].allows(steps)):
        problems.add(table.rows[i], f"{STEP} ({source.text}): is not a number, {CURVES[STEP].allowed}", "steps of rows")
    return steps


def _filled(table: Table, source: Source) -> Bools:
    """Which rows have something in every cell of a source."""
    filled = np.ones(len(table.rows), dtype=bool)
    for column in source.columns:
        filled &= np.array([not is_empty(cell) for cell in table.columns[column]], dtype=bool)
    return filled

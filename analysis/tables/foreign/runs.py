"""Runs that were trained elsewhere: a table and a map of its columns → rows of the store's imports table.

    file → cells (`table`) → targets by arithmetic (`expression`) → checks → rows

Every target has a source: an expression of columns, a constant, the column of its own name, or a default. Nothing is
dropped or repaired: what is missing, no number, impossible or there twice is collected over the whole file, and named
by row and column in one UserError. A loss written as inf or nan is no mistake but a run that diverged.
"""

import hashlib
import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.tables.arrays import Bools, Floats
from analysis.tables.foreign.causes import cause_of
from analysis.tables.foreign.checks import check_rows, questions_of_momentum
from analysis.tables.foreign.expression import Expression, parse
from analysis.tables.foreign.problems import Problems, shown
from analysis.tables.foreign.table import Numbers, Table, is_empty
from scionlab.errors import UserError, closest, unknown

# What runs are without where only the law L(N, T) is asked for: all of these, or none.
SETTING = ("batch_size", "seq_len", "lr")
STATUSES = ("ok", "diverged")
# What trackers and schedulers call a run that went to its end; whether its loss is finite is said by the loss.
ENDED = ("finished", "completed", "complete", "success", "succeeded", "done")
EXACT = 2.0**53  # whole numbers beyond are not all floats
LONGEST_SEED = 2**63 - 1  # what the store holds


@dataclass(frozen=True)
class Target:
    """A column of the imports table. Its values lie above `low` and up to `high`; `whole` ones are integers from `low`.

    `default` is a constant that stands in for it. An `optional` one may be absent from the file, or from a row.
    """

    about: str
    default: str = ""
    optional: bool = False
    low: float = 0.0
    high: float = math.inf
    whole: bool = False

    def allows(self, values: Floats) -> Bools:
        """Which values are possible; never NaN or infinity."""
        if self.whole:
            return np.asarray((values == np.floor(values)) & (values >= self.low) & (values < EXACT))
        return np.asarray((values > self.low) & (values <= self.high) & np.isfinite(values))

    @property
    def allowed(self) -> str:
        """What `allows` does, in words."""
        if self.whole:
            return f"a whole number, {self.low:g} or more, and below 2^53"
        return f"above {self.low:g} and " + (f"at most {self.high:g}" if math.isfinite(self.high) else "finite")


TEXTS = {
    "optimizer": Target("name of the method", default="imported"),
    "status": Target("ok or diverged", optional=True),
}
NUMBERS = {
    "n_params": Target("N, number of parameters", optional=True, low=1, whole=True),
    "width": Target("width of the residual stream", optional=True, low=1, whole=True),
    "tokens": Target("T, tokens the run was trained on"),
    "batch_size": Target("B, sequences a step"),
    "seq_len": Target("S, tokens a sequence; 1 if batch_size is in tokens"),
    "steps": Target("K, optimizer steps", optional=True),
    "lr": Target("γ, peak learning rate"),
    "momentum": Target("α, weight of the new gradient", optional=True, high=1.0),
    "seed": Target("whole number", default="0", whole=True),
    "val_loss": Target("final validation loss, nats per token"),
}
TARGETS = TEXTS | NUMBERS


@dataclass(frozen=True)
class ForeignRuns:
    """Rows for `RunStore.write_import`, the text each target came from, and the file's columns that were not used.

    `questions` are what may be meant otherwise, a sentence each.
    """

    rows: list[dict[str, Any]]
    sources: dict[str, str]
    unused: tuple[str, ...]
    questions: tuple[str, ...] = ()

    @property
    def n_diverged(self) -> int:
        """Runs without a loss."""
        return sum(row["status"] == "diverged" for row in self.rows)

    def values(self, column: str) -> list[Any]:
        """The different values of a column, ascending, without null."""
        return sorted({row[column] for row in self.rows if row[column] is not None})


def read_runs(
    table: Table, name: str, mapping: Mapping[str, str], constants: Mapping[str, str], problems: Problems
) -> ForeignRuns:
    """The rows of an import called `name`; `mapping` {target: expression} and `constants` {target: value} are texts.

    Numbers are float, whole ones int, and None where an optional one is not known. UserError with all `problems`.
    """
    sources = _sources(table, mapping, constants, problems)
    columns = _Reading.of(table, sources, problems).columns()
    rows = [
        {"source": table.file, "row": row, **{target: values[i] for target, values in columns.items()}}
        for i, row in enumerate(table.rows)
    ]
    check_rows(rows, problems)
    problems.raise_any()
    used = {column for source in sources.values() for column in source.columns}
    momentum = sources.get("momentum")
    momenta = [row["momentum"] for row in rows if row["momentum"] is not None]
    return ForeignRuns(
        rows=[{"trial_id": _trial_id(name, row), **row} for row in rows],
        sources={target: shown(source.text) for target, source in sources.items()},
        unused=tuple(shown(column) for column in table.columns if column not in used),
        questions=() if momentum is None else questions_of_momentum(momentum.text, momentum.column, momenta),
    )


def _trial_id(name: str, row: Mapping[str, Any]) -> str:
    """16 hex digits of a hash of the import's name and the run, wherever in whichever file it stands."""
    content = {key: value for key, value in row.items() if key not in ("source", "row")}
    return hashlib.sha256(json.dumps([name, content], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Source:
    """Where a target comes from: an expression, or for a text a column; a constant uses no columns."""

    text: str
    columns: tuple[str, ...] = ()
    expression: Expression | None = None

    @property
    def column(self) -> str | None:
        """The column that it is, if it is no arithmetic."""
        return self.columns[0] if self.columns == (self.text.strip("`"),) else None


def _sources(
    table: Table, mapping: Mapping[str, str], constants: Mapping[str, str], problems: Problems
) -> dict[str, _Source]:
    """Of all targets that have one; UserError at once if any is wrong or missing."""
    sources = {}
    for target, about in TARGETS.items():
        try:
            if target in mapping and target in constants:
                raise UserError("is both mapped and set; do one of them")
            if target in constants:
                sources[target] = _constant(target, constants[target])
            elif target in mapping or target in table.columns:
                sources[target] = _mapped(target, mapping.get(target, target), table)
            elif about.default:
                sources[target] = _constant(target, about.default)
            elif not about.optional and not (target in SETTING and _sizes_alone(table, mapping, constants)):
                close = closest(target, table.columns, cutoff=0.5)
                guess = f" (did you mean {close!r}? Then --map {target}={_quoted(close)})" if close else ""
                raise UserError(f"no such column{guess}; map it or set it, columns are {', '.join(table.columns)}")
            for column in sources[target].columns if target in sources else ():
                if column in table.twins:
                    raise UserError(f"the file has two columns called {column!r}")
        except UserError as error:
            problems.add(0, f"{target}: {error}")
    if 0 in problems.rows:
        problems.raise_any()
    return sources


def _sizes_alone(table: Table, mapping: Mapping[str, str], constants: Mapping[str, str]) -> bool:
    """Whether the number of parameters is given, and nothing of how a run was trained."""
    given = {*mapping, *constants, *table.columns}
    # A column that is one of these by another spelling is one that was forgotten.
    spelled = any(closest(target, table.columns, cutoff=0.9) for target in SETTING)
    return "n_params" in given and not given & {*SETTING, "steps", "momentum"} and not spelled


def _quoted(column: str) -> str:
    """A column as an expression names it."""
    return column if column.isidentifier() else f"`{column}`"


def _mapped(target: str, text: str, table: Table) -> _Source:
    if target in NUMBERS:
        return _checked(target, parse(text, table.columns))
    name = text if text in table.columns else text.strip("`")
    if name not in table.columns:
        raise UserError(f"{unknown('column', name, table.columns)}; --set gives a constant")
    return _Source(name, (name,))


def _constant(target: str, text: str) -> _Source:
    if target in TEXTS:
        if not text or not text.isprintable() or (target == "status" and text not in STATUSES):
            raise UserError(f"{text!r} is not allowed; it must be {TEXTS[target].about}")
        return _Source(text)
    try:
        expression = parse(text, ())
    except UserError:
        raise UserError(f"{text!r} is not a number; columns are given by --map") from None
    return _checked(target, expression)


def _checked(target: str, expression: Expression) -> _Source:
    """A constant that no row could have is one mistake, not one a row."""
    if not expression.columns and not NUMBERS[target].allows(np.asarray(expression({}), dtype=float)):
        raise UserError(f"{expression.text!r} is not allowed; it must be {NUMBERS[target].allowed}")
    return _Source(expression.text, expression.columns, expression)


@dataclass(frozen=True)
class _Reading:
    """A table's columns as numbers, where they are used as such, and where each target comes from."""

    table: Table
    sources: Mapping[str, _Source]
    numbers: Mapping[str, Numbers]
    problems: Problems

    @classmethod
    def of(cls, table: Table, sources: Mapping[str, _Source], problems: Problems) -> "_Reading":
        used = {column for source in sources.values() if source.expression for column in source.columns}
        return cls(table, sources, {column: Numbers.of(table.columns[column]) for column in used}, problems)

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
        return {
            "optimizer": self.text("optimizer"),
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
        source = self.sources.get(target, _Source(""))
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
                    f"--where {shlex.quote(f'{_quoted(column)}!={text}')} leaves such rows out",
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

    def usable(self, target: str, columns: tuple[str, ...], lost: Bools) -> Bools:
        """Rows (n,) whose cells are all numbers. What else is in a cell is a problem, but in rows that are `lost`."""
        usable = np.ones(len(lost), dtype=bool)
        needed = not NUMBERS[target].optional
        hint = "; write inf for a run that diverged, or map its status" if target == "val_loss" else ""
        for column in columns:
            numbers = self.numbers[column]
            usable &= ~numbers.wrong & ~numbers.empty
            cells = self.table.columns[column] if numbers.wrong.any() else []
            for i in np.flatnonzero(numbers.wrong & ~lost):
                cell = str(cells[i])
                cause = cause_of(cell, target == "val_loss")
                why, name = (f"; {cause.hint}", cause.name) if cause else ("", "")
                self.problems.add(self.table.rows[i], f"column {column!r}: {cell!r} is not a number{why}", name)
            for i in np.flatnonzero(numbers.empty & ~lost & needed):
                self.problems.add(self.table.rows[i], f"column {column!r}: is empty{hint}")
        return usable


def _named(target: str, source: _Source) -> str:
    return target if source.text == target else f"{target} ({source.text})"


def _exact(cell: Any, value: float) -> int:
    """A whole number as it is written, or the float it was read as, where it is written as one."""
    try:
        return int(cell)
    except ValueError:
        return int(value)


def _as_list(values: Floats, whole: bool) -> list[float | int | None]:
    return [None if math.isnan(value) else int(value) if whole else float(value) for value in values]

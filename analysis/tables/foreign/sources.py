"""Where each target of an import comes from: a column, arithmetic of columns, a constant, a default, or the others.

What is missing of n_params, tokens and flops follows from the other two by C = 6 N T.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from analysis.tables.foreign.expression import Expression, Function, parse
from analysis.tables.foreign.problems import Problems
from analysis.tables.foreign.table import Table, is_empty
from analysis.tables.foreign.targets import CURVES, NUMBERS, SETTING, STATUSES, STEP, TARGETS, TEXTS, TRAIN_LOSS
from scionlab.errors import UserError, assigned, closest, listed, option, unknown

FLOPS_A_TOKEN = 6.0  # forward and backward pass, for each parameter
# What follows from two others, as an expression of these.
IMPLIED = {
    "n_params": ("flops/(6*tokens)", ("flops", "tokens")),
    "tokens": ("flops/(6*n_params)", ("flops", "n_params")),
}


@dataclass(frozen=True)
class Source:
    """Where a target comes from: an expression, or for a text a column; a constant uses no columns."""

    text: str
    columns: tuple[str, ...] = ()
    expression: Expression | None = None

    @property
    def column(self) -> str | None:
        """The column that it is, if it is no arithmetic."""
        return self.columns[0] if self.columns == (self.text.strip("`"),) else None


def sources_of(
    table: Table, mapping: Mapping[str, str], constants: Mapping[str, str], problems: Problems
) -> dict[str, Source]:
    """Of all targets that have one, by expressions and constants as they are written.

    What is wrong or missing becomes `problems` of row 0, the whole file.
    """
    found = given_sources(table, mapping, constants, problems)
    wrong = {text.partition(":")[0] for text in problems.found}
    columns = f", columns are {listed(table.columns)}"
    for target in missing_of(table, found):
        if target not in wrong:
            problems.add(0, f"{target}: {_no_column(target, table)}{columns}")
            columns = ""  # once is enough
    return found


def given_sources(
    table: Table, mapping: Mapping[str, str], constants: Mapping[str, str], problems: Problems
) -> dict[str, Source]:
    """The same, with nothing said of what is missing."""
    found = dict[str, Source]()
    for target in TARGETS:
        try:
            source = _given(target, table, mapping, constants)
            if source is not None:
                found[target] = source
                for column in source.columns:
                    if column in table.twins:
                        raise UserError(f"the file has two columns called {column!r}")
        except UserError as error:
            problems.add(0, f"{target}: {error}")
    found |= _implied(found)
    if STEP in found and "run" not in found:
        if STEP in mapping or STEP in constants:
            problems.add(0, f"{STEP}: needs run, the column that says which run a row is of")
        del found[STEP]
    if STEP not in found and TRAIN_LOSS in found:
        if TRAIN_LOSS in mapping:
            problems.add(0, f"{TRAIN_LOSS}: needs run and step, as a row is then a logged step of a run")
        del found[TRAIN_LOSS]
    return {target: found[target] for target in TARGETS if target in found}


def missing_of(table: Table, given: Collection[str]) -> list[str]:
    """The targets that are needed and have no source, where some are `given`."""
    needed = [name for name, about in (TEXTS | NUMBERS).items() if not about.optional and not about.default]
    left_out = SETTING if _sizes_alone(table, given) else ()
    return [target for target in needed if target not in given and target not in left_out]


def _sizes_alone(table: Table, given: Collection[str]) -> bool:
    """Whether the number of parameters is given and no learning rate is: their law asks for no more."""
    forgotten = _spelled_otherwise(tuple(table.columns)).difference(given)
    return "n_params" in given and "lr" not in given and not forgotten


@lru_cache(maxsize=1)
def _spelled_otherwise(columns: tuple[str, ...]) -> frozenset[str]:
    """The settings that a column is by another spelling."""
    others = [column for column in columns if column not in SETTING]
    return frozenset(target for target in SETTING if closest(target, others, cutoff=0.9))


def _given(target: str, table: Table, mapping: Mapping[str, str], constants: Mapping[str, str]) -> Source | None:
    """What is said of a target, or what stands in for it; None without either."""
    about = TARGETS[target]
    if target in mapping and target in constants:
        raise UserError("is both mapped and set; do one of them")
    if target in constants:
        return _constant(target, constants[target])
    if target in mapping:
        return _mapped(target, mapping[target], table)
    may_lack = about.optional or target in SETTING
    if target in table.columns and not (may_lack and _is_empty(table, target)):
        return _mapped(target, target, table)
    return _constant(target, about.default) if about.default else None


def _is_empty(table: Table, name: str) -> bool:
    """Whether a column has rows and nothing in them; one that cannot be read is not empty."""
    try:
        return bool(table.rows) and all(map(is_empty, table.columns[name]))
    except UserError:
        return False


def _no_column(target: str, table: Table) -> str:
    if target in table.columns:
        return "its column is empty; map or set it"
    close = closest(target, table.columns, cutoff=0.5)
    close = close if close and (target in TEXTS or _has_numbers(close, table)) else None
    guess = f" (did you mean {close!r}? Then {assigned('map', {target: quoted(close)})})" if close else ""
    return f"no such column{guess}; map it or set it"


def _has_numbers(column: str, table: Table) -> bool:
    try:
        numbers = table.numbers(column)
    except UserError:  # of Parquet, a column that nobody uses may be unreadable
        return False
    return bool((~numbers.empty & ~numbers.wrong).any())


def quoted(column: str) -> str:
    """A column as an expression names it."""
    return column if column.isidentifier() else f"`{column}`"


def _mapped(target: str, text: str, table: Table) -> Source:
    if target not in TEXTS:
        return _checked(target, parse(text, table.columns))
    name = text if text in table.columns else text.strip("`")
    if name not in table.columns:
        raise UserError(f"{unknown('column', name, table.columns)}; {option('set')} gives a constant")
    return Source(name, (name,))


def _constant(target: str, text: str) -> Source:
    if target in TEXTS:
        if not text or not text.isprintable() or (target == "status" and text not in STATUSES):
            raise UserError(f"{text!r} is not allowed; it must be {TEXTS[target].about}")
        return Source(text)
    try:
        expression = parse(text, ())
    except UserError:
        raise UserError(f"{text!r} is not a number; columns are given by {option('map')}") from None
    return _checked(target, expression)


def _checked(target: str, expression: Expression) -> Source:
    """A constant that no row could have is one mistake, not one a row."""
    about = (NUMBERS | CURVES)[target]
    if not expression.columns and not about.allows(np.asarray(expression({}), dtype=float)):
        raise UserError(f"{expression.text!r} is not allowed; it must be {about.allowed}")
    return Source(expression.text, expression.columns, expression)


def _implied(found: Mapping[str, Source]) -> dict[str, Source]:
    """What two of n_params, tokens and flops say of the third."""
    for target, (text, (flops, other)) in IMPLIED.items():
        if target not in found and flops in found and other in found:
            over, under = found[flops].expression, found[other].expression
            if over is None or under is None:  # of a number neither is
                continue
            columns = tuple(dict.fromkeys((*over.columns, *under.columns)))
            return {target: Source(text, columns, Expression(text, columns, _over(over.function, under.function)))}
    return {}


def _over(flops: Function, other: Function) -> Function:
    return lambda values: np.divide(flops(values), np.multiply(FLOPS_A_TOKEN, other(values)))

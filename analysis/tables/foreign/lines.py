"""JSON with an object a line, as loggers write it: nested objects become columns whose names have dots."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.tables.foreign.problems import Problems
from analysis.tables.foreign.text import lines_of
from scionlab.errors import UserError

DEEPEST = 20  # objects within each other


@dataclass(frozen=True)
class Lines:
    """The names of columns in the order they are met, and rows with the number of their line; the first is 1.

    `twins` are names that one object has twice.
    """

    names: list[str]
    rows: list[tuple[int, dict[str, Any]]]
    twins: frozenset[str]


class _Pairs(list[tuple[str, Any]]):
    """An object's names and values, also of a name that is there twice."""


def read_lines(path: Path, problems: Problems) -> Lines:
    """A .jsonl file, also as .gz. Blank lines are no rows; lines that are no object are problems.

    What an object has not is empty. NaN and Infinity are numbers, as Python writes them.
    """
    names, rows, twins = dict[str, None](), list[tuple[int, dict[str, Any]]](), set[str]()
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line, object_pairs_hook=_Pairs)
            if not isinstance(found, _Pairs):
                raise UserError("is not a JSON object in braces")
            cells = dict[str, Any]()
            for name, value in _flat(found, "", 0):
                twins.update({name} if name in cells else ())
                cells[name] = value
        except (ValueError, RecursionError) as error:  # a UserError is a ValueError, as is what json says
            why = str(error) if isinstance(error, UserError) else f"is not JSON: {error}"
            problems.add(number, why, "json")
            continue
        names |= dict.fromkeys(cells)
        rows.append((number, cells))
    return Lines(list(names), rows, frozenset(twins))


def _flat(pairs: _Pairs, before: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > DEEPEST:
        raise UserError(f"has objects that are nested more than {DEEPEST} deep")
    for name, value in pairs:
        whole = f"{before}{name}".strip()
        if isinstance(value, _Pairs):
            yield from _flat(value, f"{whole}.", depth + 1)
        else:
            yield whole, value

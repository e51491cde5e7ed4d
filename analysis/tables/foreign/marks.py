"""How a column writes its numbers: with a decimal point or comma, and with what between thousands.

What a text means is asked of all cells of its column together. `1,5` and `1.234,5` can only have a decimal comma,
`1,234.5` only a decimal point; `1,234` may be either, and means what the others of its column say. Where none of them
says it nothing is guessed: the cell is no number until the mark is given.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.tables.arrays import Bools, Floats
from scionlab.errors import option

BLANKS = " \u00a0\u2007\u2009\u202f'’"  # between thousands, whatever the decimal mark
MINUS = "\u2212"  # as it is typeset
POINT, COMMA = ".", ","
MARKS = (POINT, COMMA)
OTHER = {POINT: COMMA, COMMA: POINT}


def _pattern(mark: str) -> re.Pattern[str]:
    between = f"[{re.escape(OTHER[mark])}{BLANKS}]"
    end = re.escape(mark)
    grouped = rf"[1-9]\d{{0,2}}(?P<between>{between})\d{{3}}(?:(?P=between)\d{{3}})*(?:{end}\d*)?"
    plain = rf"(?:\d+(?:{end}\d*)?|{end}\d+)(?:[eE][-+]?\d+)?"
    return re.compile(rf"[-+]?(?:{grouped}|{plain})", re.ASCII)


PATTERNS = {mark: _pattern(mark) for mark in MARKS}
NO_MARK = str.maketrans(dict.fromkeys(BLANKS, ""))


def read(text: str, mark: str) -> float | None:
    """A text without blanks around it as a number whose decimal mark is `mark`; None if it is none."""
    text = text.replace(MINUS, "-")
    if not PATTERNS[mark].fullmatch(text):
        return None
    return float(text.translate(NO_MARK).replace(OTHER[mark], "").replace(mark, POINT))


@dataclass(frozen=True)
class Written:
    """A column's cells (n,) as numbers, and what had to be decided for that.

    `wrong` cells are texts that are no number. `about` says how its numbers are written, "" where any program reads
    them so; `hint` what to do about those of its texts that would be numbers if one knew how to read them.
    """

    values: Floats
    wrong: Bools
    about: str = ""
    hint: str = ""


def numbers_of(cells: Sequence[str], decimal: str | None) -> Written:
    """Texts that are not empty; `decimal` is the mark, None where the column itself is to say it."""
    texts = [cell.strip() for cell in cells]
    plain = [_float(text) for text in texts]
    if decimal is None and None not in plain:
        return _written(plain)
    readings = [{mark: read(text, mark) for mark in MARKS} for text in texts]
    mark = decimal or _decided(readings)
    if mark is None:
        return _written(plain, hint=_hint(texts, readings))
    # inf, nan and 1_000 have no mark, and are what Python reads.
    unmarked = [
        value if COMMA not in text and POINT not in text else None for text, value in zip(texts, plain, strict=True)
    ]
    found = [r[mark] if r[mark] is not None else u for r, u in zip(readings, unmarked, strict=True)]
    other = any(r[OTHER[mark]] is not None for r, value in zip(readings, found, strict=True) if value is None)
    hint = f"write all of the column with the decimal mark {mark}" if other else ""
    return _written(found, _about(mark, texts, plain, found), hint)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _written(found: Sequence[float | None], about: str = "", hint: str = "") -> Written:
    values = np.array([math.nan if value is None else value for value in found], dtype=float)
    return Written(values, np.array([value is None for value in found], dtype=bool), about, hint)


def _decided(readings: Sequence[dict[str, float | None]]) -> str | None:
    """The mark that every cell can have and some must; the point where it makes no difference; None if none is told."""
    must = {mark for r in readings for mark in MARKS if r[mark] is not None and r[OTHER[mark]] is None}
    if len(must) == 1:
        return must.pop()
    either = any(r[POINT] != r[COMMA] for r in readings)
    return None if must or either else POINT


def _hint(texts: Sequence[str], readings: Sequence[dict[str, float | None]]) -> str:
    """For a column whose mark is not told, or told in two ways."""
    ways = [
        next((t for t, r in zip(texts, readings, strict=True) if r[mark] is not None and r[OTHER[mark]] is None), None)
        for mark in MARKS
    ]
    if None not in ways:
        return f"the column has both {ways[0]!r} and {ways[1]!r}: write all of it in one way"
    for text, reading in zip(texts, readings, strict=True):
        comma, point = reading[COMMA], reading[POINT]
        if comma is not None and point is not None and comma != point and _float(text) is None:
            with_comma, with_point = option("decimal", COMMA), option("decimal", POINT)
            return f"{with_comma} makes {text} {comma:.10g}, and {with_point} makes it {point:.10g}"
    return ""


def _about(mark: str, texts: Sequence[str], plain: Sequence[float | None], found: Sequence[float | None]) -> str:
    """The mark with the first cell that it makes a difference for."""
    for text, before, value in zip(texts, plain, found, strict=True):
        if value is not None and value != before and not math.isnan(value):
            if mark == COMMA and COMMA in text:
                return f"decimal comma, {text} is {value:.10g}"
            if _float(text.replace(MINUS, "-")) == value:
                return f"a minus as it is typeset, {text} is {value:.10g}"
            return f"thousands are divided, {text} is {value:.10g}"
    return ""

"""CSV as spreadsheets and trackers write it: its separator, the lines above its header, cells that are nothing."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.tables.foreign.marks import MARKS, read
from analysis.tables.foreign.problems import Problems
from scionlab.errors import UserError

SEPARATORS = ",;\t|"
NAMED = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's first line
COMMENT = "#"
POINTER = "version https://git-lfs.github.com/"


@dataclass(frozen=True)
class Text:
    """The names of columns, and rows of as many cells with the number of the line each ends at; the first line is 1."""

    names: list[str]
    rows: list[tuple[int, list[str]]]


def read_text(path: Path, problems: Problems) -> Text:
    """A .csv or .tsv file, also as .gz. The separator is whichever of `SEPARATORS` its header has most of.

    Above the header there may be Excel's `sep=;` and comments. Lines whose cells are all empty are no rows, and empty
    cells beyond the header are none. Rows of another length than the header are problems.
    """
    lines = lines_of(path)
    above, separator = _header(lines)
    reader = csv.reader(lines[above:], delimiter=separator)
    try:
        found = [(above + reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise UserError(f"file: {str(path)!r}, line {above + reader.line_num}: is not CSV: {error}") from None
    if not found:
        return Text([], [])
    at, header = found[0]
    _check_one_line(found[:2], problems)
    names = _without_empty([name.strip() for name in header], 0)
    rows = [(row, _without_empty(line, len(names))) for row, line in found[1:]]
    return Text(names, _of_one_length(at, names, rows, problems))


def lines_of(path: Path) -> list[str]:
    """The lines of a file of UTF-8, or UTF-16 if it says so, also of one that is packed; UserError if it is no text."""
    # Spreadsheets write a byte-order mark, which utf-8-sig and utf-16 take off.
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix.lower() == ".gz" else content
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"file: {str(path)!r} is not UTF-8 text; save it as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"file: {str(path)!r} cannot be unpacked: {error}") from None
    if text.startswith(POINTER):
        raise UserError(f"file: {str(path)!r} is a pointer of Git LFS, not the file itself; get it by `git lfs pull`")
    lines = list(io.StringIO(text, newline=""))
    if lines and 3 * lines[0].count("\0") > len(lines[0]):  # UTF-16 without its mark has one beside every sign
        raise UserError(f"file: {str(path)!r} is not UTF-8 text; save it as UTF-8")
    return lines


def _header(lines: Sequence[str]) -> tuple[int, str]:
    """How many lines are above the header, and the separator."""
    named = NAMED.fullmatch(lines[0]) if lines else None
    first = 1 if named else 0
    plain = next((i for i in range(first, len(lines)) if lines[i].strip() and lines[i][0] != COMMENT), len(lines))
    header, below = (*lines[plain : plain + 2], "", "")[:2]
    separator = named[1] if named else max(SEPARATORS, key=lambda mark: (header.count(mark), below.count(mark)))
    # A header may begin with the mark of a comment itself: it then has as many cells as what follows.
    commented = [i for i in range(first, plain) if 0 < header.count(separator) <= lines[i].count(separator)]
    return (commented[-1] if commented else min(plain, len(lines))), separator


def _without_empty(cells: list[str], least: int) -> list[str]:
    """Without empty cells at the end, but not fewer than `least`."""
    length = next((i + 1 for i in reversed(range(least, len(cells))) if cells[i].strip()), min(least, len(cells)))
    return cells[:length]


def _check_one_line(top: Sequence[tuple[int, list[str]]], problems: Problems) -> None:
    """Names in two lines, as of merged cells, are no header: the first has gaps, and the second no numbers."""
    if len(top) < 2 or sum(bool(name.strip()) for name in top[0][1]) < 2:
        return  # a title alone is told otherwise
    (at, header), (row, line) = top
    word = next(
        (cell.strip() for name, cell in zip(header, line, strict=False) if cell.strip() and not name.strip()), ""
    )
    if word and not any(read(cell.strip(), mark) is not None for cell in line for mark in MARKS):
        problems.add(
            at,
            f"has no name above {word!r} of row {row}, which has no number either: the names seem to stand in two "
            "lines, as of merged cells; put them in one",
        )
        problems.raise_any()


def _of_one_length(
    at: int, names: Sequence[str], rows: Sequence[tuple[int, list[str]]], problems: Problems
) -> list[tuple[int, list[str]]]:
    """The rows as long as the header; the others are problems, all of them one if the header is none."""
    if rows and len(names) == 1 and all(len(line) > 1 for _, line in rows):
        problems.add(
            at,
            f"is taken for the names of the columns, but has one cell and the rows below have {len(rows[0][1])}; take "
            "out what stands above the names, such as a title, and separate all by one of , ; | and tab",
        )
        problems.raise_any()
    for row, line in rows:
        if len(line) != len(names):
            hint = "; is it a comment?" if line[0].startswith(COMMENT) else ""
            hint = "; is a quotation mark not closed?" if any("\n" in cell for cell in line) else hint
            problems.add(row, f"has {len(line)} cell{'s' * (len(line) != 1)} where the header has {len(names)}{hint}")
    return [(row, line) for row, line in rows if len(line) == len(names)]

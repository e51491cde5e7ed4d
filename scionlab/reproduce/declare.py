"""What a table of published numbers is: what its source says, and how the same is had of the project's fits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from analysis.fits.intervals import Estimate


class Verdict(StrEnum):
    """How a published number lies to ours, from best to worst."""

    meaning: str

    def __new__(cls, word: str, meaning: str) -> "Verdict":
        """The text itself, with what it means."""
        member = str.__new__(cls, word)
        member._value_, member.meaning = word, meaning
        return member

    AGREES = "agrees", "Ours has no interval, and differs by no more than the share that is allowed beside it."
    INSIDE = "inside", "The published number lies in our 95% interval."
    OVERLAP = "intervals overlap", "The published number lies outside our interval, but the two intervals meet."
    OUTSIDE = "outside", "The published number, and its interval if it has one, lies outside ours."
    DIFFERS = "differs", "Ours has no interval, and differs by more than that."
    UNDETERMINED = "not determined", "Our fit gives no such number on this table."
    NO_TABLE = "no table", "No file of the folder has this table's columns."
    NOT_READ = "not read", "A file has the columns, but could not be fitted."


@dataclass(frozen=True)
class Published:
    """A number of a source.

    `name`         of what, unique in its table; `unit` is "" for numbers without one
    `value`        as published; `low` and `high` are its 95% interval, None where none is known here
    `form`         how it is written
    `tolerance`    share by which ours may differ where it has no interval
    `where`        where it stands, or how it was read
    `why`          what explains a difference, said wherever there is one
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    form: str = ".3f"
    tolerance: float = 0.0
    where: str = ""
    why: str = ""

    def judge(self, ours: Estimate | None) -> Verdict:
        """How it lies to ours; None is a number that our fit does not give."""
        if ours is None:
            return Verdict.UNDETERMINED
        if ours.low is None or ours.high is None:
            return Verdict.AGREES if abs(ours.value - self.value) <= self.tolerance * self.value else Verdict.DIFFERS
        if ours.low <= self.value <= ours.high:
            return Verdict.INSIDE
        meet = self.low is not None and self.high is not None and self.low <= ours.high and ours.low <= self.high
        return Verdict.OVERLAP if meet else Verdict.OUTSIDE


Ours = Mapping[str, Estimate | None]


@dataclass(frozen=True)
class PublishedTable:
    """Published numbers that rest on one table of runs, or on none.

    `name`, `title`  of the table
    `source`         who published the numbers
    `values`         the numbers
    `how`            how the table is read and fitted, in a sentence or two
    `fit`            the file → ours by the names of `values`; of None where no file is needed
    `columns`        that its file has, by which it is found; empty where no file is needed
    `without`        columns that its file does not have, which tell it from its like
    `fetch`          where to get it
    `shipped`        name of its file in data/, for one that comes with the project
    """

    name: str
    title: str
    source: str
    values: tuple[Published, ...]
    how: str
    fit: Callable[[Path | None], Ours]
    columns: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    fetch: str = ""
    shipped: str = ""

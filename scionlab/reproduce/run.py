"""Fit the tables that are there, and set the published numbers beside ours."""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.fits.intervals import Estimate, with_interval
from scionlab.errors import UserError, worded
from scionlab.reproduce.declare import Ours, Published, PublishedTable, Verdict
from scionlab.reproduce.finding import columns_of, file_of
from scionlab.reproduce.tables import TABLES

GOOD = (Verdict.INSIDE, Verdict.AGREES)  # verdicts that leave nothing to explain
NOT_COMPARED = (Verdict.NO_TABLE, Verdict.NOT_READ)


@dataclass(frozen=True)
class Compared:
    """A published number with ours, None where there is none."""

    published: Published
    ours: Estimate | None
    verdict: Verdict

    @property
    def why(self) -> str:
        """What explains a difference, "" where there is none."""
        return "" if self.verdict in GOOD or self.verdict in NOT_COMPARED else self.published.why

    def texts(self) -> dict[str, str]:
        """As a row of texts."""
        form, unit = self.published.form, f" ({self.published.unit})" if self.published.unit else ""
        ours = "–" if self.ours is None else self.ours.text(form)
        theirs = with_interval(self.published.value, self.published.low, self.published.high, form)
        return {"number": self.published.name + unit, "verdict": str(self.verdict), "published": theirs, "ours": ours}


@dataclass(frozen=True)
class TableResult:
    """A table's numbers, what it took to get ours, and `problem`, a sentence where there are none.

    `peak_mb` is the largest memory of the process until then, in megabytes, of earlier tables too; None where the
    system does not say.
    """

    table: PublishedTable
    numbers: tuple[Compared, ...]
    file: str = ""
    seconds: float = 0.0
    peak_mb: float | None = None
    problem: str = ""

    @property
    def compared(self) -> bool:
        """Whether it was fitted."""
        return not self.problem

    @property
    def cost(self) -> str:
        """Its time, and the memory where that is known."""
        memory = "" if self.peak_mb is None else f", up to {self.peak_mb:,.0f} MB so far"
        return f"{self.seconds:.1f} s{memory}"

    @property
    def rows(self) -> list[dict[str, str]]:
        """Its numbers as rows of texts, with where they stand if that is said of any."""
        rows = [number.texts() | {"from": number.published.where or "–"} for number in self.numbers]
        said = any(number.published.where for number in self.numbers)
        return rows if said else [number.texts() for number in self.numbers]

    @property
    def finding(self) -> str:
        """What came out, in a sentence."""
        if self.problem:
            return self.problem
        counts = Counter(str(number.verdict) for number in self.numbers)
        return f"Of {len(self.numbers)} numbers: {', '.join(f'{word} {count}' for word, count in counts.items())}."


@dataclass(frozen=True)
class Reproduction:
    """All tables. `peak_mb` is the largest memory of the process, in megabytes; None where the system does not say."""

    tables: tuple[TableResult, ...]
    peak_mb: float | None

    def frame(self) -> pd.DataFrame:
        """One row a number."""
        return pd.DataFrame(
            {
                "table": result.table.name,
                "source": result.table.source,
                "number": number.published.name,
                "unit": number.published.unit,
                "published": number.published.value,
                "published_low": number.published.low,
                "published_high": number.published.high,
                **(number.ours or Estimate(float("nan"))).columns("ours"),
                "verdict": str(number.verdict),
                "why": number.why or result.problem,
                "where": number.published.where,
                "file": result.file,
                "seconds": result.seconds,
                "peak_mb": result.peak_mb,
            }
            for result in self.tables
            for number in result.numbers
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        frame = self.frame().astype(object)
        kept = frame.where(frame.notna(), None)
        return {"peak_mb": self.peak_mb, "numbers": kept.to_dict("records")}

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """Titled tables of texts, one of each table that was fitted."""
        return [
            (
                f"{result.table.title} ({result.table.source}; {result.cost})",
                pd.DataFrame(number.texts() for number in result.numbers),
            )
            for result in self.tables
            if result.compared
        ]


def reproduce(folder: Path | None = None, tables: Sequence[PublishedTable] = TABLES) -> Reproduction:
    """Fit what a folder holds, and what comes with the project; without a folder that alone.

    UserError for what is no folder. A table that is missing, or cannot be read, is said to be so, and the others go on.
    """
    files = {} if folder is None else columns_of(folder)
    results = tuple(_result(table, files) for table in tables)
    return Reproduction(results, _peak())


def _result(table: PublishedTable, files: Mapping[Path, frozenset[str]]) -> TableResult:
    def nothing(verdict: Verdict, problem: str, file: str = "") -> TableResult:
        numbers = tuple(Compared(published, None, verdict) for published in table.values)
        return TableResult(table, numbers, file, problem=problem)

    start = time.perf_counter()
    try:
        path = file_of(table, files)
    except UserError as error:
        return nothing(Verdict.NOT_READ, f"Not read: {error}.")
    if path is None and table.columns:
        return nothing(
            Verdict.NO_TABLE,
            f"No file with the columns {', '.join(table.columns)}; get {table.fetch}, and name its folder by "
            f"{worded('--tables', '`folder`')}.",
        )
    file = "" if path is None else path.name
    try:
        ours: Ours = table.fit(path)
    except UserError as error:
        return nothing(Verdict.NOT_READ, f"Not read: {error}", file)
    numbers = tuple(Compared(p, ours.get(p.name), p.judge(ours.get(p.name))) for p in table.values)
    return TableResult(table, numbers, file, time.perf_counter() - start, _peak())


def _peak() -> float | None:
    """The largest memory of this process so far, in megabytes."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)

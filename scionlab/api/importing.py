"""Tables of runs that were trained elsewhere, as people have them → runs in the columns that all fits read."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables.foreign.frame import table_of
from analysis.tables.foreign.guess import suggestion
from analysis.tables.foreign.problems import Problems
from analysis.tables.foreign.runs import read_runs
from analysis.tables.foreign.sources import quoted
from analysis.tables.foreign.table import Table, read_table
from analysis.tables.foreign.targets import TARGETS
from analysis.tables.foreign.where import Condition, choose, reasons
from analysis.tables.varied import Choice, grouped, study_of
from scionlab.errors import UserError, option, unknown
from scionlab.homes import expanded
from scionlab.runs.store import imported, logged
from scionlab.runs.where import ResultsPlace

LONGEST_NAME = 100  # it becomes the name of files
NAME = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{LONGEST_NAME - 1}}}")
MARKS = (".", ",")
UNNAMED = "table"  # what a DataFrame is called unless it is given a name

Source = str | os.PathLike[str] | pd.DataFrame
Call = Callable[[Mapping[str, str], Mapping[str, str]], str]


@dataclass(frozen=True)
class ImportedTable:
    """Runs of a table, and what was made of it.

    `name`       of the import
    `runs`       one row a run, in the columns of the store's table `imports` (docs/data-dictionary.md)
    `study`      what the runs are for by what varies in them: its name, settings, and words on what it is about
    `taken`      what each column of `runs` came from: a column of the source, arithmetic, or a constant
    `unused`     columns of the source that were not used
    `written`    how the numbers of columns are written, where not every program reads them so
    `n_rows`     of the source that were read
    `left_out`   numbers of the rows that `where` left out; `reasons` the same by the source's column `reason`
    `curves`     of which rows of logged steps the last ones were taken, "" where a row is a run
    `logged`     the rows of all logged steps, in the columns of the store's table `curves`; none where a row is a run
    `repeated`   runs that were given seeds, as they repeat others
    `warnings`   what may be meant otherwise, a sentence each
    `replaced`   runs of an earlier import of that name in the results, which these are in place of
    """

    name: str
    runs: pd.DataFrame = field(repr=False)
    study: Choice
    taken: Mapping[str, str]
    unused: tuple[str, ...] = ()
    written: Mapping[str, str] = field(default_factory=dict)
    n_rows: int = 0
    left_out: tuple[int, ...] = ()
    reasons: Mapping[str, Sequence[int]] = field(default_factory=dict)
    curves: str = ""
    logged: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    repeated: int = 0
    warnings: tuple[str, ...] = ()
    replaced: int = 0

    @property
    def n_diverged(self) -> int:
        """Runs without a loss."""
        return int((self.runs["status"] == "diverged").sum())

    def values(self, column: str) -> list[Any]:
        """The different values of a column of `runs`, ascending, without those that are missing."""
        return sorted(self.runs[column].dropna().unique().tolist())


def import_table(
    source: Source,
    *,
    map: Mapping[str, str] | None = None,
    set: Mapping[str, str | float] | None = None,
    where: str | Sequence[str] = (),
    decimal: str | None = None,
    number_repeats: bool = False,
    name: str | None = None,
    results: str | os.PathLike[str] | None = None,
) -> ImportedTable:
    """Read runs that were trained elsewhere; what is missing, impossible or there twice is named, nothing is dropped.

    `source`          a .csv, .tsv, .jsonl or .parquet file, also as .csv.gz and the like; or a DataFrame, whose rows
                      count from 1 and whose missing values are empty cells. A row is a run, or a logged step of one
    `map`             target: a column's name, or arithmetic of columns: {"tokens": "D", "lr": "2**log2_lr"}. By default
                      columns that have a target's name are taken, and no others
    `set`             target: a value that all runs have: {"seq_len": 1024}
    `where`           conditions on columns of the source, all of which hold: "outlier=False", ["loss<4", "lr!=0"]
    `decimal`         "." or ",", where numbers do not say it themselves; by default each column is to say it
    `number_repeats`  whether runs that differ in nothing but their losses are seeds 0, 1, …; they are refused if not
    `name`            of the import: lower-case letters, digits, - and _; by default the file's, or "table"
    `results`         a folder or s3://bucket/prefix to store the runs in as `scionlab import` does, in place of an
                      earlier import of that name; by default nothing is written

    Targets with their units are those of docs/importing.md: needed are `tokens` (T, of the whole run) and `val_loss`
    (nats per token), and either `batch_size` (sequences), `seq_len` (tokens) and `lr` (peak), or `n_params`. UserError
    with all that is wrong with the source, by row and column, and for arguments that are not allowed.

        table = import_table("points.csv", map={"n_params": "Model Size", "val_loss": "loss"}, where="outlier=False")
        table.runs[["n_params", "tokens", "val_loss"]]
    """
    at = source if isinstance(source, pd.DataFrame) else Path(expanded(os.fspath(source), "source"))
    conditions = [where] if isinstance(where, str) else list(where)
    given = {"where": conditions, "decimal": decimal, "number_repeats": number_repeats, "name": name}

    def call(maps: Mapping[str, str], sets: Mapping[str, str]) -> str:
        words = {"map": dict(maps), "set": dict(sets), **given, "results": results and str(results)}
        texts = [f"{word}={value!r}" for word, value in words.items() if value]
        return f"import_table({', '.join([repr(str(at)) if isinstance(at, Path) else 'frame', *texts])})"

    return take(
        at,
        map or {},
        {target: value if isinstance(value, str) else repr(value) for target, value in (set or {}).items()},
        conditions,
        decimal,
        number_repeats,
        name,
        None if results is None else ResultsPlace.of(results),
        call,
    )


def take(
    source: Path | pd.DataFrame,
    mapping: Mapping[str, str],
    constants: Mapping[str, str],
    where: Sequence[str],
    decimal: str | None,
    repeats: bool,
    name: str | None,
    results: ResultsPlace | None,
    call: Call,
) -> ImportedTable:
    """`import_table` of arguments that are texts; `call` writes it with another mapping and constants, for advice."""
    chosen = _name(name, source)
    for field_, names in (("map", mapping), ("set", constants)):
        for target in names:
            if target not in TARGETS:
                raise unknown(field_, target, TARGETS)
    if decimal is not None and decimal not in MARKS:
        raise UserError(f"decimal: {decimal!r} is not allowed; it must be . or ,")
    conditions = [Condition.parse(text) for text in where]
    problems = Problems(source.name if isinstance(source, Path) else "DataFrame")
    whole = read_table(source, problems, decimal) if isinstance(source, Path) else table_of(source, decimal)
    table = choose(whole, conditions)
    maps = _columns(mapping, table)
    problems.advice = suggestion(table, maps, constants, call, repeats)
    found = read_runs(table, chosen, maps, constants, problems, repeats)
    replaced = 0
    if results is not None:
        store = results.store()
        store.check_writable()
        replaced = len(store.imports(chosen))
        store.write_import(chosen, found.rows, found.logged)
    runs = imported(chosen, found.rows)
    return ImportedTable(
        name=chosen,
        runs=runs,
        study=study_of(grouped(runs)),
        taken=found.sources,
        unused=found.unused,
        written=found.written,
        n_rows=len(table.rows),
        left_out=tuple(sorted(table.left_out)),
        reasons=reasons(table),
        curves=found.curves,
        logged=logged(found.logged),
        repeated=found.repeated,
        warnings=found.questions,
        replaced=replaced,
    )


def _columns(mapping: Mapping[str, str], table: Table) -> dict[str, str]:
    """The mapping with plain names of columns as expressions write them."""
    return {target: quoted(text) if text in table.columns else text for target, text in mapping.items()}


def _name(given: str | None, source: Path | pd.DataFrame) -> str:
    if given is None:
        if not isinstance(source, Path):
            return UNNAMED
        stem = Path(source.stem).stem if source.suffix.lower() == ".gz" else source.stem
        given = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:LONGEST_NAME]
        if not given:
            raise UserError(f"name: {source.name!r} does not make one; give {option('name')}")
    if not NAME.fullmatch(given):
        raise UserError(
            f"name: {given!r} is not allowed; it must be lower-case letters, digits, - and _, {LONGEST_NAME} at most"
        )
    return given

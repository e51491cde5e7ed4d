"""What a caller has of runs → the tables that studies read."""

import os

import pandas as pd

from analysis.tables.sweep import SweepTables, import_tables, load_sweep, run_tables
from scionlab.api.importing import ImportedTable, import_table
from scionlab.errors import UserError
from scionlab.runs.schema import IMPORTS, RUNS
from scionlab.runs.where import ResultsPlace

Runs = ImportedTable | pd.DataFrame | str | os.PathLike[str]


def tables_of(runs: Runs) -> SweepTables:
    """Tables of runs: imported ones, rows of the store's tables `runs` or `imports`, or what `import_table` takes.

    UserError for what it refuses, and for a frame of the store without rows.
    """
    if isinstance(runs, ImportedTable):
        return import_tables(runs.name, runs.runs, runs.logged)
    if isinstance(runs, pd.DataFrame):
        for table, make in ((RUNS, run_tables), (IMPORTS, import_tables)):
            if {column.name for column in table.columns if not column.null} <= set(runs.columns):
                if runs.empty:
                    raise UserError(f"runs: the rows of the table {table.name!r} are none: there is nothing to fit")
                return make(_name(runs, table.name), runs)
    read = import_table(runs)
    return import_tables(read.name, read.runs, read.logged)


def stored_tables(
    results: str | os.PathLike[str] | None, experiment: str | None = None, preset: str | None = None
) -> SweepTables:
    """Tables of an experiment's newest sweep, or of an import, in a results folder or below s3://bucket/prefix.

    UserError without results, and where they have no such runs.
    """
    if results is None:
        raise UserError("runs: is missing; give runs, or results to take them from")
    return load_sweep(ResultsPlace.of(results), experiment, preset)


def _name(runs: pd.DataFrame, table: str) -> str:
    """That of the import, where all rows are of one."""
    return str(runs["name"].iloc[0]) if "name" in runs and runs["name"].nunique() == 1 else table

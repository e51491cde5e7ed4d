"""Which file of a folder is which table, by the columns it has and not by its name."""

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from analysis.tables.foreign.problems import Problems
from analysis.tables.foreign.table import read_table
from scionlab.errors import UserError
from scionlab.reproduce.declare import PublishedTable

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq", ".gz")


def shipped(table: PublishedTable) -> Path | None:
    """The file of a table that comes with the project, None for others."""
    return Path(str(resources.files("scionlab.reproduce.data") / table.shipped)) if table.shipped else None


def columns_of(folder: Path) -> dict[Path, frozenset[str]]:
    """The columns of every table in a folder, in the order of names; what cannot be read is none.

    UserError for what is no folder.
    """
    if not folder.is_dir():
        raise UserError(f"tables: {str(folder)!r} is not a folder")
    found = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()):
        try:
            found[path] = frozenset(read_table(path, Problems(path.name)).columns)
        except UserError:
            continue
    return found


def file_of(table: PublishedTable, files: Mapping[Path, Iterable[str]]) -> Path | None:
    """The file that has a table's columns, or the one that comes with the project; None without either.

    UserError where several have them.
    """
    fitting = [
        path
        for path, columns in files.items()
        if table.columns and set(table.columns) <= set(columns) and not set(table.without) & set(columns)
    ]
    if len(fitting) > 1:
        raise UserError(f"{', '.join(path.name for path in fitting)} have its columns; keep one of them in the folder")
    return fitting[0] if fitting else shipped(table)

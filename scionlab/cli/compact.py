"""`scionlab compact`: few large files instead of many small ones; and the hint at it."""

from dataclasses import asdict
from pathlib import Path

from scionlab.cli.options import HERE, Json, Runs, app, err, out, print_json
from scionlab.runs.where import ResultsPlace

MANY = 5000  # small files; reading them all takes some seconds


@app.command()
def compact(results: Runs = HERE, as_json: Json = False) -> None:
    """Merge the small files of finished trials into one large file per table, so that reading them is fast.

    Safe at any time: beside a sweep, and if it is killed. Failed trials stay small files until they are tried again.

    Example:

      scionlab compact --results results
    """
    tables = results.store().compact()
    if as_json:
        print_json({"tables": [asdict(table) for table in tables]})
        return
    for table in tables:
        out.print(
            f"{table.table}: {table.merged:,} small files merged, {table.left:,} left; "
            f"{table.rows:,} rows in {table.size / 1e6:,.1f} MB"
        )


def suggest(results: Path | ResultsPlace) -> None:
    """Say on stderr that a store of many small files is worth compacting; one in a bucket cannot be."""
    store = ResultsPlace.of(results).store()
    if store.on_disk and (count := store.small_files()) >= MANY:
        err.print(f"{count:,} small files; `scionlab compact --results {results}` makes reading them fast", style="dim")

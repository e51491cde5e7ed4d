"""`scionlab compact`: few large files instead of many small ones; and the hint at it."""

from pathlib import Path

from scionlab.cli.options import Results, app, err, out

MANY = 5000  # small files; reading them all takes some seconds


@app.command()
def compact(results: Results = Path("results")) -> None:
    """Merge the small files of finished trials into one large file per table, so that reading them is fast.

    Safe at any time: beside a sweep, and if it is killed. Failed trials stay small files until they are tried again.

    Example:

      scionlab compact --results results
    """
    from scionlab.store import RunStore

    for table in RunStore(results / "runs").compact():
        out.print(
            f"{table.table}: {table.merged:,} small files merged, {table.left:,} left; "
            f"{table.rows:,} rows in {table.size / 1e6:,.1f} MB"
        )


def suggest(results: Path) -> None:
    """Say on stderr that a store of many small files is worth compacting."""
    from scionlab.store import RunStore

    count = RunStore(results / "runs").small_files()
    if count >= MANY:
        err.print(f"{count:,} small files; `scionlab compact --results {results}` makes reading them fast", style="dim")

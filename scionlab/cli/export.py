"""`scionlab export`: runs and curves as one tidy table, for other tools."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from scionlab.cli.completion import choices, complete_preset, complete_stored
from scionlab.cli.options import HERE, ByOption, Json, Runs, app, err, one_name, out, print_json
from scionlab.errors import UserError
from scionlab.homes import expanded


@app.command()
def export(
    to: Annotated[str, typer.Option(metavar="FILE", help="a .csv or .parquet file, or - for CSV on stdout")],
    experiment: Annotated[
        str | None, typer.Argument(help="trials of this experiment; default: all", autocompletion=complete_stored)
    ] = None,
    what: Annotated[
        str,
        typer.Option(
            help="runs, curves, layers, scores, sweeps or tunings",
            autocompletion=choices("runs", "curves", "layers", "scores", "sweeps", "tunings"),
        ),
    ] = "runs",
    preset: Annotated[
        str | None, typer.Option(help="trials of this preset; default: all", autocompletion=complete_preset)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a file that exists")] = False,
    results: Runs = HERE,
    as_json: Json = False,
    option: ByOption = None,
) -> None:
    """Write a tidy table: a row per run, or per logged step of each run, with every field of the trial in a column.

    What a method's options are called is in the columns options.NAME. docs/data-dictionary.md explains the others.

    Examples:

      scionlab export --to runs.csv

      scionlab export width --what curves --preset laptop --to curves.parquet

      scionlab export --to - --results /data/results | column -ts,
    """
    from scionlab.runs.export import export as table_of
    from scionlab.runs.export import write_table

    if to == "-" and as_json:
        raise UserError("to: '-' is not allowed with --json: both write to stdout")
    to = expanded(to, "to")
    table = table_of(results.store(), what, one_name(experiment, option), preset)
    if to == "-":
        table.to_csv(sys.stdout, index=False)
        err.print(f"{what}: {len(table):,} rows, {len(table.columns)} columns", soft_wrap=True)
        return
    write_table(table, Path(to), force)
    if as_json:
        print_json({"what": what, "file": to, "rows": len(table), "columns": list(table.columns)})
    else:
        out.print(f"written: {to} ({len(table):,} rows, {len(table.columns)} columns)")

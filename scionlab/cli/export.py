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
    experiment: Annotated[
        str | None, typer.Argument(help="trials of this experiment; default: all", autocompletion=complete_stored)
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="a .csv or .parquet file, or - for CSV on stdout; required")
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
    to: Annotated[str | None, typer.Option(hidden=True)] = None,  # the first name of --output
) -> None:
    """Write a tidy table: a row per run, or per logged step of each run, with every field of the trial in a column.

    What a method's options are called is in the columns options.NAME. docs/data-dictionary.md explains the others.

    Examples:

      scionlab export --output runs.csv

      scionlab export width --what curves --preset laptop --output curves.parquet

      scionlab export --output - --results /data/results | column -ts,
    """
    from scionlab.runs.export import export as table_of
    from scionlab.runs.export import write_table

    file = one_name(output, to, "output", "--to")
    if not file:
        raise UserError("output: is missing; give --output FILE, a .csv or .parquet file, or - for CSV on stdout")
    if file == "-" and as_json:
        raise UserError("output: '-' is not allowed with --json: both write to stdout")
    file = expanded(file, "output")
    table = table_of(results.store(), what, one_name(experiment, option), preset)
    if file == "-":
        table.to_csv(sys.stdout, index=False)
        err.print(f"{what}: {len(table):,} rows, {len(table.columns)} columns", soft_wrap=True)
        return
    write_table(table, Path(file), force)
    if as_json:
        print_json({"what": what, "file": file, "rows": len(table), "columns": list(table.columns)})
    else:
        out.print(f"written: {file} ({len(table):,} rows, {len(table.columns)} columns)")

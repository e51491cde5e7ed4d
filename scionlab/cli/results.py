"""`scionlab fit`, `figures`, `report`: from the runs in the store to numbers, pictures and a page."""

from pathlib import Path
from typing import Annotated

import typer

from scionlab.cli.compact import suggest
from scionlab.cli.options import PresetName, Results, app, out

Which = Annotated[str | None, typer.Option("--experiment", help="name of the experiment; default: the last one run")]


@app.command()
def fit(
    what: Annotated[str | None, typer.Argument(help="which fit: lr-transfer, batch-scaling, …")] = None,
    experiment: Which = None,
    preset: PresetName = "laptop",
    results: Results = Path("results"),
) -> None:
    """Fit the runs in the store; writes results/fits/EXPERIMENT/ and prints the numbers.

    Examples:

      scionlab fit lr-transfer

      scionlab fit batch-scaling --experiment my-import --preset imported
    """
    from analysis.pipeline import fit_results
    from scionlab import terminal

    suggest(results)
    fitted = fit_results(results, experiment, preset, what)
    terminal.print_summaries(fitted.fit, out)
    for path in fitted.files:
        out.print(f"written: {path}")


@app.command()
def figures(
    experiment: Which = None,
    preset: PresetName = "laptop",
    results: Results = Path("results"),
) -> None:
    """Fit and draw; writes results/figures/EXPERIMENT/: SVG, PNG and the CSV behind each."""
    from analysis.pipeline import draw_results

    suggest(results)
    for figure in draw_results(results, experiment, preset).figures:
        out.print(f"written: {figure.path}.svg, .png, .csv")


@app.command()
def report(
    experiment: Which = None,
    preset: PresetName = "laptop",
    results: Results = Path("results"),
) -> None:
    """Fit, draw and write the experiment's page below results/report/: one self-contained file."""
    from analysis.pipeline import report_results
    from scionlab import terminal

    suggest(results)
    fitted, path = report_results(results, experiment, preset)
    terminal.print_summaries(fitted, out)
    out.print(f"report: {path}")

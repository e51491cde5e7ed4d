"""`scionlab fit`, `figures`, `report`: from the runs in the store to numbers, pictures and a page."""

from typing import Annotated

import typer

from scionlab.cli.compact import suggest
from scionlab.cli.completion import complete_study
from scionlab.cli.options import HERE, Json, PresetName, Runs, Stored, To, app, out, print_json

StudyName = Annotated[
    str | None,
    typer.Option(
        "--study",
        metavar="NAME",
        help="which study: lr-transfer, batch-scaling, …; default: the experiment's, of an import what varies in it",
        autocompletion=complete_study,
    ),
]


@app.command()
def fit(
    what: Annotated[
        str | None, typer.Argument(help="which fit: lr-transfer, batch-scaling, …", autocompletion=complete_study)
    ] = None,
    experiment: Stored = None,
    preset: PresetName = "laptop",
    results: Runs = HERE,
    to: To = None,
    as_json: Json = False,
) -> None:
    """Fit the runs in the store; writes results/fits/EXPERIMENT/ and prints the numbers.

    Examples:

      scionlab fit lr-transfer

      scionlab fit batch-scaling --experiment my-import --preset imported

      scionlab fit lr-transfer --json | jq .fit.transfers
    """
    from analysis.pipeline import fit_results
    from scionlab import terminal

    suggest(results)
    fitted = fit_results(results.writing_to(to), experiment, preset, what)
    if as_json:
        about = {"experiment": fitted.tables.experiment, "preset": preset, "study": fitted.study.name}
        print_json({**about, "files": fitted.files, "fit": fitted.document})
        return
    terminal.print_fit(fitted.fit, fitted.advice, out)
    for path in fitted.files:
        out.print(f"written: {path}")


@app.command()
def figures(
    experiment: Stored = None,
    preset: PresetName = "laptop",
    results: Runs = HERE,
    to: To = None,
    study: StudyName = None,
    figure: Annotated[
        str | None, typer.Option(metavar="NAME", help="draw this one alone, such as transfer; default: all")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit and draw; writes results/figures/EXPERIMENT/: SVG, PNG and the CSV behind each.

    Examples:

      scionlab figures

      scionlab figures --experiment width --figure transfer
    """
    from analysis.pipeline import draw_results

    suggest(results)
    drawn = draw_results(results.writing_to(to), experiment, preset, study, figure)
    if as_json:
        written = [
            {"name": saved.name, "title": saved.title, "alt": saved.alt}
            | {suffix: saved.path.with_suffix(f".{suffix}") for suffix in ("svg", "png", "csv")}
            for saved in drawn.figures
        ]
        print_json({"experiment": drawn.fitted.tables.experiment, "preset": preset, "figures": written})
        return
    for saved in drawn.figures:
        out.print(f"written: {saved.path}.svg, .png, .csv")


@app.command()
def report(
    experiment: Stored = None,
    preset: PresetName = "laptop",
    results: Runs = HERE,
    to: To = None,
    study: StudyName = None,
    as_json: Json = False,
) -> None:
    """Fit, draw and write the experiment's page below results/report/: one self-contained file.

    Beside it lies index.html, which lists the pages of all experiments with their findings.

    Examples:

      scionlab report

      scionlab report --experiment width --preset full --results /data/results

      scionlab report --experiment my-import --preset imported --study lr-transfer
    """
    from analysis.pipeline import report_results
    from scionlab import terminal

    suggest(results)
    fitted, path = report_results(results.writing_to(to), experiment, preset, study)
    if as_json:
        print_json({"experiment": path.stem, "preset": preset, "report": path, "index": path.with_name("index.html")})
        return
    terminal.print_fit(fitted.fit, fitted.advice, out)
    out.print(f"report: {path}")

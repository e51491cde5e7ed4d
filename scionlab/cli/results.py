"""`scionlab fit`, `figures`, `report`: from the runs in the store to numbers, pictures and a page."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from scionlab.cli.compact import suggest
from scionlab.cli.completion import complete_fitted, complete_study
from scionlab.cli.options import HERE, ByOption, Json, LastPreset, Runs, Stored, To, app, one_name, out, print_json
from scionlab.errors import UserError, unknown
from scionlab.runs.where import ResultsPlace

StudyName = Annotated[
    str | None,
    typer.Option(
        "--study",
        metavar="NAME",
        help="which study: lr-transfer, batch-scaling, …; default: the experiment's, of an import what varies in it",
        autocompletion=complete_study,
    ),
]

Told = Annotated[
    list[str] | None,
    typer.Option(
        "--tell",
        metavar="SETTING=VALUE",
        help="a setting of the study in place of the experiment's, such as floor=1.69 or axis=depth; repeatable",
    ),
]


@app.command()
def fit(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="name of an experiment or import; default: the last one run. Or the name of a study, for the "
            "experiment that it is meant for",
            autocompletion=complete_fitted,
        ),
    ] = None,
    preset: LastPreset = None,
    results: Runs = HERE,
    to: To = None,
    study: StudyName = None,
    tell: Told = None,
    as_json: Json = False,
    option: ByOption = None,
) -> None:
    """Fit the runs in the store; writes results/fits/EXPERIMENT/ and prints the numbers.

    Examples:

      scionlab fit

      scionlab fit width --json | jq .fit.transfers

      scionlab fit my-import --study batch-scaling

      scionlab fit my-import --study scaling-law --tell floor=1.69
    """
    from analysis.pipeline import fit_results
    from scionlab.cli import terminal

    suggest(results)
    asked = asked_of_fit(results, experiment, option, study)
    fitted = fit_results(results.writing_to(to), asked.experiment, preset, asked.study, settings(tell))
    if as_json:
        about = {**fitted.about, "study": fitted.study.name}
        print_json({**about, "files": fitted.files, "fit": fitted.document})
        return
    terminal.print_fit(fitted.fit, fitted.advice, out)
    for path in fitted.files:
        out.print(f"written: {path}")


def settings(told: list[str] | None) -> dict[str, Any]:
    """`SETTING=VALUE` pairs with values as JSON, or as texts where they are none; UserError for anything else."""
    found: dict[str, Any] = {}
    for text in told or []:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and name):
            raise UserError(f"tell: {text!r} is not of the form SETTING=VALUE")
        if name in found:
            raise UserError(f"tell: {name!r} is given twice")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


@dataclass(frozen=True)
class Asked:
    """An experiment, None for the last one run or the one the study is meant for; and a study, None for its own."""

    experiment: str | None
    study: str | None


def asked_of_fit(results: ResultsPlace, name: str | None, option: str | None, study: str | None) -> Asked:
    """What `scionlab fit NAME` is about: an experiment or import of the store, else a study; UserError for neither.

    Beside --experiment, the older way, the name is a study. An experiment that comes with the project and was not run
    is one, too: the sentence on its missing sweep says what to do.
    """
    from analysis.studies.table import STUDIES
    from scionlab.spec.loading import experiment_names

    if name and option and (name != option or name in STUDIES):
        if study not in (None, name):
            raise UserError(f"study: {name!r} and --study {study!r} are two; name one")
        return Asked(option, name)
    if not name or option or study:
        return Asked(name or option, study)
    stored = results.store().experiments()
    if name in stored:
        return Asked(name, None)
    if name in STUDIES:
        return Asked(None, name)
    if name in experiment_names():
        return Asked(name, None)
    raise unknown("experiment", name, {*stored, *STUDIES})


@app.command()
def figures(
    experiment: Stored = None,
    preset: LastPreset = None,
    results: Runs = HERE,
    to: To = None,
    study: StudyName = None,
    figure: Annotated[
        str | None, typer.Option(metavar="NAME", help="draw this one alone, such as transfer; default: all")
    ] = None,
    tell: Told = None,
    as_json: Json = False,
    option: ByOption = None,
) -> None:
    """Fit and draw; writes results/figures/EXPERIMENT/: SVG, PNG and the CSV behind each.

    Examples:

      scionlab figures

      scionlab figures width --figure transfer
    """
    from analysis.pipeline import draw_results

    suggest(results)
    name, told = one_name(experiment, option), settings(tell)
    drawn = draw_results(results.writing_to(to), name, preset, study, figure, told)
    if as_json:
        written = [
            {"name": saved.name, "title": saved.title, "alt": saved.alt}
            | {suffix: saved.path.with_suffix(f".{suffix}") for suffix in ("svg", "png", "csv")}
            for saved in drawn.figures
        ]
        print_json({**drawn.fitted.about, "figures": written})
        return
    for saved in drawn.figures:
        out.print(f"written: {saved.path}.svg, .png, .csv")


@app.command()
def report(
    experiment: Stored = None,
    preset: LastPreset = None,
    results: Runs = HERE,
    to: To = None,
    study: StudyName = None,
    tell: Told = None,
    as_json: Json = False,
    option: ByOption = None,
) -> None:
    """Fit, draw and write the experiment's page below results/report/: one self-contained file.

    Beside it lies index.html, which lists the pages of all experiments with their findings.

    Examples:

      scionlab report

      scionlab report width --preset full --results /data/results

      scionlab report my-import --study lr-transfer
    """
    from analysis.pipeline import report_results
    from scionlab.cli import terminal

    suggest(results)
    name, told = one_name(experiment, option), settings(tell)
    fitted, path = report_results(results.writing_to(to), name, preset, study, told)
    if as_json:
        print_json({**fitted.about, "report": path, "index": path.with_name("index.html")})
        return
    terminal.print_fit(fitted.fit, fitted.advice, out)
    out.print(f"report: {path}")

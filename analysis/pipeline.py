"""The chain tables → fits → figures → report, cut at any link; each function runs what comes before it, too.

results/fits/<experiment>/<fit>.json, *.csv
results/figures/<experiment>/<figure>.svg, .png, .csv
results/report/<experiment>.html, index.html
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.fits.advice import Advice, advise
from analysis.origin import origin
from analysis.studies.table import Fit, Study, study
from analysis.tables.sweep import SweepTables, load_sweep
from scionlab.errors import UserError, unknown
from scionlab.runs.where import ResultsPlace

if TYPE_CHECKING:
    from analysis.drawing.saving import SavedFigure

DEFAULT = "lr-transfer"


@dataclass(frozen=True)
class Fitted:
    """A study's fit of a sweep's tables, the files it was written to, and what would settle its open outcomes."""

    study: Study
    tables: SweepTables
    fit: Fit
    files: list[Path]
    advice: Advice

    @property
    def document(self) -> dict[str, Any]:
        """The fit for JSON, with its outcomes."""
        return _document(self.fit, self.advice)

    @property
    def about(self) -> dict[str, str]:
        """Which experiment it is of, and which preset, for JSON."""
        return {"experiment": self.tables.experiment, "preset": str(self.tables.sweep["preset"])}


@dataclass(frozen=True)
class Drawn:
    """A fit with its figures."""

    fitted: Fitted
    figures: "list[SavedFigure]"


def fit_results(
    results: Path | ResultsPlace,
    experiment: str | None,
    preset: str | None = None,
    what: str | None = None,
    told: Mapping[str, Any] | None = None,
) -> Fitted:
    """Fit the newest sweep of an experiment; writes fits/<experiment>/<stem>.json and the CSVs beside it.

    `what` is a study; by default the experiment's own, whose settings only that one is told. `told` are settings in
    their place, by name; by default there are none. Without an experiment it is the study's own, if it is meant for
    one, or else the one that was called last; without a preset, the one of it that was called last.
    """
    tables = load_sweep(results, experiment or (study(what).experiment if what else None) or None, preset)
    chosen, tables = choose_study(tables, what, told or {})
    fit, place = chosen.fit(tables), ResultsPlace.of(results)
    advice = advise(fit.judgements(), origin(tables, place))
    return Fitted(chosen, tables, fit, _write_fit(place.folder, chosen, tables, fit, advice), advice)


def choose_study(tables: SweepTables, what: str | None, told: Mapping[str, Any]) -> tuple[Study, SweepTables]:
    """The study called `what`, by default the tables' own, and the tables with what it is told.

    Their `options` are those of a command that asks for the same. UserError for settings that the study refuses.
    """
    chosen = study(what or tables.study or DEFAULT)
    own = chosen.name == (tables.study or DEFAULT)
    settings = {**(tables.settings if own else {}), **told}
    if told:
        chosen.check(settings)
    options = [] if own else ["--study", chosen.name]
    options += [f"--tell={name}={json.dumps(value)}" for name, value in told.items()]
    return chosen, replace(tables, sweep=tables.sweep | {"settings": json.dumps(settings), "options": options})


def draw_results(
    results: Path | ResultsPlace,
    experiment: str | None,
    preset: str | None = None,
    what: str | None = None,
    figure: str | None = None,
    told: Mapping[str, Any] | None = None,
) -> Drawn:
    """Fit and draw; writes figures/<experiment>/*.svg, .png and .csv, too. With `figure`, that one alone."""
    fitted = fit_results(results, experiment, preset, what, told)
    from analysis.drawing.saving import save_all  # matplotlib takes a second to import

    figures = fitted.study.figures()
    if figure is not None:
        if figure not in figures:
            raise unknown("figure", figure, figures)
        figures = {figure: figures[figure]}
    with writing(ResultsPlace.of(results).folder / "figures" / fitted.tables.experiment) as folder:
        saved = save_all(figures, fitted.tables, fitted.fit, folder)
    if figure is not None and not saved:
        raise UserError(f"figure: {figure!r} has nothing to show in the runs of {fitted.tables.experiment!r}")
    return Drawn(fitted, saved)


def report_results(
    results: Path | ResultsPlace,
    experiment: str | None,
    preset: str | None = None,
    what: str | None = None,
    told: Mapping[str, Any] | None = None,
) -> tuple[Fitted, Path]:
    """Fit, draw and report; writes report/<experiment>.html and the index, too, and returns the page's path."""
    if sys.flags.optimize > 1:
        raise UserError(
            f"PYTHONOPTIMIZE: {sys.flags.optimize} is not allowed: Python then drops docstrings, without which Altair "
            "cannot make a page's charts; 1 (python -O) is fine, and fit and figures work with 2"
        )
    from analysis.report.build import render
    from analysis.report.index import index

    place = ResultsPlace.of(results)
    drawn = draw_results(place, experiment, preset, what, told=told)
    fitted = drawn.fitted
    page = render(fitted.study.page(), fitted.tables, fitted.fit, drawn.figures, place, fitted.advice)
    with writing(place.folder / "report") as folder:
        path = folder / f"{fitted.tables.experiment}.html"
        path.write_text(page, encoding="utf-8")
        (folder / "index.html").write_text(index(folder), encoding="utf-8")
    return fitted, path


def _document(fit: Fit, advice: Advice) -> dict[str, Any]:
    return {**fit.as_dict(), "outcomes": list(advice.outcomes)}


def _write_fit(results: Path, chosen: Study, tables: SweepTables, fit: Fit, advice: Advice) -> list[Path]:
    about = {key: tables.sweep[key] for key in ("experiment", "preset", "sweep_id")}
    text = json.dumps(_finite({**about, **_document(fit, advice)}), indent=2, allow_nan=False)
    with writing(results / "fits" / tables.experiment) as folder:
        written = [folder / f"{chosen.stem}.json"]
        written[0].write_text(text + "\n", encoding="utf-8")
        for name, frame in fit.frames().items():
            path = folder / f"{name}.csv"
            path.unlink(missing_ok=True)  # an empty table leaves none of an earlier fit
            if not frame.empty:
                frame.to_csv(path, index=False)
                written.append(path)
    return written


def _finite(value: Any) -> Any:
    """JSON has no infinity: a regret of a rate that diverges becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """The folder, made if need be; what the file system refuses inside the block is the user's to mend."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        where = error.filename or folder
        raise UserError(f"results: cannot write to {str(where)!r}: {error.strerror or error}") from None

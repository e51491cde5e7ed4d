"""The chain tables → fits → figures → report, cut at any link; each function runs what comes before it, too."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.lr_transfer import LrTransfer, fit_lr_transfer
from analysis.tables import SweepTables, load_sweep
from scionlab.errors import UserError

if TYPE_CHECKING:
    from analysis.figures import SavedFigure

FITS = ("lr-transfer",)


@dataclass(frozen=True)
class Drawn:
    """A fit with its figures."""

    tables: SweepTables
    fit: LrTransfer
    figures: "list[SavedFigure]"


def fit_results(results: Path, experiment: str, preset: str) -> LrTransfer:
    """Fit the newest sweep; writes fits/lr_transfer.json and .csv."""
    return _fit(results, load_sweep(results, experiment, preset))


def draw_results(results: Path, experiment: str, preset: str) -> Drawn:
    """Fit and draw; writes figures/*.svg, .png and .csv, too."""
    from analysis.figures import save_all  # matplotlib takes a second to import

    tables = load_sweep(results, experiment, preset)
    fit = _fit(results, tables)
    with _writing(results / "figures") as folder:
        return Drawn(tables, fit, save_all(tables, fit, folder))


def report_results(results: Path, experiment: str, preset: str) -> tuple[LrTransfer, Path]:
    """Fit, draw and report; writes report/index.html, too, and returns its path."""
    from analysis.report.build import render

    drawn = draw_results(results, experiment, preset)
    page = render(drawn.tables, drawn.fit, drawn.figures)
    with _writing(results / "report") as folder:
        (folder / "index.html").write_text(page, encoding="utf-8")
    return drawn.fit, results / "report" / "index.html"


def _fit(results: Path, tables: SweepTables) -> LrTransfer:
    fit = fit_lr_transfer(tables.runs)
    about = {key: tables.sweep[key] for key in ("experiment", "preset", "sweep_id")}
    text = json.dumps(_finite({**about, **fit.as_dict()}), indent=2, allow_nan=False)
    with _writing(results / "fits") as folder:
        (folder / "lr_transfer.json").write_text(text + "\n", encoding="utf-8")
        fit.frame().to_csv(folder / "lr_transfer.csv", index=False)
    return fit


def _finite(value: Any) -> Any:
    """JSON has no infinity: a regret of a rate that diverges becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """The folder, made if need be; what the file system refuses inside the block is the user's to mend."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        where = error.filename or folder
        raise UserError(f"results: cannot write to {str(where)!r}: {error.strerror or error}") from None

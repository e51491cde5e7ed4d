"""Figures: a module each, with TITLE, CAPTION, `table(tables, fit)`, then `draw(table)` and `alt(table)`.

To add one, write such a module and add its line to `FIGURES`.
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd

from analysis.figures import loss_curves, lr_optimum, style, transfer
from analysis.lr_transfer import LrTransfer
from analysis.tables import SweepTables

FIGURES: dict[str, ModuleType] = {
    "transfer": transfer,
    "lr_optimum": lr_optimum,
    "loss_curves": loss_curves,
}


@dataclass(frozen=True)
class SavedFigure:
    """A drawn figure; `path` without suffix has .svg, .png and .csv."""

    name: str
    title: str
    caption: str
    alt: str
    path: Path


def save_all(tables: SweepTables, fit: LrTransfer, folder: Path) -> list[SavedFigure]:
    """Draw every figure into `folder`."""
    style.apply()
    data = {name: module.table(tables, fit) for name, module in FIGURES.items()}
    return [_save(name, module, data[name], folder / name) for name, module in FIGURES.items() if not data[name].empty]


def _save(name: str, module: ModuleType, data: pd.DataFrame, path: Path) -> SavedFigure:
    data.to_csv(path.with_suffix(".csv"), index=False)
    figure = module.draw(data)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=160)
    return SavedFigure(name, module.TITLE, module.CAPTION, module.alt(data), path)

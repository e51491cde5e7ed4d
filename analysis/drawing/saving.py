"""Draw a study's figures, and save each as a picture and as the table it is drawn from.

A figure is a module with TITLE, CAPTION, `table(tables, fit)`, then `draw(table)` and `alt(table)`. Where title or
caption depend on what is drawn, they are functions `title(table)` and `caption(table)` instead. A study lists its own
in the `FIGURES` of its folder figures/, by the names of their files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from analysis.drawing import style
from analysis.tables.sweep import SweepTables


@dataclass(frozen=True)
class SavedFigure:
    """A drawn figure; `path` without suffix has .svg, .png and .csv."""

    name: str
    title: str
    caption: str
    alt: str
    path: Path


def save_all(figures: Mapping[str, ModuleType], tables: SweepTables, fit: Any, folder: Path) -> list[SavedFigure]:
    """Draw every figure that has something to show into `folder`; of the others nothing earlier is left there."""
    style.apply()
    saved = []
    for name, module in figures.items():
        data = module.table(tables, fit)
        if data.empty:
            for suffix in (".svg", ".png", ".csv"):
                (folder / name).with_suffix(suffix).unlink(missing_ok=True)
        else:
            saved.append(_save(name, module, data, folder / name))
    return saved


def _save(name: str, module: ModuleType, data: pd.DataFrame, path: Path) -> SavedFigure:
    data.to_csv(path.with_suffix(".csv"), index=False)
    figure = module.draw(data)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=160)
    title = module.title(data) if hasattr(module, "title") else module.TITLE
    caption = module.caption(data) if hasattr(module, "caption") else module.CAPTION
    return SavedFigure(name, title, caption, module.alt(data), path)

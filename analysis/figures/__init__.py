"""Figures: a module each, with TITLE, CAPTION, `table(tables, fit)`, then `draw(table)` and `alt(table)`.

Where title or caption depend on what is drawn, they are functions `title(table)` and `caption(table)` instead.

To add one, write such a module and add its line to its study's entry of `FIGURES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from analysis.figures import (
    batch_exponents,
    batch_profiles,
    batch_rates,
    batch_rules,
    batch_sensitivity,
    comparison_curves,
    comparison_rates,
    comparison_tuned,
    constants_mu,
    constants_prediction,
    constants_variance,
    convergence,
    convergence_descent,
    coordinate,
    coordinate_steps,
    critical_batch,
    loss_curves,
    lr_optimum,
    momentum,
    norm_control,
    norm_transfer,
    norm_transfer_scale,
    proxy,
    restarts,
    scaling_law,
    style,
    transfer,
)
from analysis.tables import SweepTables

FIGURES: dict[str, dict[str, ModuleType]] = {
    "lr-transfer": {
        "transfer": transfer,
        "lr_optimum": lr_optimum,
        "loss_curves": loss_curves,
    },
    "batch-scaling": {
        "batch_profiles": batch_profiles,
        "batch_exponents": batch_exponents,
        "batch_rates": batch_rates,
        "batch_rules": batch_rules,
        "batch_sensitivity": batch_sensitivity,
        "momentum": momentum,
        "constants_mu": constants_mu,
        "constants_variance": constants_variance,
        "constants_prediction": constants_prediction,
        "critical_batch": critical_batch,
        "scaling_law": scaling_law,
    },
    "restarts": {
        "restarts": restarts,
    },
    "comparison": {
        "comparison_tuned": comparison_tuned,
        "comparison_rates": comparison_rates,
        "comparison_curves": comparison_curves,
    },
    "coordinate-check": {
        "coordinate": coordinate,
        "coordinate_steps": coordinate_steps,
    },
    "norm-control": {
        "norm_control": norm_control,
    },
    "norm-transfer": {
        "norm_transfer": norm_transfer,
        "norm_transfer_scale": norm_transfer_scale,
    },
    "convergence": {
        "convergence": convergence,
        "descent": convergence_descent,
    },
    "transfer": {
        "proxy": proxy,
    },
}


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

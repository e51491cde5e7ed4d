"""Losses against network size, a curve for every budget of operations, and its lowest point."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from analysis.drawing import sources, style
from analysis.studies.isoflop.result import Isoflop, SourceValleys
from analysis.studies.isoflop.valleys import FEWEST, curve_of
from analysis.tables.sweep import SweepTables

TITLE = "Losses of equal operations"
POINT, LINE, LOWEST = "point", "line", "lowest"
STEPS = 61
COLOURS = "viridis_r"
LOOKS: dict[str, dict[str, Any]] = {
    POINT: {"marker": "o", "markersize": 2.5, "linestyle": ""},
    LINE: {"linewidth": 1},
    LOWEST: {"marker": "*", "markersize": 6, "linestyle": "", "color": "black"},
}


def table(tables: SweepTables, fit: Isoflop) -> pd.DataFrame:
    """Per source and budget (`flops`) its points, the curve through them and its lowest point: n_params and loss."""
    found = [_source(each) for each in fit.sources]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _source(each: SourceValleys) -> pd.DataFrame:
    parts = []
    for budget, lowest in zip(each.budgets, each.lowest, strict=True):
        curves = {POINT: (budget.log_n, budget.loss)}
        if len(budget.log_n) >= FEWEST[each.curve]:
            at = np.linspace(budget.log_n[0], budget.log_n[-1], STEPS)
            curves[LINE] = (at, curve_of(budget, each.curve, at))
        if not lowest.why:
            curves[LOWEST] = (np.log([lowest.n_params]), np.array([lowest.loss]))
        for kind, (log_n, loss) in curves.items():
            parts.append(pd.DataFrame({"kind": kind, "n_params": np.exp(log_n), "loss": loss, "flops": budget.flops}))
    return pd.concat(parts, ignore_index=True).assign(source=each.name, curve=each.curve)


def caption(data: pd.DataFrame) -> str:
    """What is drawn, and how much of it is not."""
    curve = data["curve"].iloc[0]
    return f"Points are runs, lines the {curve} of a budget, stars lowest points that count.{sources.beyond(data)}"


def draw(data: pd.DataFrame) -> Figure:
    """A panel per source on shared colours."""
    names = sources.shown(data)
    figure, axes, _ = style.panels(names, legend_share=0.05, share_y=False)  # sources may differ in unit
    shown = data[data["source"].isin(names)]
    colours = ScalarMappable(sources.shades(shown["flops"]), COLOURS)
    for name, axis in axes.items():
        for _, rows in shown[shown["source"] == name].groupby("flops"):
            colour = tuple(colours.to_rgba(rows["flops"].to_numpy(float))[0])
            for kind, look in LOOKS.items():
                mine = rows[rows["kind"] == kind]
                axis.plot(mine["n_params"], mine["loss"], **({"color": colour} | look))
        measured = shown.loc[(shown["kind"] == POINT) & (shown["source"] == name), "loss"]
        low, high = measured.min(), np.quantile(measured, 0.97)  # a few runs far above would leave nothing to see
        axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axis.set_xscale("log")
        axis.set_xlabel("parameters, N")
        axis.set_title(name, fontsize=9)
    style.label_left(figure, axes, "validation loss")
    figure.colorbar(colours, ax=list(axes.values()), label="operations, C")
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = [
        f"{name}: {rows['flops'].nunique()} budgets, {(rows['kind'] == LOWEST).sum()} with a lowest point"
        for name, rows in data.groupby("source", sort=False)
    ]
    return f"Losses against network size at equal operations. {'; '.join(parts)}."

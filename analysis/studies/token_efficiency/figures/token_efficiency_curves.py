"""Losses of every method at its own best settings against tokens, and the losses at which they are compared."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import sources, style
from analysis.studies.token_efficiency.result import TokenEfficiency, points
from analysis.tables.sweep import SweepTables

TITLE = "Losses at each method's own best settings"
POINT, LAW, LEVEL = "point", "law", "level"
STEPS = 33  # points of a line


def table(tables: SweepTables, fit: TokenEfficiency) -> pd.DataFrame:
    """Per size (`source`, in words) its methods' losses over tokens (`kind` point, and whether they are `tuned`), the
    lines of their laws, and the losses compared (level).
    """
    rows: list[dict[str, Any]] = []
    for curve in fit.curves:
        about = {"source": _size(curve.n_params), "method": curve.method}
        rows += [about | row | {"kind": POINT} for row in points(curve)]
        if curve.law is not None:
            at = np.geomspace(curve.curve.tokens[0], curve.curve.tokens[-1], STEPS)
            lines = zip(at.tolist(), curve.law.at(at).tolist(), strict=True)
            rows += [about | {"kind": LAW, "tokens": tokens, "loss": loss} for tokens, loss in lines]
    levels = {(_size(ratio.n_params), ratio.loss) for ratio in fit.ratios if ratio.tokens is not None}
    rows += [{"source": size, "kind": LEVEL, "loss": loss} for size, loss in levels]
    return pd.DataFrame(rows)


def _size(n_params: float | None) -> str:
    return "all runs" if n_params is None else f"N = {n_params:.3g}"


def caption(data: pd.DataFrame) -> str:
    """What is drawn, and how much of it is not."""
    return (
        "Points are the lowest losses of a budget over learning rates and batch sizes; hollow ones are at an end of "
        "what was tried. Lines are E + A T^-b, where there are budgets enough. Dotted lines are the losses at which "
        f"tokens are compared.{sources.beyond(data)}"
    )


def draw(data: pd.DataFrame) -> Figure:
    """A panel per size."""
    names = sources.shown(data)
    figure, axes, spare = style.panels(names, legend_share=0.6, share_y=False)
    methods = list(dict.fromkeys(data["method"].dropna()))
    colours = style.colours(methods, methods)
    for name, axis in axes.items():
        mine = data[data["source"] == name]
        for loss in mine.loc[mine["kind"] == LEVEL, "loss"]:
            axis.axhline(loss, color=style.GREY, linewidth=0.8, linestyle=":")
        for method, rows in mine[mine["kind"] != LEVEL].groupby("method", sort=False):
            color, line = colours[str(method)], rows[rows["kind"] == LAW]
            dots = rows[rows["kind"] == POINT]
            axis.plot(line["tokens"], line["loss"], color=color, linewidth=1.2)
            for face, part in ((color, dots[dots["tuned"].eq(True)]), ("white", dots[dots["tuned"].eq(False)])):
                axis.plot(part["tokens"], part["loss"], "o", color=color, markersize=4, markerfacecolor=face)
        axis.set_xscale("log", base=2)
        axis.set_xlabel("tokens, T")
        axis.set_title(name, fontsize=9)
    style.label_left(figure, axes, "validation loss")
    handles = [Line2D([], [], color=colours[method], marker="o", markersize=4, label=method) for method in methods]
    hollow = Line2D([], [], color=style.GREY, marker="o", linestyle="", markerfacecolor="white", label="not tuned")
    style.legend(figure, spare, [*handles, hollow])
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    dots = data[data["kind"] == POINT]
    parts = [
        f"{rows['method'].iloc[0]} at {rows['source'].iloc[0]} from {rows['loss'].iloc[0]:.3g} to "
        f"{rows['loss'].iloc[-1]:.3g}"
        for _, rows in dots.groupby(["source", "method"], sort=False)
    ]
    return f"Losses against tokens at each method's own best settings. {'; '.join(parts)}."

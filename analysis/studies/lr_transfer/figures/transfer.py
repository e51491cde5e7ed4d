"""Transfer curves: validation loss against learning rate, a line per width (or place on another axis), a panel per
optimizer (or series) on one scale.
"""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style, units
from analysis.studies.lr_transfer.figures.lr_series import Layout
from analysis.studies.lr_transfer.result import LrTransfer
from analysis.tables.sweep import SweepTables
from scionlab.runs.store import FINISHED

TITLE = "Validation loss against learning rate"
CAPTION = (
    "Mean over seeds at each learning rate; bars span the seeds, stars mark the optimum with its interval. What lies "
    "more than one nat above the best is drawn at the top edge, and crosses there are learning rates at which a seed "
    "diverged."
)
HEADROOM = 1.0  # nats above the best loss that the scale shows; what lies higher is drawn at the top edge


def table(tables: SweepTables, fit: LrTransfer) -> pd.DataFrame:
    """One row per series, place and learning rate (`kind` point) and one per optimum (`kind` optimum).

    `val_loss` is the mean over finished seeds; `low` and `high` their range for points, and the learning-rate
    interval for optima.
    """
    finished = fit.cells(tables.runs[tables.runs["status"].isin(FINISHED)])
    keys = ["series", "optimizer", "at", "lr"]
    points = finished.groupby(keys, as_index=False, sort=False).agg(
        val_loss=("val_loss", "mean"),
        low=("val_loss", "min"),
        high=("val_loss", "max"),
        n_seeds=("seed", "nunique"),
        n_diverged=("status", lambda status: int((status == "diverged").sum())),
    )
    optima = pd.DataFrame(
        {
            "series": o.series,
            "optimizer": o.optimizer,
            "at": o.at,
            "lr": o.lr_opt,
            "val_loss": o.val_loss_opt,
            "low": o.lr_opt_low,
            "high": o.lr_opt_high,
            "n_seeds": o.n_seeds,
            "resolved": o.resolved,
        }
        for o in fit.optima
        if o.lr_opt is not None
    )
    both = pd.concat([points.assign(kind="point"), optima.assign(kind="optimum")], ignore_index=True)
    return units.with_unit(fit.named(both), tables.runs)


def draw(data: pd.DataFrame) -> Figure:
    """Lines with markers; a star and a bar at each optimum and its interval; crosses at the top for divergence."""
    points, optima = data[data["kind"] == "point"], data[data["kind"] == "optimum"]
    best = points["val_loss"].min()
    top = best + HEADROOM
    layout = Layout.of(data)
    places = layout.places(points)
    figure, axes, spare = style.panels(list(layout.colours))
    for name, axis in axes.items():
        for i, (place, shade) in enumerate(zip(places, style.shades(layout.colours[name], len(places)), strict=True)):
            mine = (points[layout.series] == name) & (points[layout.column] == place)
            _line(axis, points[mine], top, shade, style.MARKERS[i % len(style.MARKERS)])
            # Places that diverge at the same learning rate are set apart, or they would hide each other.
            _crosses(axis, points[mine & (points["n_diverged"] > 0)], top, shade, 0.2 * (i - (len(places) - 1) / 2))
            mine = (optima[layout.series] == name) & (optima[layout.column] == place)
            _optimum(axis, optima[mine], shade)
        axis.set_title(name, color=layout.colours[name], fontweight="bold")
        style.log2_ticks(axis)
        axis.set_xlabel("learning rate")
        axis.set_ylim(best - 0.08 * HEADROOM, top + 0.04 * HEADROOM)
    style.label_left(figure, axes, f"validation loss{units.nats(data)}")
    style.legend(figure, spare, _handles(layout.axis, places), title="bars: range over seeds")
    return figure


def _line(axis: Axes, rows: pd.DataFrame, top: float, color: style.Colour, marker: str) -> None:
    x = np.log2(rows["lr"])
    axis.plot(x, rows["val_loss"].clip(upper=top), color=color, marker=marker, markersize=4, linewidth=1.3)
    axis.vlines(x, rows["low"].clip(upper=top), rows["high"].clip(upper=top), color=color)


def _crosses(axis: Axes, rows: pd.DataFrame, top: float, color: style.Colour, shift: float) -> None:
    if rows.empty:  # an empty unclipped line has an infinite extent, on which the layout breaks
        return
    x = np.log2(rows["lr"]) + shift
    axis.plot(x, [top] * len(rows), "x", color=color, markersize=7, markeredgewidth=2, clip_on=False)


def _optimum(axis: Axes, rows: pd.DataFrame, color: style.Colour) -> None:
    for row in rows.to_dict("records"):
        face = color if row["resolved"] else "white"
        x, y = np.log2(row["lr"]), row["val_loss"]
        axis.plot(x, y, "*", markersize=11, markerfacecolor=face, markeredgecolor="black", zorder=5)
        if pd.notna(row["low"]):
            axis.hlines(y, np.log2(row["low"]), np.log2(row["high"]), color="black", linewidth=2.2, zorder=4)


def _handles(axis: str, places: list[float]) -> list[Line2D]:
    star = partial(Line2D, [], [], linestyle="", marker="*", markersize=11, markeredgecolor="black")
    return [
        *style.width_handles(places, markers=True, axis=axis),
        star(label="optimum, 95% interval", color=style.GREY),
        star(label="not resolved (edge, divergence)", color="white"),
        Line2D([], [], label="a seed diverged", color=style.GREY, linestyle="", marker="x", markeredgewidth=2),
    ]


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts, layout = [], Layout.of(data)
    for name, rows in data[data["kind"] == "optimum"].groupby(layout.series, sort=False):
        places = ", ".join(f"2^{np.log2(row['lr']):.1f} at {layout.place(row)}" for _, row in rows.iterrows())
        parts.append(f"{name}: lowest at learning rate {places}")
    diverged, per = int(data["n_diverged"].sum()), "series" if layout.series == "series" else "optimizer"
    return f"Validation loss against learning rate, a panel per {per}. {'; '.join(parts)}. {diverged} runs diverged."

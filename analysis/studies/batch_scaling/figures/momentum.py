"""Loss against momentum at the cells that were trained with several momenta."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.studies.batch_scaling.momentum import MomentumOptimum
from analysis.studies.batch_scaling.result import BatchScaling
from analysis.tables.sweep import SweepTables

TITLE = "Loss against momentum"
CAPTION = (
    "Every point is at its own best learning rate. α is the weight of the new gradient: 0.1 is elsewhere called a "
    "momentum of 0.9. Points on a thick pale line cannot be told apart from their cell's best; the stars below the "
    "zero line are the best momenta with their 95% intervals, hollow at the edge of the momenta tried."
)
STRIP = 0.09  # of the losses' range: how far apart the stars lie below zero


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """Per optimizer and cell (`tokens`, `batch_tokens`): a row per momentum (`kind` point), and one of the best.

    `excess` is the loss above the cell's lowest; `low` and `high` are the best momentum's interval.
    """
    rows: list[dict[str, Any]] = []
    for found in fit.optimizers:
        for cell in found.momenta.optima if found.momenta is not None else ():
            place = {"optimizer": found.optimizer, "tokens": cell.tokens, "batch_tokens": cell.batch_tokens}
            rows += [{**place, **row} for row in _cell(cell)]
    return pd.DataFrame(rows)


def _cell(cell: MomentumOptimum) -> list[dict[str, Any]]:
    lowest = min(cell.losses)
    tied = cell.tied or [None] * len(cell.momenta)
    rows: list[dict[str, Any]] = [
        {"kind": "point", "momentum": momentum, "loss": loss, "excess": loss - lowest, "tied": tie}
        for momentum, loss, tie in zip(cell.momenta, cell.losses, tied, strict=True)
    ]
    best = {"momentum": cell.best.value, "low": cell.best.low, "high": cell.best.high, "at_edge": cell.at_edge}
    return [*rows, {"kind": "best", **best}]


def draw(data: pd.DataFrame) -> Figure:
    """A panel per optimizer, a line per cell; cells by budget, then batch, from light to dark."""
    names = list(dict.fromkeys(data["optimizer"]))
    cells = data[["tokens", "batch_tokens"]].drop_duplicates().sort_values(["tokens", "batch_tokens"])
    keys = list(cells.itertuples(index=False, name=None))
    figure, axes, spare = style.panels(names, columns=2, size=(4.0, 3.7), legend_share=0.7, legend_height=0.8)
    step = STRIP * max(data["excess"].max(), 1e-3)
    for name, axis in axes.items():
        axis.axhline(0, color=style.GREY, linewidth=0.8)
        for i, (key, shade) in enumerate(zip(keys, style.shades(style.colour(name), len(keys)), strict=True)):
            mine = (data["optimizer"] == name) & (data["tokens"] == key[0]) & (data["batch_tokens"] == key[1])
            _line(axis, data[mine], shade, style.MARKERS[i % len(style.MARKERS)], -step * (i + 1))
        axis.set_title(name, color=style.colour(name), fontweight="bold")
        tried = sorted(data.loc[(data["optimizer"] == name) & (data["kind"] == "point"), "momentum"].unique())
        axis.set_xticks(list(np.log2(tried)), [f"{momentum:g}" for momentum in tried])
        axis.set_xlabel("momentum α")
    first = next(iter(axes.values()))  # they share the scale, on which the stars lie below zero
    first.set_yticks([tick for tick in first.get_yticks() if 0 <= tick <= first.get_ylim()[1]])
    style.label_left(figure, axes, "loss above the cell's best (nats)")
    style.legend(figure, spare, _handles(keys, bool(data["tied"].eq(True).any())))
    return figure


def _line(axis: Axes, rows: pd.DataFrame, shade: style.Colour, marker: str, below: float) -> None:
    rows = style.log2(rows, "momentum", "low", "high")
    points, best = rows[rows["kind"] == "point"], rows[rows["kind"] == "best"]
    style.ties(axis, points, "momentum", "excess", shade)
    axis.plot(points["momentum"], points["excess"], color=shade, marker=marker, markersize=4.5, linewidth=1.4)
    for row in best.to_dict("records"):
        face = "white" if row["at_edge"] else shade
        axis.plot(row["momentum"], below, "*", markersize=11, markerfacecolor=face, markeredgecolor="black", zorder=5)
    at = pd.Series(below, best.index)
    style.intervals(axis, at, best["low"], best["high"], along="x", color=shade, linewidth=2)


def _handles(keys: list[tuple[float, float]], tied: bool) -> list[Line2D]:
    line = partial(Line2D, [], [])
    handles = [
        line(
            color=shade,
            marker=style.MARKERS[i % len(style.MARKERS)],
            markersize=4.5,
            label=f"T = {style.power_of_two(tokens)}, B·S = {style.power_of_two(batch)}",
        )
        for i, ((tokens, batch), shade) in enumerate(zip(keys, style.shades(style.GREY, len(keys)), strict=True))
    ]
    star = line(
        linestyle="", marker="*", markersize=11, markeredgecolor="black", color=style.GREY, label="best momentum"
    )
    return [*handles, star, *([style.tie_handle()] if tied else [])]


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data[data["kind"] == "best"].groupby("optimizer", sort=False):
        places = ", ".join(
            f"{r['momentum']:.2f} at {style.power_of_two(r['tokens'], plain=True)} tokens with "
            f"{style.power_of_two(r['batch_tokens'], plain=True)} a step"
            for r in rows.to_dict("records")
        )
        parts.append(f"{name}: best momentum {places}")
    return f"Loss above each cell's best against momentum. {'; '.join(parts)}."

"""Loss against the output layer's norm: a point per learning rate and batch size, a panel per method and width."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.studies.norm_transfer.fit import NormTransfer
from analysis.tables.sweep import SweepTables

TITLE = "Loss against the output layer's norm"
CAPTION = (
    "Every point is one learning rate and batch size, mean over seeds; thin lines join the rates of a batch size. "
    "Larger token budgets are darker; stars mark the norm at the best rate and batch of each budget with its "
    "interval, hollow where their grid does not resolve them. If the norm is transferred, all stars of a row of "
    "panels stand above one another. Losses farther up leave the frame."
)
HEADROOM = 0.4  # nats above the best loss of the smallest budget that the scale shows


def table(tables: SweepTables, fit: NormTransfer) -> pd.DataFrame:
    """A row per trained setting (`kind` point) and per optimum (`kind` best, with its norm's interval)."""
    best = pd.DataFrame(
        {
            "optimizer": method.optimizer,
            "width": optimum.width,
            "tokens": optimum.tokens,
            "batch_size": optimum.batch_size,
            "lr": optimum.lr,
            "loss": optimum.loss,
            "norm": optimum.norm.value,
            "low": optimum.norm.low,
            "high": optimum.norm.high,
            "resolved": optimum.resolved,
            "n_seeds": optimum.n_seeds,
        }
        for method in fit.methods
        for optimum in method.optima
        if optimum.norm
    )
    points = fit.points[fit.points["norm"] > 0]  # a weight of 0 has no place on a logarithmic axis
    return pd.concat([points.assign(kind="point"), best.assign(kind="best")], ignore_index=True)


def draw(data: pd.DataFrame) -> Figure:
    """A row of panels per method, a column per width, all on one scale."""
    names, widths = list(dict.fromkeys(data["optimizer"])), sorted(data["width"].unique())
    figure = Figure(figsize=(min(8.8, 1.2 + 2.5 * len(widths)), 0.9 + 2.6 * len(names)))
    panels = figure.subplots(len(names), len(widths), squeeze=False, sharex="row", sharey=True)
    lowest = data[data["kind"] == "point"].groupby(["optimizer", "tokens"])["loss"].min()
    span = lowest.max() + HEADROOM - lowest.min()
    for row, name in zip(panels, names, strict=True):
        mine = data[data["optimizer"] == name]
        shades = style.budget_shades(name, mine["tokens"].unique())
        for axis, width in zip(row, widths, strict=True):
            for tokens, shade in shades.items():
                _budget(axis, mine[(mine["width"] == width) & (mine["tokens"] == tokens)], shade)
            axis.set_title(f"{name}, width {width}", color=style.colour(name), fontweight="bold", fontsize=9)
            style.log2_ticks(axis)
        row[0].set_ylabel("validation loss (nats)")
    panels[0, 0].set_ylim(lowest.min() - 0.06 * span, lowest.max() + HEADROOM)
    for axis in panels[-1]:
        axis.set_xlabel(r"$\|W\|_{\mathrm{RMS}\to\infty}$")
    figure.legend(handles=_handles(data), loc="outside lower center", ncols=4)
    return figure


def _budget(axis: Axes, rows: pd.DataFrame, shade: style.Colour) -> None:
    rows = style.log2(rows, "norm", "low", "high")
    points, best = rows[rows["kind"] == "point"], rows[rows["kind"] == "best"]
    for _, batch in points.groupby("batch_size"):
        axis.plot(batch["norm"], batch["loss"], color=style.pale(shade, 0.5), linewidth=0.6, zorder=1)
    axis.plot(points["norm"], points["loss"], "o", color=shade, markersize=3, markeredgewidth=0)
    for row in best.to_dict("records"):
        face = shade if row["resolved"] else "white"
        axis.plot(row["norm"], row["loss"], "*", markersize=11, markerfacecolor=face, markeredgecolor="black", zorder=5)
    style.intervals(axis, best["loss"], best["low"], best["high"], along="x", color="black", linewidth=1.6, zorder=4)


def _handles(data: pd.DataFrame) -> list[Line2D]:
    mark = partial(Line2D, [], [], linestyle="", color=style.GREY)
    best = data[data["kind"] == "best"]
    handles = [*style.budget_handles(data["tokens"].unique()), mark(marker="o", markersize=3, label="lr, batch size")]
    label = "best, 95% interval" if best["low"].notna().any() else "best"
    handles.append(mark(marker="*", markersize=11, markeredgecolor="black", label=label))
    if not best["resolved"].astype(bool).all():
        handles.append(mark(marker="*", markersize=11, markeredgecolor="black", markerfacecolor="white", label="edge"))
    return handles


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for (name, width), rows in data[data["kind"] == "best"].groupby(["optimizer", "width"], sort=False):
        first, last = (rows.sort_values("tokens").iloc[i] for i in (0, -1))
        ends = f"{first['norm']:.3g} at {style.power_of_two(first['tokens'], plain=True)} tokens"
        if len(rows) > 1:
            ends += f" and {last['norm']:.3g} at {style.power_of_two(last['tokens'], plain=True)}"
        parts.append(f"{name} at width {width} {ends}")
    return f"Validation loss against the output layer's norm. The norm at the optimum is, for {'; '.join(parts)}."

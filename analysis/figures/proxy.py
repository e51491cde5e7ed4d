"""Compute spent on tuning against the loss it buys: at the target itself, and on the proxy."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.intervals import Estimate
from analysis.proxy.costs import descent
from analysis.proxy.result import ProxyTransfer, regret_text
from analysis.tables import SweepTables

TITLE = "What tuning costs, and what it buys"
CAPTION = (
    "Lines: lowest validation loss so far of tuning at the target, at the search's own seed. Stars: tuning the proxy, "
    "and one run at the target with the values found there. Circles: the values that direct tuning found. Stars and "
    "circles are means over the same fresh seeds, so they, not the lines, are compared; numbers are their differences, "
    "the regrets, with 95% intervals. FLOPs include trials that were ended early."
)
SEARCH, ZERO_SHOT, DIRECT = "direct search", "zero-shot", "direct"
FROM = 3  # trials of a search after which its line is sure to be within the scale
WIDTH, HEIGHT = 3.6, 3.5  # of a panel, inches


def table(tables: SweepTables, fit: ProxyTransfer) -> pd.DataFrame:
    """One row per trial of every direct search, and one per way, method and target: FLOPs spent, and loss."""
    rows = []
    tunings = tables.tunings({cell.search.study for cell in fit.cells})
    for cell in fit.cells:
        about = {"target": cell.target, "changes": cell.changes, "method": cell.method, "optimizer": cell.optimizer}
        for step in descent(tunings, cell.search.study):
            rows.append({**about, "way": SEARCH, **step})
        spent, known = cell.proxy.flops + cell.run_flops, cell.regret or Estimate(np.nan)
        numbers = {"regret": known.value, "regret_low": known.low, "regret_high": known.high}
        text = {"regret_text": regret_text(cell)}
        rows.append({**about, "way": ZERO_SHOT, "flops": spent, "loss": cell.zero_shot, **numbers, **text})
        rows.append({**about, "way": DIRECT, "flops": cell.search.flops + cell.run_flops, "loss": cell.direct})
    return pd.DataFrame(rows)


def draw(data: pd.DataFrame) -> Figure:
    """A panel per target, each on its own scale of loss."""
    targets = list(dict.fromkeys(data["target"]))
    methods = data.drop_duplicates("method")
    colours = style.colours(methods["method"], methods["optimizer"])
    figure = Figure(figsize=(WIDTH * max(2, len(targets)), HEIGHT + 0.6))
    axes = figure.subplots(1, len(targets), squeeze=False)[0]
    for axis, target in zip(axes, targets, strict=True):
        _panel(axis, data[data["target"] == target], colours)
        axis.set_xlabel("FLOPs spent")
    axes[0].set_ylabel("validation loss (nats per token)")
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    handles += [
        Line2D(
            [], [], color=style.GREY, marker="*", markersize=11, linestyle="", label="tuned on the proxy, zero-shot"
        ),
        Line2D(
            [], [], color=style.GREY, marker="o", markerfacecolor="white", linestyle="", label="tuned at the target"
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6)
    return figure


def _panel(axis: Axes, data: pd.DataFrame, colours: dict[str, str]) -> None:
    tops: list[float] = []
    lows: list[float] = []
    for i, (method, colour) in enumerate(colours.items()):
        rows = data[data["method"] == method]
        if rows.empty:
            continue
        search, star, circle = (rows[rows["way"] == way] for way in (SEARCH, ZERO_SHOT, DIRECT))
        axis.step(search["flops"], search["loss"], where="post", color=colour, linewidth=1.4, zorder=2)
        look: dict[str, Any] = {"color": colour, "linestyle": "", "zorder": 4}
        axis.plot(circle["flops"], circle["loss"], marker="o", markerfacecolor="white", markersize=6, **look)
        axis.plot(star["flops"], star["loss"], marker="*", markersize=12, markeredgecolor="white", **look)
        axis.text(0.98, 0.98 - 0.07 * i, _regret(star.iloc[0]), color=colour, fontsize=8, ha="right", va="top",
                  transform=axis.transAxes, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
                  )  # fmt: skip
        ends = [*star["loss"], *circle["loss"]]
        tops += [*ends, *search["loss"].iloc[FROM : FROM + 1]]
        lows += [*ends, search["loss"].min()]
    low, high = np.nanmin(lows), np.nanmax(tops)
    room = max(high - low, 0.05)
    axis.set_ylim(low - 0.08 * room, high + 0.45 * room)  # the upper part is for the numbers
    axis.set_xscale("log")
    first = data.iloc[0]
    axis.set_title(f"{first['target']}\n", fontweight="bold")
    axis.text(0.5, 1.02, first["changes"], transform=axis.transAxes, ha="center", va="bottom", fontsize=8)


def _regret(star: "pd.Series[Any]") -> str:
    what = "zero-shot diverged" if pd.isna(star["loss"]) else star["regret_text"]
    return f"{star['method']} {what}"


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    stars = data[data["way"] == ZERO_SHOT]
    parts = [
        f"{target}: " + "; ".join(_regret(star) for _, star in rows.iterrows())
        for target, rows in stars.groupby("target", sort=False)
    ]
    return f"Loss against FLOPs spent on tuning. Zero-shot minus directly tuned loss, nats: {'. '.join(parts)}."

"""Compute spent on tuning against the loss it buys: at the target itself, and on the proxy."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.drawing import style
from analysis.fits.intervals import Estimate
from analysis.studies.transfer.costs import descent
from analysis.studies.transfer.result import MARGIN, Cell, ProxyTransfer, Searched, regret_text
from analysis.tables.sweep import SweepTables

TITLE = "What tuning costs, and what it buys"
CAPTION = (
    "Lines: lowest validation loss so far of tuning at the target, at the search's own seed. Stars: tuning the proxy, "
    "and one run at the target with the values found there. Circles: the values that direct tuning found. Stars and "
    "circles are means over the same fresh seeds, so they, not the lines, are compared. Where a search was made with "
    "several seeds, light lines and marks are one search each, and dark ones the means. Below: the differences, the "
    "regrets, with 95% intervals; within the grey band a regret counts as none. FLOPs include trials that were ended "
    "early."
)
SEARCH, ZERO_SHOT, DIRECT = "direct search", "zero-shot", "direct"
ONE_ZERO_SHOT, ONE_DIRECT = "zero-shot, one search", "direct, one search"
LIGHT = 0.4  # opacity of one search among several
FROM = 3  # trials of a search after which its line is sure to be within the scale
WIDTH, HEIGHT, ROW = 3.6, 3.0, 0.4  # of a panel, and of a method's row below it, inches


def table(tables: SweepTables, fit: ProxyTransfer) -> pd.DataFrame:
    """One row per trial of every direct search, and one per way, method and target: FLOPs spent, and loss.

    Where there are several searches, also one per way and search.
    """
    rows = []
    tunings = tables.tunings({one.direct_search.study for cell in fit.cells for one in cell.searches})
    for cell in fit.cells:
        about = {"target": cell.target, "changes": cell.changes, "method": cell.method, "optimizer": cell.optimizer}
        for one in cell.searches:
            own = about | {"search_seed": one.seed}
            rows += [own | {"way": SEARCH, **step} for step in descent(tunings, one.direct_search.study)]
            if len(cell.searches) > 1:
                rows += [own | marks for marks in _one_search(cell, one)]
        known = cell.regret or Estimate(np.nan)
        numbers = {"regret": known.value, "regret_low": known.low, "regret_high": known.high}
        text = {"regret_text": regret_text(cell)}
        spent = {ZERO_SHOT: cell.proxy_flops + cell.run_flops, DIRECT: cell.direct_flops + cell.run_flops}
        rows.append({**about, "way": ZERO_SHOT, "flops": spent[ZERO_SHOT], "loss": cell.zero_shot, **numbers, **text})
        rows.append({**about, "way": DIRECT, "flops": spent[DIRECT], "loss": cell.direct})
    return pd.DataFrame(rows)


def _one_search(cell: Cell, one: Searched) -> list[dict[str, Any]]:
    return [
        {
            "way": ONE_ZERO_SHOT,
            "flops": one.proxy.flops + cell.run_flops,
            "loss": one.zero_shot,
            "regret": one.difference,
        },
        {"way": ONE_DIRECT, "flops": one.direct_search.flops + cell.run_flops, "loss": one.direct},
    ]


def draw(data: pd.DataFrame) -> Figure:
    """A column per target: losses against FLOPs, each on its own scale of loss, and the regrets below on one scale."""
    targets = list(dict.fromkeys(data["target"]))
    methods = data.drop_duplicates("method")
    colours = style.colours(methods["method"], methods["optimizer"])
    below = 0.5 + ROW * len(colours)
    figure = Figure(figsize=(WIDTH * max(2, len(targets)), HEIGHT + below + 0.6))
    losses, regrets = figure.subplots(2, len(targets), squeeze=False, height_ratios=[HEIGHT, below])
    for axis, regret_axis, target in zip(losses, regrets, targets, strict=True):
        regret_axis.sharex(regrets[0])
        rows = data[data["target"] == target]
        _losses(axis, rows, colours)
        _regrets(regret_axis, rows, colours)
        regret_axis.tick_params(labelleft=regret_axis is regrets[0])
    losses[0].set_ylabel("validation loss (nats per token)")
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


def _losses(axis: Axes, data: pd.DataFrame, colours: dict[str, str]) -> None:
    tops: list[float] = []
    lows: list[float] = []
    for method, colour in colours.items():
        rows = data[data["method"] == method]
        if rows.empty:
            continue
        searches = [search for _, search in rows[rows["way"] == SEARCH].groupby("search_seed")]
        light = LIGHT if len(searches) > 1 else 1.0
        for search in searches:
            axis.step(search["flops"], search["loss"], where="post", color=colour, linewidth=1.4, alpha=light, zorder=2)
            tops += [*search["loss"].iloc[FROM : FROM + 1]]
            lows += [search["loss"].min()]
        if len(searches) > 1:
            tops += _marks(axis, rows, (ONE_ZERO_SHOT, ONE_DIRECT), 0.6, color=colour, alpha=light, zorder=3)
        tops += _marks(axis, rows, (ZERO_SHOT, DIRECT), 1.0, color=colour, zorder=4)
    low, high = np.nanmin([*lows, *tops]), np.nanmax(tops)
    room = max(high - low, 0.05)
    axis.set_ylim(low - 0.08 * room, high + 0.08 * room)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(_scientific))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("FLOPs spent")
    first = data.iloc[0]
    axis.set_title(f"{first['target']}\n", fontweight="bold")
    axis.text(0.5, 1.02, first["changes"], transform=axis.transAxes, ha="center", va="bottom", fontsize=8)


def _marks(axis: Axes, rows: pd.DataFrame, ways: tuple[str, str], size: float, **look: Any) -> list[float]:
    """Stars of the first way and circles of the second, and all their losses."""
    star, circle = (rows[rows["way"] == way] for way in ways)
    look["linestyle"] = ""
    axis.plot(circle["flops"], circle["loss"], marker="o", markerfacecolor="white", markersize=6 * size, **look)
    axis.plot(star["flops"], star["loss"], marker="*", markersize=12 * size, markeredgecolor="white", **look)
    return [*star["loss"], *circle["loss"]]


def _regrets(axis: Axes, data: pd.DataFrame, colours: dict[str, str]) -> None:
    """A row per method: the regret, its interval, and both as text; every search's own; what counts as none is grey."""
    stars, ones = (data[data["way"] == way] for way in (ZERO_SHOT, ONE_ZERO_SHOT))
    axis.axvspan(-MARGIN, MARGIN, color=style.GREY, alpha=0.18, linewidth=0)
    axis.axvline(0, color=style.GREY, linewidth=0.8)
    for i, (method, colour) in enumerate(colours.items()):
        own = ones.loc[ones["method"] == method, "regret"]
        axis.plot(own, [i + 0.25] * len(own), ".", color=colour, alpha=LIGHT, markersize=7)
        for star in stars[stars["method"] == method].to_dict("records"):
            axis.plot(star["regret"], i, "*", color=colour, markersize=9, zorder=3)
            style.intervals(axis, [i], [star["regret_low"]], [star["regret_high"]], "x", color=colour, linewidth=2)
            text = "zero-shot diverged" if pd.isna(star["loss"]) else star["regret_text"]
            axis.annotate(
                text, (0.5, i - 0.24), xycoords=("axes fraction", "data"), ha="center", va="bottom", fontsize=8
            )
    axis.set_yticks(range(len(colours)), list(colours))
    axis.set_ylim(len(colours) - 0.6, -0.75)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("regret (nats)")


def _scientific(value: float, _: Any) -> str:
    """1 · 10^11 as 10^11, and 3 · 10^11 as it is."""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    factor = round(value / 10.0**exponent)
    return f"$10^{{{exponent}}}$" if factor == 1 else f"${factor}\\cdot10^{{{exponent}}}$"


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

"""The best network size against operations, and the lines of the approaches through it."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import sources, style
from analysis.studies.isoflop.result import Isoflop, SourceValleys
from analysis.tables.sweep import SweepTables

TITLE = "The best size against operations"
CAPTION = (
    "Points are lowest points of budgets by the chosen curve; lines are the growth by each approach, over the measured "
    "operations."
)
POINT = "lowest point"
COLOURS = {"1: envelope": "#009E73", "2: parabola": "#0072B2", "2: akima": "#56B4E9", "3: law": "#D55E00"}


def table(tables: SweepTables, fit: Isoflop) -> pd.DataFrame:
    """Per source its lowest points that count, and every approach's line at both ends: flops and n_params."""
    found = [_source(each) for each in fit.sources if each.growths]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _source(each: SourceValleys) -> pd.DataFrame:
    counted = [lowest for lowest in each.lowest if not lowest.why]
    points = [{"what": POINT, "flops": lowest.flops, "n_params": lowest.n_params} for lowest in counted]
    ends = (min(lowest.flops for lowest in each.lowest), max(lowest.flops for lowest in each.lowest))
    lines = [
        {"what": growth.approach, "flops": flops, "n_params": growth.best(flops), "exponent": growth.size.value}
        for growth in each.growths
        for flops in ends
    ]
    return pd.DataFrame([*points, *lines]).assign(source=each.name)


def draw(data: pd.DataFrame) -> Figure:
    """A panel per source."""
    figure, axes, spare = style.panels(sources.shown(data), legend_share=0.6)
    for name, axis in axes.items():
        mine = data[data["source"] == name]
        points = mine[mine["what"] == POINT]
        for what, rows in mine[mine["what"] != POINT].groupby("what", sort=False):
            axis.plot(rows["flops"], rows["n_params"], color=COLOURS[str(what)], linewidth=1.2)
        axis.plot(points["flops"], points["n_params"], "*", color="black", markersize=6)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("operations, C")
        axis.set_title(name, fontsize=9)
    style.label_left(figure, axes, "best size, N*")
    known = [what for what in COLOURS if (data["what"] == what).any()]
    handles = [Line2D([], [], color=COLOURS[what], label=what) for what in known]
    style.legend(figure, spare, [*handles, Line2D([], [], color="black", marker="*", linestyle="", label=POINT)])
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    lines = data[data["what"] != POINT].drop_duplicates(["source", "what"])
    parts = [
        f"{name}: " + ", ".join(f"C^{np.round(e, 3):g} by {w}" for e, w in zip(r["exponent"], r["what"], strict=True))
        for name, r in lines.groupby("source", sort=False)
    ]
    return f"Best network size against operations. {'; '.join(parts)}."

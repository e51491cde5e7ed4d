"""Best learning rate against width, both in octaves: a horizontal line is transfer, slope −1 halves with the width."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.lr_transfer import LrTransfer
from analysis.tables import SweepTables

TITLE = "Best learning rate against width"
CAPTION = (
    "A level line means that the small network's best learning rate is also the large one's. The dotted line halves "
    "with every doubling of the width."
)


def table(tables: SweepTables, fit: LrTransfer) -> pd.DataFrame:
    """One row per optimizer and width: the fit's own table."""
    return fit.frame().dropna(subset=["lr_opt"])


def draw(data: pd.DataFrame) -> Figure:
    """One line per optimizer, slightly set apart so that intervals do not cover each other."""
    figure = Figure(figsize=(6.4, 3.8))
    axis = figure.subplots()
    names = list(dict.fromkeys(data["optimizer"]))
    for i, name in enumerate(names):
        rows = data[data["optimizer"] == name]
        x = np.log2(rows["width"]) + 0.04 * (i - (len(names) - 1) / 2)
        y = np.log2(rows["lr_opt"])
        color, marker = style.colour(name), style.MARKERS[i % len(style.MARKERS)]
        axis.plot(x, y, color=color, marker=marker, linewidth=1.4, markersize=6, label=name)
        edge = ~rows["resolved"].to_numpy(dtype=bool)
        axis.plot(x[edge], y[edge], marker, color=color, markersize=6, markerfacecolor="white")
        known = rows["lr_opt_low"].notna().to_numpy()
        low = np.log2(rows.loc[known, "lr_opt_low"].astype(float))
        high = np.log2(rows.loc[known, "lr_opt_high"].astype(float))
        axis.vlines(x[known], low, high, color=color, linewidth=2)
    _reference(axis, data)
    style.log2_ticks(axis, "y")
    axis.set_xticks(sorted(np.log2(data["width"].unique())), [str(w) for w in sorted(data["width"].unique())])
    axis.set_xlabel("width")
    axis.set_ylabel("best learning rate")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="bars: 95% interval\nhollow: not resolved")
    return figure


def _reference(axis: Axes, data: pd.DataFrame) -> None:
    """A dotted line of slope −1 for the eye, from the first optimizer's smallest width."""
    first = data.iloc[0]
    widths = np.log2(np.array([data["width"].min(), data["width"].max()], dtype=float))
    start = np.log2(first["lr_opt"])
    axis.plot(widths, start - (widths - widths[0]), ":", color="grey", linewidth=1, label="slope −1")


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    drifts = data.drop_duplicates("optimizer")
    parts = [f"{r['optimizer']} {r['drift']:+.2f}" for r in drifts.to_dict("records") if pd.notna(r["drift"])]
    return f"Best learning rate against width on logarithmic axes. Slopes in octaves per octave: {', '.join(parts)}."

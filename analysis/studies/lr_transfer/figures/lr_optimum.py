"""Best learning rate against width (or another axis), both in octaves: a horizontal line is transfer, slope −1 halves
with the width.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.studies.lr_transfer.figures.lr_series import Layout
from analysis.studies.lr_transfer.result import LrTransfer
from analysis.tables.keys import plain
from analysis.tables.sweep import SweepTables

SMALL_LARGE = {"width": ("small network's", "large one's")}


def title(data: pd.DataFrame) -> str:
    """Names the axis."""
    return f"Best learning rate against {Layout.of(data).axis}"


def caption(data: pd.DataFrame) -> str:
    """Names the axis."""
    axis = Layout.of(data).axis
    first, last = SMALL_LARGE.get(axis, (f"smallest {axis}'s", "largest one's"))
    return (
        f"A level line means that the {first} best learning rate is also the {last}. The dotted line halves "
        f"with every doubling of the {axis}."
    )


def table(tables: SweepTables, fit: LrTransfer) -> pd.DataFrame:
    """One row per series and place: the fit's own table."""
    return fit.frame().dropna(subset=["lr_opt"])


def draw(data: pd.DataFrame) -> Figure:
    """One line per series, slightly set apart so that intervals do not cover each other."""
    figure = Figure(figsize=(6.4, 3.8))
    axis = figure.subplots()
    layout = Layout.of(data)
    for i, (name, color) in enumerate(layout.colours.items()):
        rows = data[data[layout.series] == name]
        x = np.log2(rows[layout.column]) + 0.04 * (i - (len(layout.colours) - 1) / 2)
        y = np.log2(rows["lr_opt"])
        marker = style.MARKERS[i % len(style.MARKERS)]
        axis.plot(x, y, color=color, marker=marker, linewidth=1.4, markersize=6, label=name)
        edge = ~rows["resolved"].to_numpy(dtype=bool)
        axis.plot(x[edge], y[edge], marker, color=color, markersize=6, markerfacecolor="white")
        known = rows["lr_opt_low"].notna().to_numpy()
        low = np.log2(rows.loc[known, "lr_opt_low"].astype(float))
        high = np.log2(rows.loc[known, "lr_opt_high"].astype(float))
        axis.vlines(x[known], low, high, color=color, linewidth=2)
    places = layout.places(data)
    _reference(axis, places, data.iloc[0]["lr_opt"])
    style.log2_ticks(axis, "y")
    axis.set_xticks(list(np.log2(places)), [plain(place) for place in places])
    axis.set_xlabel(layout.axis)
    axis.set_ylabel("best learning rate")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="bars: 95% interval\nhollow: not resolved")
    return figure


def _reference(axis: Axes, places: list[float], start: float) -> None:
    """A dotted line of slope −1 for the eye, from the first series' smallest place."""
    octaves = np.log2(np.array([places[0], places[-1]], dtype=float))
    axis.plot(octaves, np.log2(start) - (octaves - octaves[0]), ":", color="grey", linewidth=1, label="slope −1")


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    layout = Layout.of(data)
    drifts = data.drop_duplicates(layout.series)
    parts = [f"{r[layout.series]} {r['drift']:+.2f}" for r in drifts.to_dict("records") if pd.notna(r["drift"])]
    slopes = ", ".join(parts)
    return f"Best learning rate against {layout.axis} on logarithmic axes. Slopes in octaves per octave: {slopes}."

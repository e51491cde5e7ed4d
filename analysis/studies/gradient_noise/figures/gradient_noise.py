"""Tail, spread and averaging of the noise over training: a row of panels per method, a line per kind of layer."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.studies.gradient_noise.fit import FINITE_VARIANCE, NETWORK, GradientNoise
from analysis.tables.sweep import SweepTables

TITLE = "Noise of single gradients over training"
CAPTION = (
    "By kind of layer, mean over layers and runs; bars are 95% intervals of one layer, black is the network as one "
    "vector. Left: tail index, without a variance below the dashed line. Middle: how far the nuclear norm of a batch's "
    "noise exceeds the Frobenius norm, from 0 (rank 1) to 1 (all directions alike). Right: how the noise's dual norm "
    "falls with the batch; dashed, -1/2."
)
# What a panel shows, how it is called, and a line to read it against.
SHOWN = {
    "tail_index": ("tail index", FINITE_VARIANCE),
    "nuclear_ratio": ("nuclear ratio", None),
    "batch_slope": ("slope against batch", -0.5),
}


def table(tables: SweepTables, fit: GradientNoise) -> pd.DataFrame:
    """A row per method, kind, step and metric: value, low and high."""
    rows = [
        {
            "optimizer": row.optimizer,
            "kind": row.kind,
            "step": row.step,
            "metric": metric,
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
        }
        for method in fit.methods
        for row in method.rows
        for metric in SHOWN
        if (estimate := getattr(row, metric)) is not None
    ]
    return pd.DataFrame(rows)


def draw(data: pd.DataFrame) -> Figure:
    """Panels of a metric stand below each other."""
    methods = list(dict.fromkeys(data["optimizer"]))
    names = [f"{method} {metric}" for method in methods for metric in SHOWN]
    figure, axes, spare = style.panels(names, columns=3, size=(3.0, 2.6), legend_height=0.8, share_y=False)
    colours = _colours(data)
    panels = iter(axes.values())
    for method in methods:
        for metric, (label, line) in SHOWN.items():
            axis = next(panels)
            mine = data[(data["optimizer"] == method) & (data["metric"] == metric)]
            for place, (kind, rows) in enumerate(mine.groupby("kind", sort=False)):
                _line(axis, rows, colours[str(kind)], place)
            if line is not None:
                axis.axhline(line, color=style.GREY, linestyle="--", linewidth=0.9)
            style.name_panel(axis, method, label)
            axis.set_xlabel("step")
    style.legend(figure, spare, [Line2D([], [], color=colour, label=kind) for kind, colour in colours.items()])
    return figure


def _colours(data: pd.DataFrame) -> dict[str, str]:
    kinds = [kind for kind in dict.fromkeys(data["kind"]) if kind != NETWORK]
    palette = [colour for colour in style.PALETTE if colour != "#000000"]
    return {NETWORK: "#000000"} | {kind: palette[i % len(palette)] for i, kind in enumerate(kinds)}


def _line(axis: Axes, rows: pd.DataFrame, colour: str, place: int) -> None:
    """Bars of kinds at one step stand beside each other, a hundredth of the run apart."""
    steps = rows["step"] + 0.01 * place * rows["step"].max()
    reach = [(rows["value"] - rows["low"]).fillna(0), (rows["high"] - rows["value"]).fillna(0)]
    axis.errorbar(steps, rows["value"], reach, color=colour, linewidth=1.2, elinewidth=0.7, marker="o", markersize=2.5)


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    last = data[data["step"] == data["step"].max()]
    parts = [
        f"{optimizer} {', '.join(_said(kind, rows) for kind, rows in mine.groupby('kind', sort=False))}"
        for optimizer, mine in last.groupby("optimizer", sort=False)
    ]
    return f"Noise of gradients at the last measured step: {'; '.join(parts)}."


def _said(kind: object, rows: pd.DataFrame) -> str:
    values = dict(zip(rows["metric"], rows["value"], strict=True))
    return f"{kind} " + " and ".join(f"{SHOWN[metric][0]} {value:.2f}" for metric, value in values.items())

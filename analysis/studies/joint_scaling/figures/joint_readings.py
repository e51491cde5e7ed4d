"""The exponents by every reading of the optimum, bands from narrow to wide."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import sources, style
from analysis.laws.joint import symbol
from analysis.studies.joint_scaling.result import JointScaling, of
from analysis.tables.sweep import SweepTables

TITLE = "Exponents by the reading of the optimum"
COLOURS = {"n_params": "#D55E00", "tokens": "#0072B2"}
APART = 0.13  # of a row, between the two exponents


def table(tables: SweepTables, fit: JointScaling) -> pd.DataFrame:
    """A row per source, quantity, reading and exponent of N and T: exponent with its interval, n_optima, cut."""
    return pd.DataFrame(
        {
            "source": of(source, each),
            "reading": each.reading,
            "resource": term.resource,
            **term.exponent.columns("exponent"),
            "n_optima": each.law.n_optima,
            "cut": each.cut,
            "chosen": each.reading == source.reading,
        }
        for source in fit.sources
        for each in source.laws
        if each.law is not None
        for term in each.law.terms
        if term.resource in COLOURS
    )


def caption(data: pd.DataFrame) -> str:
    """What is drawn, and how much of it is not."""
    return (
        "Exponents of N and T in the law of both, with 95% intervals, by how the optimum is read; the reading that "
        "findings go by is printed bold. Where bands disagree, the law is as much the band's as the data's."
        f"{sources.beyond(data)}"
    )


def draw(data: pd.DataFrame) -> Figure:
    """A panel per source and quantity, a row in it per reading."""
    names = sources.shown(data)
    figure, axes, spare = style.panels(names, columns=2, size=(4.4, 2.9), legend_share=0.4, share_y=False)
    for name, axis in axes.items():
        mine = data[data["source"] == name]
        readings = list(dict.fromkeys(mine["reading"]))
        for i, (resource, colour) in enumerate(COLOURS.items()):
            rows = mine[mine["resource"] == resource]
            at = np.array([readings.index(each) for each in rows["reading"]], dtype=float) + APART * (2 * i - 1)
            low, high = rows["exponent_low"], rows["exponent_high"]
            style.intervals(axis, at, low, high, "x", color=colour, linewidth=1.4)
            axis.plot(rows["exponent"], at, "o", color=colour, markersize=4)
        axis.axvline(0, color=style.GREY, linewidth=0.8)
        axis.set_yticks(range(len(readings)), readings)
        axis.invert_yaxis()
        bold = set(mine.loc[mine["chosen"], "reading"])
        for label, reading in zip(axis.get_yticklabels(), readings, strict=True):
            label.set_fontweight("bold" if reading in bold else "normal")
        axis.set_xlabel("exponent")
        axis.set_title(name, fontsize=9)
    handles = [Line2D([], [], color=c, marker="o", label=f"of {symbol(r)}") for r, c in COLOURS.items()]
    style.legend(figure, spare, handles)
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("source", sort=False):
        spans = (
            f"{symbol(str(resource))} from {of_one['exponent'].min():.2f} to {of_one['exponent'].max():.2f}"
            for resource, of_one in rows.groupby("resource")
        )
        parts.append(f"{name}: exponent of {', of '.join(spans)}")
    return f"Exponents by the reading of the optimum. {'; '.join(parts)}."

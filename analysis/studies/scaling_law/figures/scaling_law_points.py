"""Losses against operations, coloured by network size, with the lowest that the law allows."""

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from analysis.drawing import sources, style
from analysis.laws.compute_optimal import allocate
from analysis.laws.points import OPERATIONS
from analysis.studies.scaling_law.result import ScalingLaws, SourceLaw, points
from analysis.tables.sweep import SweepTables

TITLE = "Losses, and the lowest that the law allows"
POINT, LINE = "point", "line"
STEPS = 33  # points of a line
COLOURS = "viridis"


def table(tables: SweepTables, fit: ScalingLaws) -> pd.DataFrame:
    """Per source its points (`kind` point: n_params, tokens, flops, val_loss, predicted) and the lowest loss (line)."""
    found = [_source(each) for each in fit.laws]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _source(each: SourceLaw) -> pd.DataFrame:
    measured = points(each).assign(kind=POINT, flops=lambda rows: OPERATIONS * rows["n_params"] * rows["tokens"])
    note = f"N* ∝ C^{each.exponents[0].value:.2f}" if each.exponents and each.allocations else each.law.status
    parts = [measured]
    if each.allocations:
        flops = np.geomspace(measured["flops"].min(), measured["flops"].max(), STEPS)
        losses = [allocate(each.law, at).loss.value for at in flops]
        parts.append(pd.DataFrame({"source": each.name, "kind": LINE, "flops": flops, "val_loss": losses}))
    return pd.concat(parts, ignore_index=True).assign(note=note)


def caption(data: pd.DataFrame) -> str:
    """What is drawn, and how much of it is not."""
    return (
        "A point is a run at C = 6 N T operations, the darker the smaller its network. The line is the lowest loss at "
        f"so many operations by the fitted law, where that is determined.{sources.beyond(data)}"
    )


def draw(data: pd.DataFrame) -> Figure:
    """A panel per source on shared colours."""
    names = sources.shown(data)
    figure, axes, _ = style.panels(names, legend_share=0.05, share_y=False)  # sources may differ in unit
    measured = data[(data["kind"] == POINT) & data["source"].isin(names)]
    norm = sources.shades(measured["n_params"])
    for name, axis in axes.items():
        mine = data[data["source"] == name]
        dots, line = mine[mine["kind"] == POINT], mine[mine["kind"] == LINE]
        axis.scatter(dots["flops"], dots["val_loss"], c=dots["n_params"], norm=norm, cmap=COLOURS, s=9, linewidths=0)
        axis.plot(line["flops"], line["val_loss"], color="black", linewidth=1.2)
        axis.set_xscale("log")
        axis.set_xlabel("operations, C = 6 N T")
        axis.set_title(f"{name}\n{style.raised(mine['note'].iloc[0])}", fontsize=9)
    style.label_left(figure, axes, "validation loss")
    figure.colorbar(ScalarMappable(norm, COLOURS), ax=list(axes.values()), label="parameters, N")
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    measured = data[data["kind"] == POINT]
    parts = [
        f"{name}: {len(rows):,} points, {rows['val_loss'].max():.3g} to {rows['val_loss'].min():.3g}, "
        f"{rows['note'].iloc[0]}"
        for name, rows in measured.groupby("source", sort=False)
    ]
    return f"Losses against operations with the lowest by the fitted law. {'; '.join(parts)}."

"""What a law leaves over of the optima, against tokens per parameter: a pattern says its form is not the data's."""

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from analysis.drawing import sources, style
from analysis.studies.joint_scaling.result import JointScaling, ReadLaw, SourceJoint, of
from analysis.tables.sweep import SweepTables

TITLE = "What the law leaves over"
COLOURS = "viridis"


def table(tables: SweepTables, fit: JointScaling) -> pd.DataFrame:
    """A row per optimum of a chosen law: n_params, tokens, ratio, value, predicted, `octaves` measured over it."""
    found = [_panel(source, each) for source in fit.sources for each in source.chosen if each.best is not None]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _panel(source: SourceJoint, each: ReadLaw) -> pd.DataFrame:
    law = each.best
    assert law is not None, "only laws have residuals"
    mine = [o for o in source.optima if (o.reading, o.quantity) == (each.reading, each.quantity) and not o.why]
    rows = pd.DataFrame({"n_params": o.n_params, "tokens": o.tokens, "value": o.value, **o.further} for o in mine)
    further = {name: rows[name] for name in law.measured if name not in ("n_params", "tokens")}
    predicted = law.predict(rows["n_params"], rows["tokens"], **further).value
    octaves = np.log2(rows["value"] / predicted)
    ratio = rows["tokens"] / rows["n_params"]
    return rows.assign(ratio=ratio, predicted=predicted, octaves=octaves, source=of(source, each), scatter=law.scatter)


def caption(data: pd.DataFrame) -> str:
    """What is drawn, and how much of it is not."""
    return (
        "Octaves by which an optimum lies above the law, against tokens per parameter, coloured by network size; "
        "dotted lines are a standard deviation away. A slope in one colour, or a bend, says that the exponents are not "
        f"the same everywhere.{sources.beyond(data)}"
    )


def draw(data: pd.DataFrame) -> Figure:
    """A panel per source and quantity."""
    figure, axes, _ = style.panels(sources.shown(data), legend_share=0.05, share_y=False)
    norm = sources.shades(data["n_params"])
    for name, axis in axes.items():
        mine = style.log2(data[data["source"] == name], "ratio")
        axis.axhline(0, color=style.GREY, linewidth=0.8)
        if mine["scatter"].notna().all():
            for side in (-1, 1):
                axis.axhline(side * mine["scatter"].iloc[0], color=style.GREY, linewidth=0.8, linestyle=":")
        axis.scatter(mine["ratio"], mine["octaves"], c=mine["n_params"], norm=norm, cmap=COLOURS, s=14, linewidths=0)
        style.log2_ticks(axis)
        axis.set_xlabel("tokens per parameter, T/N")
        axis.set_title(name, fontsize=9)
    style.label_left(figure, axes, "measured ÷ law, octaves")
    figure.colorbar(ScalarMappable(norm, COLOURS), ax=list(axes.values()), label="parameters, N")
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = [
        f"{name} from {rows['octaves'].min():+.2f} to {rows['octaves'].max():+.2f}"
        for name, rows in data.groupby("source", sort=False)
    ]
    return f"Octaves of optima above the law: {'; '.join(parts)}."

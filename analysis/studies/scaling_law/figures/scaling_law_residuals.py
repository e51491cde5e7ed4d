"""What the law leaves over, against tokens per parameter: a pattern says that its form is not the data's."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import sources, style
from analysis.studies.scaling_law.result import ScalingLaws, points
from analysis.tables.sweep import SweepTables

TITLE = "What the law leaves over"
CAPTION = (
    "Measured minus predicted loss against tokens per parameter. Points above 0 at both ends, or a slope, say that the "
    "law has not the form of the data there; then its intervals are too narrow, and its extrapolation is off."
)


def table(tables: SweepTables, fit: ScalingLaws) -> pd.DataFrame:
    """A row per point of a law that was fitted: source, n_params, tokens, ratio, and `residual` in the loss's unit."""
    found = [points(each) for each in fit.laws if each.law.parameters]
    if not found:
        return pd.DataFrame()
    rows = pd.concat(found, ignore_index=True)
    return rows.assign(ratio=rows["tokens"] / rows["n_params"], residual=rows["val_loss"] - rows["predicted"])


def draw(data: pd.DataFrame) -> Figure:
    """A panel per source."""
    figure, axes, _ = style.panels(sources.shown(data), legend_share=0.05, share_y=False)  # sources may differ in unit
    for i, (name, axis) in enumerate(axes.items()):
        mine = data[data["source"] == name]
        axis.axhline(0, color=style.GREY, linewidth=0.8)
        axis.scatter(mine["ratio"], mine["residual"], s=9, linewidths=0, color=style.PALETTE[i % len(style.PALETTE)])
        axis.set_xscale("log")
        axis.set_xlabel("tokens per parameter, T/N")
        axis.set_title(name, fontsize=9)
    style.label_left(figure, axes, "measured − predicted")
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = [
        f"{name} from {rows['residual'].min():+.3f} to {rows['residual'].max():+.3f}"
        for name, rows in data.groupby("source", sort=False)
    ]
    return f"Residuals of the law against tokens per parameter: {'; '.join(parts)}."

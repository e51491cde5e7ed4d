"""How far activations have moved, step by step: a line per width, a panel per method and kind of layer."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.studies.coordinate_check.fit import CoordinateCheck, layer_sizes
from analysis.tables.sweep import SweepTables
from analysis.tables.watched import LOGITS, watched

TITLE = "Change of activations over the first steps"
CAPTION = (
    "Mean over seeds, wider networks darker. Shown are the first kind of layer, the inner one whose change goes "
    "steepest with the width in any method, and the model's output. Lines that lie on each other are a method whose "
    "steps mean the same at every width. What has not moved yet is below the scale."
)
QUANTITY = "output_change_rms"


def table(tables: SweepTables, fit: CoordinateCheck) -> pd.DataFrame:
    """A row per method, kind, width and step: mean over seeds."""
    _, rows = watched(tables, ["output_rms", QUANTITY], "a coordinate check")
    shown = _shown(fit)
    sizes = layer_sizes(rows)
    sizes = sizes[sizes["kind"].isin(shown) & (sizes[QUANTITY] > 0)]
    keys = ["optimizer", "kind", "width", "step"]
    means = sizes.groupby(keys, as_index=False).agg(change=(QUANTITY, "mean"), n_seeds=("seed", "nunique"))
    order = {kind: i for i, kind in enumerate(shown)}
    return means.sort_values(keys, key=lambda column: column.map(order) if column.name == "kind" else column)


def _shown(fit: CoordinateCheck) -> list[str]:
    names = list(dict.fromkeys(fit.sizes["kind"]))
    inner = [kind for kind in names[1:] if kind != LOGITS]
    slopes = [s for m in fit.methods for s in m.slopes if s.quantity == QUANTITY and s.kind in inner and s.slope]
    steepest = max(slopes, key=lambda s: abs(s.slope.value) if s.slope else 0.0, default=None)
    chosen = {*names[:1], steepest.kind if steepest else LOGITS, LOGITS}
    return [kind for kind in names if kind in chosen]


def draw(data: pd.DataFrame) -> Figure:
    """A row of panels per method, a column per kind, all on one scale."""
    names, kinds = list(dict.fromkeys(data["optimizer"])), list(dict.fromkeys(data["kind"]))
    widths = sorted(data["width"].unique())
    figure = Figure(figsize=(1.4 + 2.35 * len(kinds), 0.8 + 1.9 * len(names)))
    panels = figure.subplots(len(names), len(kinds), squeeze=False, sharex=True, sharey=True)
    for row, name in zip(panels, names, strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            _panel(axis, data[(data["optimizer"] == name) & (data["kind"] == kind)], widths, name)
        row[0].set_ylabel(f"{name}\n" + r"$\|\Delta h\|_{\mathrm{RMS}}$", color=style.colour(name))
    for axis, kind in zip(panels[0], kinds, strict=True):
        axis.set_title(kind)
    for axis in panels[-1]:
        axis.set_xlabel("step")
    figure.legend(handles=style.width_handles(widths), loc="outside lower center", ncols=len(widths))
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, widths: list[int], optimizer: str) -> None:
    axis.set_yscale("log", base=2)
    for width, shade in zip(widths, style.shades(style.colour(optimizer), len(widths)), strict=True):
        line = rows[rows["width"] == width]
        axis.plot(line["step"], line["change"], color=shade, marker="o", markersize=2.5, linewidth=1.3)


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    last = data[data["step"] == data["step"].max()]
    parts = []
    for (name, kind), rows in last.groupby(["optimizer", "kind"], sort=False):
        narrow, wide = rows.loc[rows["width"].idxmin()], rows.loc[rows["width"].idxmax()]
        parts.append(
            f"{kind} under {name} by {narrow['change']:.2g} at width {narrow['width']} and {wide['change']:.2g} "
            f"at {wide['width']}"
        )
    return f"Change of activations against steps, a line per width. At the last step they moved: {'; '.join(parts)}."

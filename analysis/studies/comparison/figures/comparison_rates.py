"""What is tuned: the metric against learning rate, a line per arm, a panel per place."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.studies.comparison.figures import arms
from analysis.studies.comparison.result import Comparison
from analysis.tables.keys import plain
from analysis.tables.sweep import SweepTables

WHOLE = "all"


def title(data: pd.DataFrame) -> str:
    """Names the metric."""
    return f"{arms.name(data).capitalize()} against learning rate"


def caption(data: pd.DataFrame) -> str:
    """Says what is drawn."""
    return (
        "Mean over seeds at each learning rate; stars mark each arm's optimum, hollow where the best rate ends its "
        f"grid or has a neighbour that diverges. What lies more than {arms.headroom(data):g} beyond the best is drawn "
        "at the edge, and crosses there are learning rates at which a seed diverged."
    )


def table(tables: SweepTables, fit: Comparison) -> pd.DataFrame:
    """One row per arm, place and learning rate (`kind` point), and one per optimum (`kind` optimum).

    Empty where there is one rate only.
    """
    if all(cell.n_rates == 1 for cell in fit.cells):
        return pd.DataFrame()
    metric = "val_loss" if fit.design.settings.metric == "gap" else fit.design.settings.metric
    rows = []
    for _, group in arms.placed(tables, fit).groupby(["arm", "place", "lr"]):
        named = fit.design.arms[int(group["arm"].iloc[0])]
        rows.append(
            {
                "arm": named.name,
                "optimizer": named.optimizer,
                **arms.where(fit, int(group["place"].iloc[0])),
                "lr": float(group["lr"].iloc[0]),
                "value": group[metric].mean(),
                "n_seeds": group["seed"].nunique(),
                "n_diverged": int((group["status"] == "diverged").sum()),
                "kind": "point",
            }
        )
    for cell in fit.cells:
        if cell.lr is not None and cell.n_rates > 1:
            at = {"lr": cell.lr.value, "low": cell.lr.low, "high": cell.lr.high, "state": cell.state}
            about = {
                "arm": cell.arm,
                "optimizer": cell.optimizer,
                **arms.where(fit, fit.design.places.index(cell.place)),
            }
            rows.append({**about, **at, "value": _value(rows, about, cell.rate), "kind": "optimum"})
    return arms.finish(rows, tables, fit).assign(metric=metric)


def _value(rows: list[dict[str, object]], about: dict[str, object], rate: float | None) -> object:
    """The mean at an arm's best rate of the grid."""
    return next(row["value"] for row in rows if row["lr"] == rate and about.items() <= row.items())


def draw(data: pd.DataFrame) -> Figure:
    """Panels in the order of the places."""
    points, optima = data[data["kind"] == "point"], data[data["kind"] == "optimum"]
    names = _panels(data)
    edge = arms.worst(data, points["value"])
    found = arms.colours(data)
    lines = -(-(len(found) + 2) // 4)  # of a legend below the panels; of one beside them there are as many as arms
    width, height = style.PANEL
    size = (width, max(height, 0.4 + 0.21 * (len(found) + 2)) if len(names) < 3 else height)
    figure, axes, spare = style.panels(list(names), size=size, legend_share=0.8, legend_height=0.3 + 0.22 * lines)
    x = np.log2(points["lr"])
    for name, axis in axes.items():
        for i, (arm, color) in enumerate(found.items()):
            _line(axis, arms.of(_at(points, names[name]), arm), data, edge, color, i, len(found))
            _optimum(axis, arms.of(_at(optima, names[name]), arm), data, edge, color)
        if name != WHOLE:
            axis.set_title(name, fontweight="bold")
        style.log2_ticks(axis)
        axis.set_xlabel("learning rate")
        axis.set_xlim(x.min() - 0.4, x.max() + 0.4)
        axis.margins(y=0.05)
    style.label_left(figure, axes, arms.label(data))
    style.legend(figure, spare, _handles(data))
    return figure


def _panels(data: pd.DataFrame) -> dict[str, float | None]:
    """Position of the place of every panel by its title."""
    if "place" not in data:
        return {WHOLE: None}
    found = data.drop_duplicates("position").sort_values("position")
    return {f"{row['across']} {plain(row['place'])}": row["position"] for row in found.to_dict("records")}


def _at(rows: pd.DataFrame, position: float | None) -> pd.DataFrame:
    return rows if position is None else rows[rows["position"] == position]


def _line(
    axis: Axes, rows: pd.DataFrame, data: pd.DataFrame, edge: float, color: style.Colour, index: int, count: int
) -> None:
    rows = rows.sort_values("lr")
    x = np.log2(rows["lr"])
    y = arms.clip(data, rows["value"], edge)
    axis.plot(x, y, color=color, ls=arms.dashes(index), marker=arms.marker(index), markersize=4, linewidth=1.3)
    gone = (rows["n_diverged"] > 0).to_numpy()
    if gone.any():  # set apart, or arms that diverge at the same rate would hide each other
        at = x[gone] + min(0.12, 0.7 / count) * (index - (count - 1) / 2)
        axis.plot(at, [edge] * gone.sum(), "x", color=color, markersize=6, markeredgewidth=1.8)


def _optimum(axis: Axes, rows: pd.DataFrame, data: pd.DataFrame, edge: float, color: style.Colour) -> None:
    at, inside = arms.clip(data, rows["value"], edge), (rows["state"] == "inside").to_numpy()
    for x, y, solid in zip(np.log2(rows["lr"]), at, inside, strict=True):
        face = color if solid else "white"
        axis.plot(x, y, "*", markersize=11, markerfacecolor=face, markeredgecolor="black", zorder=5)


def _handles(data: pd.DataFrame) -> list[Line2D]:
    star = Line2D([], [], linestyle="", marker="*", markersize=11, markeredgecolor="black", color=style.GREY)
    star.set_label("optimum")
    found = [*arms.handles(data), star]
    return found + ([arms.cross("a seed diverged")] if data["n_diverged"].gt(0).any() else [])


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    optima = data[data["kind"] == "optimum"]
    for name in arms.colours(data):
        places = [
            f"2^{np.log2(row['lr']):.1f}" + (f" at {plain(row['place'])}" if "place" in data else "")
            for row in arms.of(optima, name).to_dict("records")
        ]
        if places:
            parts.append(f"{name} {', '.join(places)}")
    diverged = int(data["n_diverged"].sum())
    return f"{title(data)}, a line per arm. Best learning rates: {'; '.join(parts)}. {diverged} runs diverged."

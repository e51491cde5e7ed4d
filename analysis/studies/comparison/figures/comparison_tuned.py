"""Tuned values of all arms: a line per arm against the places, or for one place a dot per arm, with intervals."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.studies.comparison.design import sign
from analysis.studies.comparison.figures import arms
from analysis.studies.comparison.result import Comparison
from analysis.studies.comparison.tuned import EDGE, OTHER_EDGE
from analysis.tables.keys import plain
from analysis.tables.sweep import SweepTables

LINE = 9  # points between values that are written at one place
MARGIN = 0.06  # of the scale, to either side
EDGES = (EDGE, OTHER_EDGE)
APART = 0.012  # of the horizontal axis, between arms: intervals shall not cover each other


def title(data: pd.DataFrame) -> str:
    """Names the metric and the axis."""
    across = f" against {data['across'].iloc[0]}" if "across" in data else " of each arm"
    return f"{arms.name(data).capitalize()} at the best learning rate{across}"


def caption(data: pd.DataFrame) -> str:
    """Says what the bars are."""
    return (
        "Every arm at its own best learning rate. Bars: 95% intervals from seed noise, without what a seed has in "
        "common everywhere. Hollow: the best rate, or what else is tuned, ends its grid, so there may be better ones. "
        f"What lies more than {arms.headroom(data):g} beyond the best is drawn at the edge with its value; at crosses "
        "every rate diverges."
    )


def table(tables: SweepTables, fit: Comparison) -> pd.DataFrame:
    """One row per arm and place, in the order of the arms."""
    rows = []
    for cell in fit.cells:
        value = cell.value
        rows.append(
            {
                "arm": cell.arm,
                "optimizer": cell.optimizer,
                **arms.where(fit, fit.design.places.index(cell.place)),
                "value": np.nan if value is None else value.value,
                "low": None if value is None else value.low,
                "high": None if value is None else value.high,
                "lr": None if cell.lr is None else cell.lr.value,
                "state": cell.state,
            }
        )
    return arms.finish(rows, tables, fit)


def draw(data: pd.DataFrame) -> Figure:
    """Lines, or dots where there is one place."""
    return _lines(data) if "place" in data else _dots(data)


def _lines(data: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(7.2, 4.0))
    axis = figure.subplots()
    found = arms.colours(data)
    edge = arms.worst(data, pd.concat([data["value"], data["low"], data["high"]]).dropna())
    span = max(float(np.ptp(data["position"])), 1.0)
    written: dict[float, int] = {}
    for i, (name, color) in enumerate(found.items()):
        rows = arms.of(data, name).sort_values("position")
        x = rows["position"] + APART * span * (i - (len(found) - 1) / 2)
        y = arms.clip(data, rows["value"], edge)
        axis.plot(x, y, color=color, ls=arms.dashes(i), marker=arms.marker(i), markersize=5, linewidth=1.4)
        _hollow(axis, x, y, rows, color, arms.marker(i))
        _bars(axis, x, rows, data, edge, color, "y")
        for index in _beyond(rows["value"], y):
            at = rows["position"][index]
            written[at] = written.get(at, -1) + 1
            right = at + APART * span * len(found) / 2  # of all markers there
            _write(axis, rows["value"][index], (right, y[index]), (4, -LINE * written[at]), color)
        gone = (rows["state"] == "diverged").to_numpy()
        if gone.any():
            axis.plot(x[gone], [edge] * gone.sum(), "x", color=color, markersize=7, markeredgewidth=2)
    arms.ticks(axis, data)
    axis.set_ylabel(arms.label(data))
    axis.margins(y=MARGIN)
    title = "bars: 95% interval" if data["low"].notna().any() else None
    axis.legend(handles=_handles(data), loc="center left", bbox_to_anchor=(1.0, 0.5), title=title)
    return figure


def _dots(data: pd.DataFrame) -> Figure:
    """The best at the top."""
    figure = Figure(figsize=(7.2, 1.3 + 0.36 * len(data)))
    axis = figure.subplots()
    edge = arms.worst(data, pd.concat([data["value"], data["low"], data["high"]]).dropna())
    ordered = data.sort_values("value", key=lambda column: column * sign(str(data["metric"].iloc[0])), kind="stable")
    found = arms.colours(data)
    for i, name in enumerate(map(plain, ordered["arm"])):
        rows, color = arms.of(data, name), found[name]
        x, y = arms.clip(data, rows["value"], edge), pd.Series(float(i), index=rows.index)
        axis.plot(x, y, "o", color=color, markersize=7)
        _hollow(axis, x, y, rows, color, "o")
        _bars(axis, y, rows, data, edge, color, "x")
        for index in _beyond(rows["value"], x):
            _write(axis, rows["value"][index], (x[index], y[index]), (7, 0), color)
        if (rows["state"] == "diverged").any():
            axis.plot(edge, i, "x", color=color, markersize=8, markeredgewidth=2)
    axis.set_yticks(range(len(data)), [plain(name) for name in ordered["arm"]])
    axis.set_ylim(len(data) - 0.5, -0.5)
    axis.set_xlabel(arms.label(data))
    axis.margins(x=MARGIN)
    shown = [handle for handle in _handles(data) if handle.get_label() not in set(map(plain, data["arm"]))]
    if shown:
        figure.legend(handles=shown, loc="outside lower center", ncols=2)
    return figure


def _hollow(axis: Axes, x: Any, y: Any, rows: pd.DataFrame, color: style.Colour, marker: str) -> None:
    ends = rows["state"].isin(EDGES).to_numpy()
    axis.plot(x[ends], y[ends], marker, color=color, markerfacecolor="white", markersize=5, zorder=3)


def _beyond(values: "pd.Series[float]", drawn: "pd.Series[float]") -> list[int]:
    """Index of the values that are drawn at the edge."""
    return list(values.index[(values != drawn) & values.notna()])


def _write(axis: Axes, value: float, at: tuple[float, float], shift: tuple[int, int], color: style.Colour) -> None:
    axis.annotate(f"{value:.2f}", at, shift, textcoords="offset points", color=color, va="center", fontsize=8)


def _bars(
    axis: Axes, at: Any, rows: pd.DataFrame, data: pd.DataFrame, edge: float, color: style.Colour, along: str
) -> None:
    low, high = (arms.clip(data, rows[end].astype(float), edge) for end in ("low", "high"))
    style.intervals(axis, at, low, high, along, color=color, linewidth=2)


def _handles(data: pd.DataFrame) -> list[Any]:
    states = set(data["state"])
    found: list[Any] = arms.handles(data)
    found += [arms.hollow("best ends its grid")] if states & set(EDGES) else []
    return found + ([arms.cross()] if "diverged" in states else [])


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name in arms.colours(data):
        rows = arms.of(data, name)
        values = [
            ("diverged" if pd.isna(row["value"]) else f"{row['value']:.3f}")
            + (f" at {plain(row['place'])}" if "place" in data else "")
            for row in rows.to_dict("records")
        ]
        parts.append(f"{name} {', '.join(values)}")
    return f"{title(data)}. {'; '.join(parts)}."

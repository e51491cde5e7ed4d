"""Best learning rate of every cell against its batch size, a line per token budget, and the fitted plane γ*(BS, T)."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.studies.batch_scaling.exponents import NEAR_BEST
from analysis.studies.batch_scaling.result import BatchScaling, OptimizerScaling
from analysis.tables.sweep import SweepTables

TITLE = "Best learning rate against batch size"
CAPTION = (
    "Hollow points are not resolved: the best rate ends its grid, or has a neighbour that diverged. The dotted lines "
    f"are one plane c·(B·S)^a·T^b, fitted to the resolved points within {NEAR_BEST:g} nats of their budget's lowest "
    "loss. Theory expects a = 1 and b = −1; the dashed grey line has slope 1."
)


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """Per optimizer and budget `tokens`: a row per cell (`kind` point, with its interval), two of the plane's line.

    `used`: the plane is fitted to it. The plane's rows have its exponents `a` of the batch and `b` of the budget.
    """
    rows: list[dict[str, Any]] = []
    for found in fit.optimizers:
        points = _points(found)
        rows += [{"optimizer": found.optimizer, **row} for row in [*points, *_plane(found, points)]]
    return pd.DataFrame(rows)


def _points(found: OptimizerScaling) -> list[dict[str, Any]]:
    lowest = {budget.tokens: budget.loss for budget in found.budgets}
    return [
        {
            "kind": "point",
            "tokens": cell.tokens,
            "batch_tokens": cell.batch_tokens,
            "lr": cell.lr.value,
            "low": cell.lr.low,
            "high": cell.lr.high,
            "resolved": cell.resolved,
            "used": cell.resolved and cell.loss.value <= lowest[cell.tokens] + NEAR_BEST,
        }
        for cell in found.cells
    ]


def _plane(found: OptimizerScaling, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The plane's line over every budget's batch sizes: it passes through the centre of the points it was fitted to."""
    exponents = {e.kind: e.estimate for e in found.exponents}
    a, b = exponents.get("plane_batch"), exponents.get("plane_budget")
    if a is None or b is None:
        return []
    used = pd.DataFrame([p for p in points if p["used"]])
    centre = np.log(used[["tokens", "batch_tokens", "lr"]].astype(float)).mean()
    rows = []
    for budget in found.budgets:
        seen = [p["batch_tokens"] for p in points if p["tokens"] == budget.tokens]
        growth = b.value * (np.log(budget.tokens) - centre["tokens"])
        for batch in (min(seen), max(seen)):
            log_lr = centre["lr"] + a.value * (np.log(batch) - centre["batch_tokens"]) + growth
            place = {"tokens": budget.tokens, "batch_tokens": batch, "lr": float(np.exp(log_lr))}
            rows.append({"kind": "plane", **place, "a": a.value, "b": b.value})
    return rows


def draw(data: pd.DataFrame) -> Figure:
    """A panel per optimizer; budgets from light (small) to dark (large)."""
    names = list(dict.fromkeys(data["optimizer"]))
    figure, axes, spare = style.panels(names, columns=2, size=(4.0, 3.8), legend_share=0.6, legend_height=0.7)
    for name, axis in axes.items():
        mine = data[data["optimizer"] == name]
        logs = style.log2(mine, "batch_tokens", "lr", "low", "high")
        for tokens, shade in style.budget_shades(name, mine["tokens"].unique()).items():
            _budget(axis, logs[logs["tokens"] == tokens], shade)
        _slope_one(axis, logs[logs["kind"] == "point"])
        style.name_panel(axis, name, _law(mine[mine["kind"] == "plane"]))
        axis.set_xlabel("tokens a step, B·S")
        style.log2_ticks(axis)
        style.log2_ticks(axis, "y")
    style.label_left(figure, axes, "best learning rate")
    style.legend(figure, spare, _handles(data))
    return figure


def _budget(axis: Axes, rows: pd.DataFrame, shade: style.Colour) -> None:
    points, plane = rows[rows["kind"] == "point"], rows[rows["kind"] == "plane"]
    axis.plot(plane["batch_tokens"], plane["lr"], ":", color=shade, linewidth=1.2)
    axis.plot(points["batch_tokens"], points["lr"], color=shade, linewidth=1.4)
    style.intervals(axis, points["batch_tokens"], points["low"], points["high"], color=shade, linewidth=1.6)
    for resolved, some in points.groupby(points["resolved"].astype(bool)):
        face = shade if resolved else "white"
        axis.plot(some["batch_tokens"], some["lr"], "o", color=shade, markersize=4.5, markerfacecolor=face)


def _law(plane: pd.DataFrame) -> str:
    if plane.empty:
        return ""
    a, b = plane["a"].iloc[0], plane["b"].iloc[0]
    return f"$\\gamma^* \\propto (B{{\\cdot}}S)^{{{a:.2f}}}\\,T^{{{b:.2f}}}$"


def _slope_one(axis: Axes, points: pd.DataFrame) -> None:
    """For the eye, from just below the largest budget's smallest batch."""
    largest = points[points["tokens"] == points["tokens"].max()].sort_values("batch_tokens")
    x = largest["batch_tokens"].iloc[[0, -1]].to_numpy()
    axis.plot(x, largest["lr"].iloc[0] - 0.5 + x - x[0], "--", color=style.GREY, linewidth=1, zorder=1)


def _handles(data: pd.DataFrame) -> list[Line2D]:
    mark = partial(Line2D, [], [], linestyle="", color=style.GREY, marker="o", markersize=4.5)
    points = data[data["kind"] == "point"]
    handles = [
        *style.budget_handles(data["tokens"].unique()),
        mark(label="best rate, 95% interval" if points["low"].notna().any() else "best rate"),
    ]
    if not points["resolved"].all():
        handles.append(mark(markerfacecolor="white", label="not resolved"))
    if (data["kind"] == "plane").any():
        handles.append(Line2D([], [], color=style.GREY, linestyle=":", label="fitted plane"))
    return [*handles, Line2D([], [], color=style.GREY, linestyle="--", linewidth=1, label="slope 1")]


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("optimizer", sort=False):
        plane, points = rows[rows["kind"] == "plane"], rows[rows["kind"] == "point"]
        law = "no plane could be fitted"
        if len(plane):
            a, b = plane["a"].iloc[0], plane["b"].iloc[0]
            law = f"the fitted plane has exponent {a:.2f} in the batch and {b:.2f} in the budget"
        low, high = (style.power_of_two(end, plain=True) for end in (points["lr"].min(), points["lr"].max()))
        parts.append(f"{name}: best learning rates from {low} to {high} over {len(points)} cells, {law}")
    return f"Best learning rate against tokens a step on logarithmic axes, a line per token budget. {'; '.join(parts)}."

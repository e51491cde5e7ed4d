"""Loss at the best learning rate against tokens a step, a line per token budget: the U-shapes of batch scaling."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.fits.profile import TOLERANCE
from analysis.studies.batch_scaling.result import BatchScaling, BudgetOptimum, CellOptimum, OptimizerScaling
from analysis.studies.batch_scaling.surface import Surface
from analysis.tables.sweep import SweepTables

TITLE = "Loss against batch size"
CAPTION = (
    f"Every point is one budget and batch at its best learning rate. Stars mark the best batch BS* with its interval, "
    f"triangles the largest batch BS° that costs less than {TOLERANCE:.0%} of what is left to gain. Points on a thick "
    "pale line cannot be told apart from their budget's best. The thin dashed lines are the theory's three regimes as "
    "one smooth surface, fitted to all points; which of them rules at the largest budget is written below it. Steeper "
    "ends leave the frame."
)
HEADROOM = 0.3  # nats above the smallest budget's lowest loss that the scale shows
FOOTROOM = 0.14  # of the scale, below the lowest loss, for the names of the regimes
REGIMES = ("noisy", "flat", "starved")
SHORTEST = 0.7  # octaves: a regime seen over less than this gets no name
POINTS = 65  # of a line of the surface


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """Rows of five kinds, per optimizer and budget (`tokens`), with tokens a step `batch_tokens` and loss `loss`.

        point     a cell; `low` and `high` are its loss's interval
        best      BS*, at the lowest loss; `low` and `high` are the batch's interval
        largest   BS°, likewise, at its own loss
        surface   the smooth surface with a free exponent, over the optimizer's batch sizes
        regime    which term of the surface is largest from `low` to `high`, at the largest budget

    Empty if no budget was trained with several batch sizes.
    """
    rows: list[dict[str, Any]] = []
    for found in fit.optimizers:
        tokens = [cell.tokens for cell in found.cells]
        if len(set(tokens)) == len(tokens):
            continue
        described = [_cell(cell) for cell in found.cells]
        described += [row for budget in found.budgets for row in _optima(budget)]
        if found.surfaces:
            described += [*_surface(found, found.surfaces[-1]), *_regimes(found, found.surfaces[-1])]
        rows += [{"optimizer": found.optimizer, **row} for row in described]
    return pd.DataFrame(rows)


def _cell(cell: CellOptimum) -> dict[str, Any]:
    return {
        "kind": "point",
        "tokens": cell.tokens,
        "batch_tokens": cell.batch_tokens,
        "loss": cell.loss.value,
        "low": cell.loss.low,
        "high": cell.loss.high,
        "resolved": cell.resolved,
        "tied": cell.tied,
        "n_seeds": cell.n_seeds,
    }


def _optima(budget: BudgetOptimum) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "tokens": budget.tokens,
            "batch_tokens": at.value,
            "loss": loss,
            "low": at.low,
            "high": at.high,
            "resolved": not at_edge,
        }
        for kind, at, loss, at_edge in (
            ("best", budget.batch, budget.loss, budget.batch_at_edge),
            ("largest", budget.largest, budget.loss + budget.tolerance, budget.largest_at_edge),
        )
    ]


def _surface(found: OptimizerScaling, surface: Surface) -> list[dict[str, Any]]:
    rows = []
    for budget in found.budgets:
        seen = [cell.batch_tokens for cell in found.cells if cell.tokens == budget.tokens]
        batches = np.geomspace(min(seen), max(seen), POINTS)
        losses = surface.loss(np.full(POINTS, budget.tokens), batches)
        rows += [
            {"kind": "surface", "tokens": budget.tokens, "batch_tokens": batch, "loss": loss}
            for batch, loss in zip(batches, losses, strict=True)
        ]
    return rows


def _regimes(found: OptimizerScaling, surface: Surface) -> list[dict[str, Any]]:
    """Where each term of the surface is the largest at the largest budget, as far as it was measured."""
    tokens = max(budget.tokens for budget in found.budgets)
    seen = [cell.batch_tokens for cell in found.cells if cell.tokens == tokens]
    noise_ends, starvation_begins = surface.bs1.value, surface.bs2_last.value
    if noise_ends > starvation_begins:  # noise passes into starvation: their terms cross between the corners
        noise_ends = starvation_begins = noise_ends ** (1 / 7) * starvation_begins ** (6 / 7)
    ends = np.clip([0.0, noise_ends, starvation_begins, np.inf], min(seen), max(seen))
    return [
        {"kind": "regime", "tokens": tokens, "label": name, "low": low, "high": high}
        for name, low, high in zip(REGIMES, ends[:-1], ends[1:], strict=True)
        if np.log2(high / low) >= SHORTEST
    ]


def draw(data: pd.DataFrame) -> Figure:
    """A panel per optimizer; budgets from light (small) to dark (large)."""
    points = data[data["kind"] == "point"]
    lowest = points.groupby(["optimizer", "tokens"])["loss"].min()
    top, bottom = lowest.max() + HEADROOM, lowest.min()
    bottom -= FOOTROOM * (top - bottom)
    names = list(dict.fromkeys(data["optimizer"]))
    figure, axes, spare = style.panels(names, columns=2, size=(4.3, 4.4), legend_share=0.55, legend_height=1.0)
    for name, axis in axes.items():
        mine = data[data["optimizer"] == name]
        for tokens, shade in style.budget_shades(name, mine["tokens"].unique()).items():
            _budget(axis, mine[mine["tokens"] == tokens], shade)
        axis.set_ylim(bottom, top)
        _name_regimes(axis, mine[mine["kind"] == "regime"])
        axis.set_title(name, color=style.colour(name), fontweight="bold")
        axis.set_xlabel("tokens a step, B·S")
        style.log2_ticks(axis)
    style.label_left(figure, axes, "loss at the best learning rate (nats)")
    style.legend(figure, spare, _handles(data))
    return figure


def _budget(axis: Axes, rows: pd.DataFrame, shade: style.Colour) -> None:
    rows = style.log2(rows, "batch_tokens")
    points = rows[rows["kind"] == "point"]
    surface = rows[rows["kind"] == "surface"]
    style.ties(axis, points, "batch_tokens", "loss", shade)
    axis.plot(surface["batch_tokens"], surface["loss"], "--", color=shade, linewidth=0.8)
    axis.plot(points["batch_tokens"], points["loss"], color=shade, linewidth=1.4)
    style.intervals(axis, points["batch_tokens"], points["low"], points["high"], color=shade, linewidth=1)
    for resolved, some in points.groupby(points["resolved"].astype(bool)):
        face = shade if resolved else "white"
        axis.plot(some["batch_tokens"], some["loss"], "o", color=shade, markersize=4, markerfacecolor=face)
    for kind, marker, size in (("largest", "^", 7), ("best", "*", 12)):
        for row in rows[rows["kind"] == kind].to_dict("records"):
            face = shade if row["resolved"] else "white"
            axis.plot(
                row["batch_tokens"],
                row["loss"],
                marker,
                markersize=size,
                markerfacecolor=face,
                markeredgecolor="black",
                zorder=5,
            )
    best = style.log2(rows[rows["kind"] == "best"], "low", "high")
    style.intervals(axis, best["loss"], best["low"], best["high"], along="x", color="black", linewidth=1.8, zorder=4)


def _name_regimes(axis: Axes, rows: pd.DataFrame) -> None:
    """A bar over each regime's batches at the foot of the panel, and its name on it."""
    bottom, top = axis.get_ylim()
    y = bottom + 0.07 * (top - bottom)
    for row in rows.to_dict("records"):
        low, high = np.log2(row["low"]), np.log2(row["high"])
        axis.plot([low + 0.08, high - 0.08], [y, y], color=style.GREY, linewidth=1, marker="|", markersize=5)
        axis.text(
            (low + high) / 2, y - 0.012 * (top - bottom), row["label"], color="#555555", fontsize=8, style="italic",
            ha="center", va="top",
        )  # fmt: skip


def _handles(data: pd.DataFrame) -> list[Line2D]:
    mark = partial(Line2D, [], [], linestyle="", color=style.GREY)
    points = data[data["kind"] == "point"]
    known = points["low"].notna().any()
    handles = [
        *style.budget_handles(data["tokens"].unique()),
        mark(marker="o", markersize=4, label="cell, 95% interval" if known else "cell"),
    ]
    if not points["resolved"].all():
        label = "learning rate not resolved\n(grid's edge, divergence)"
        handles.append(mark(marker="o", markersize=4, markerfacecolor="white", label=label))
    handles += [
        mark(marker="*", markersize=12, markeredgecolor="black", label="best batch BS*"),
        mark(marker="^", markersize=7, markeredgecolor="black", label="largest without loss BS°"),
    ]
    if not data.loc[data["kind"].isin(["best", "largest"]), "resolved"].all():
        handles.append(
            mark(
                marker="*", markersize=12, markeredgecolor="black", markerfacecolor="white", label="at the grid's edge"
            )
        )
    if points["tied"].eq(True).any():
        handles.append(style.tie_handle())
    if (data["kind"] == "surface").any():
        handles.append(Line2D([], [], color=style.GREY, linestyle="--", linewidth=0.8, label="fitted regimes"))
    return handles


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("optimizer", sort=False):
        places = ", ".join(
            f"{style.power_of_two(r['batch_tokens'], plain=True)} at {style.power_of_two(r['tokens'], plain=True)} "
            f"tokens (loss {r['loss']:.2f})"
            for r in rows[rows["kind"] == "best"].to_dict("records")
        )
        regimes = ", ".join(
            f"{r['label']} from {style.power_of_two(r['low'], plain=True)} "
            f"to {style.power_of_two(r['high'], plain=True)}"
            for r in rows[rows["kind"] == "regime"].to_dict("records")
        )
        ending = f"; the fitted surface at the largest budget is {regimes}" if regimes else ""
        parts.append(f"{name}: lowest at a batch of {places}{ending}")
    return f"Loss against tokens a step, a line per token budget. {'. '.join(parts)}."

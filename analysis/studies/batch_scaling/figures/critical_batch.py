"""Tokens to a target loss against the batch size, with the fitted law and its critical batch size."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.fits.intervals import with_interval
from analysis.laws.critical_batch import CriticalBatch
from analysis.studies.batch_scaling.result import BatchScaling
from analysis.tables.arrays import Floats
from analysis.tables.sweep import SweepTables

TITLE = "Tokens to a target loss against the batch size"
CAPTION = (
    "The line is T_min (1 + B/B_crit); the star marks B_crit, which needs twice T_min, with its 95% interval. There is "
    "none where B_crit lies far outside the batch sizes. Hollow points need more tokens than larger batches, which the "
    "law does not know: they are left out of the fit. Numbers are the target losses."
)
POINT, FIT = "point", "fit"


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """`of_fits` of every optimizer's critical batch size."""
    return of_fits((found.optimizer, found.critical) for found in fit.optimizers if found.critical)


def of_fits(fits: Iterable[tuple[str, CriticalBatch]]) -> pd.DataFrame:
    """From (optimizer, fit): one row per batch size that reaches a target (`kind` point), one per target (`kind` fit).

    Batch sizes, `batch_crit` and its interval, `tokens` and `tokens_min` are in tokens, targets in nats per token.
    """
    parts = []
    for optimizer, found in fits:
        points = pd.DataFrame(
            {"target": r.target, "batch_tokens": r.batch_tokens, "tokens": r.tokens, "used": r.used}
            for r in found.reached
            if r.tokens is not None
        )
        if not points.empty:
            parts.append(points.assign(kind=POINT, optimizer=optimizer))
            parts.append(found.frame().dropna(subset=["batch_crit"]).assign(kind=FIT, optimizer=optimizer))
    if not parts:
        return pd.DataFrame()
    # As objects: pandas means to change what an empty or all-missing column does to the type of the others.
    data = pd.concat([part.astype(object) for part in parts], ignore_index=True)
    return data.infer_objects()


def draw(data: pd.DataFrame) -> Figure:
    """A panel per optimizer; lower targets are darker."""
    figure, axes, spare = style.panels(list(dict.fromkeys(data["optimizer"])), legend_share=0.75)
    for name, axis in axes.items():
        mine = data[data["optimizer"] == name]
        targets = sorted(mine["target"].unique(), reverse=True)
        for target, shade in zip(targets, style.shades(style.colour(name), len(targets)), strict=True):
            rows = mine[mine["target"] == target]
            _target(axis, rows[rows["kind"] == POINT].sort_values("batch_tokens"), rows[rows["kind"] == FIT], shade)
        axis.set_title(name, color=style.colour(name), fontweight="bold")
        style.log2_ticks(axis)
        style.log2_ticks(axis, "y")
        axis.set_xlabel("tokens a step, B·S")
        axis.margins(x=0.12)
    style.label_left(figure, axes, "tokens to the target loss")
    style.legend(figure, spare, _handles())
    return figure


def _target(axis: Axes, points: pd.DataFrame, fits: pd.DataFrame, color: style.Colour) -> None:
    x = np.log2(points["batch_tokens"].to_numpy(dtype=float))
    y = np.log2(points["tokens"].to_numpy(dtype=float))
    # Where nothing was fitted, no point was left out of a fit.
    used = points["used"].eq(True).to_numpy() | fits.empty
    axis.plot(x[used], y[used], "o", color=color, markersize=4.5)
    axis.plot(x[~used], y[~used], "o", color=color, markersize=4.5, markerfacecolor="white")
    resolved = fits[fits["status"] == "ok"]
    if not resolved.empty:
        _law(axis, resolved.iloc[0], x[used], color)
    label = f"{points['target'].iloc[0]:.2f}"
    axis.annotate(label, (x[-1], y[-1]), xytext=(5, 0), textcoords="offset points", color=color, va="center", size=8)


def _law(axis: Axes, fit: pd.Series, x: Floats, color: style.Colour) -> None:
    """The line over the batch sizes fitted, and the star with its bar."""
    crit, low = float(fit["batch_crit"]), float(fit["tokens_min"])
    line = np.linspace(x.min(), x.max(), 65)
    axis.plot(line, np.log2(low * (1 + 2**line / crit)), color=color, linewidth=1.3)
    at, height = np.log2(crit), np.log2(2 * low)
    axis.plot(at, height, "*", markersize=9, color=color, markeredgecolor="black", markeredgewidth=0.7, zorder=5)
    if pd.notna(fit["batch_crit_low"]):
        ends = np.log2(float(fit["batch_crit_low"])), np.log2(float(fit["batch_crit_high"]))
        axis.hlines(height, *ends, color="black", linewidth=2.2, zorder=4)


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=style.GREY, marker="o", markersize=4.5, label="measured, and the law"),
        Line2D([], [], color=style.GREY, marker="o", linestyle="", markerfacecolor="white", label="left out"),
        Line2D(
            [], [], color=style.GREY, marker="*", linestyle="", markersize=9, markeredgecolor="black",
            label="$B_{crit}$, 95% interval",
        ),
    ]  # fmt: skip


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data[data["kind"] == FIT].groupby("optimizer", sort=False):
        found = [_words(row) for row in rows.to_dict("records")]
        parts.append(f"{name}: {', '.join(found)}")
    return (
        f"Tokens to a target loss against the batch size. Critical batch size in tokens: {'; '.join(parts) or 'none'}."
    )


def _words(row: Mapping[Hashable, Any]) -> str:
    if row["status"] != "ok":
        return f"not resolved at loss {row['target']:.2f}"
    low, high = (None if pd.isna(row[end]) else float(row[end]) for end in ("batch_crit_low", "batch_crit_high"))
    return f"{with_interval(float(row['batch_crit']), low, high, ',.0f')} at loss {row['target']:.2f}"

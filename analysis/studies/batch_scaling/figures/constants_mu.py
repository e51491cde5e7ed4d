"""Dual norm of the full gradient against the loss: the slope of its line is μ."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.fits.intervals import with_interval
from analysis.laws.constants import huber_line, probes_of
from analysis.studies.batch_scaling.result import BatchScaling, OptimizerScaling
from analysis.tables.same import same_budget
from analysis.tables.sweep import SweepTables

TITLE = "Size of the gradient against the loss"
CAPTION = (
    "Theory needs ‖∇f‖_* ≥ μ(f − f⋆). Every point is a probe of a run: the loss of a fixed set of windows and the dual "
    "norm of its gradient. Lines are robust fits (Huber) to the late probes, the filled ones, per run; the dashed line "
    "is the one through all of them, and its slope is μ. A run whose own line does not rise for sure did not show the "
    "condition; its μ is then that of the line through the fitted surface's floor."
)


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """Per optimizer: a row per probe (`kind` probe, with its run, `budget` and `late`), two per line of `slope`.

    Lines are of a run (`kind` run) or of all runs together (`kind` all, with the interval of the slope), from the
    lowest to the highest loss of their late probes. Empty where nothing was probed.
    """
    rows = probes_of(tables.runs, tables.probes)
    if rows.empty:
        return rows
    rows = rows[rows["probe_seq_len"] == rows["seq_len"]].drop_duplicates(["trial_id", "step"])
    rows = rows.assign(budget=same_budget(rows["budget"].astype(float)))
    found = [_optimizer(o, rows) for o in fit.optimizers if o.constants is not None]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _optimizer(found: OptimizerScaling, probes: pd.DataFrame) -> pd.DataFrame:
    constants = found.constants
    ids = [run.trial_id for run in constants.runs] if constants else []
    columns = ["trial_id", "budget", "step", "probe_loss", "grad_dual", "late"]
    mine = probes.loc[probes["trial_id"].isin(ids), columns].assign(kind="probe")
    late = mine[mine["late"]]
    lines: list[dict[str, Any]] = []
    for (name, budget), rows in late.groupby(["trial_id", "budget"], sort=True):
        lines += _line(rows, {"kind": "run", "trial_id": name, "budget": budget})
    if constants is not None and constants.mu is not None:
        lines += _line(late, {"kind": "all", "slope_low": constants.mu.low, "slope_high": constants.mu.high})
    return pd.concat([mine, pd.DataFrame(lines)], ignore_index=True).assign(optimizer=found.optimizer)


def _line(rows: pd.DataFrame, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The robust line at both ends of its probes; none through fewer than three losses, as in the fit."""
    x, y = rows["probe_loss"].to_numpy(float), rows["grad_dual"].to_numpy(float)
    if len(np.unique(x)) < 3:
        return []
    slope, intercept = huber_line(x, y)
    ends = (x.min(), x.max())
    return [{**about, "probe_loss": end, "grad_dual": intercept + slope * end, "slope": slope} for end in ends]


def draw(data: pd.DataFrame) -> Figure:
    """A panel per optimizer; budgets from light (small) to dark (large)."""
    names = list(dict.fromkeys(data["optimizer"]))
    figure, axes, spare = style.panels(names, columns=2, size=(4.0, 3.8), legend_share=0.6, legend_height=0.7)
    for name, axis in axes.items():
        mine = data[data["optimizer"] == name]
        shades = style.budget_shades(name, mine["budget"].dropna().unique())
        for budget, shade in shades.items():
            _budget(axis, mine[mine["budget"] == budget], shade)
        line = mine[mine["kind"] == "all"]
        axis.plot(line["probe_loss"], line["grad_dual"], "--", color="black", linewidth=1.3)
        style.name_panel(axis, name, f"μ = {_slope(line)}" if len(line) else "")
        axis.set_xlabel("loss of the probed windows, f (nats)")
    style.label_left(figure, axes, "dual norm of the gradient, ‖∇f‖$_*$")
    style.legend(figure, spare, _handles(data))
    return figure


def _budget(axis: Axes, rows: pd.DataFrame, shade: style.Colour) -> None:
    probes = rows[rows["kind"] == "probe"]
    for late, some in probes.groupby(probes["late"].astype(bool)):
        face = shade if late else "white"
        axis.plot(some["probe_loss"], some["grad_dual"], "o", color=shade, markersize=4, markerfacecolor=face)
    for _, line in rows[rows["kind"] == "run"].groupby("trial_id"):
        axis.plot(line["probe_loss"], line["grad_dual"], color=shade, linewidth=1)


def _slope(line: pd.DataFrame) -> str:
    """With its interval, as far as it is known."""
    first = line.iloc[0]
    known = pd.notna(first["slope_low"])
    low, high = (first[end] if known else None for end in ("slope_low", "slope_high"))
    return with_interval(first["slope"], low, high, ".2f").replace("-", "−")


def _handles(data: pd.DataFrame) -> list[Line2D]:
    mark = partial(Line2D, [], [], linestyle="", marker="o", markersize=4, color=style.GREY)
    handles = [
        *style.budget_handles(data["budget"].dropna().unique()),
        mark(label="late probe"),
        mark(markerfacecolor="white", label="early probe"),
    ]
    if (data["kind"] == "all").any():
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1.3, label="all late probes: μ"))
    return handles


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("optimizer", sort=False):
        probes, line = rows[rows["kind"] == "probe"], rows[rows["kind"] == "all"]
        slope = f"μ = {_slope(line)}" if len(line) else "too few late probes for a line"
        parts.append(f"{name}: {slope}, from {len(probes)} probes of {probes['trial_id'].nunique()} runs")
    return f"Dual norm of the gradient against the loss during training. {'; '.join(parts)}."

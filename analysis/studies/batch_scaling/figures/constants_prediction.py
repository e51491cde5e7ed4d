"""Batch sizes predicted from constants that were measured during training, against those that a sweep found."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.laws.constants import Constants, RunConstants
from analysis.studies.batch_scaling.result import BatchScaling, OptimizerScaling
from analysis.tables.sweep import SweepTables

TITLE = "Batch size predicted from measured constants"
CAPTION = (
    "Theory: starvation begins at BS₂ = c·(T·μκσ⋆/L)^(2/3), c unknown. The line is what any one run's constants "
    "predict, with the c that fits the triangles best; each run's own c is all it can choose, so the lines of all runs "
    "are one. Diamonds test more: every run's own constants at its own budget, with one c for all runs. Were the "
    "constants' changes explained, they would lie on the triangles. Bars are 95% intervals."
)


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """Per optimizer, tokens a step at budgets `tokens`, of four kinds.

        measured    the largest batch without loss BS° (what c is fitted to), and
        best        the best batch BS*, both with intervals and `resolved`
        predicted   from the constants of run `trial_id`, times its own `constant`, with the `error` left in octaves
        own         from run `trial_id` at its own budget, times the geometric mean of all runs' constants

    Empty where no run's constants predict anything.
    """
    rows: list[dict[str, Any]] = []
    for found in fit.optimizers:
        if found.constants is not None and found.constants.predictions:
            described = [*_measured(found), *_predicted(found.constants), *_own(found.constants)]
            rows += [{"optimizer": found.optimizer, **row} for row in described]
    return pd.DataFrame(rows)


def _measured(found: OptimizerScaling) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "tokens": budget.tokens,
            "batch_tokens": at.value,
            "low": at.low,
            "high": at.high,
            "resolved": not at_edge,
        }
        for budget in found.budgets
        for kind, at, at_edge in (
            ("measured", budget.largest, budget.largest_at_edge),
            ("best", budget.batch, budget.batch_at_edge),
        )
    ]


def _predicted(constants: Constants) -> list[dict[str, Any]]:
    return [
        {
            "kind": "predicted",
            "trial_id": prediction.trial_id,
            "tokens": tokens,
            "batch_tokens": batch,
            "constant": prediction.constant,
            "error": prediction.error,
        }
        for prediction in constants.predictions
        for tokens, batch in zip(prediction.tokens, prediction.batch_tokens, strict=True)
    ]


def _own(constants: Constants) -> list[dict[str, Any]]:
    if constants.shared is None:
        return []
    return [
        {
            "kind": "own",
            "trial_id": run.trial_id,
            "tokens": run.tokens,
            "batch_tokens": constants.shared.constant * _corner(run),
            "constant": constants.shared.constant,
            "error": constants.shared.error,
        }
        for run in constants.runs
        if run.drive
    ]


def _corner(run: RunConstants) -> float:
    """(T μκσ⋆/L)^(2/3) at the run's own budget."""
    return float((run.tokens * (run.drive or np.nan)) ** (2 / 3))


def draw(data: pd.DataFrame) -> Figure:
    """A panel per optimizer, logarithmic."""
    names = list(dict.fromkeys(data["optimizer"]))
    figure, axes, spare = style.panels(names, columns=2, size=(4.0, 3.8), legend_share=0.7, legend_height=0.7)
    for name, axis in axes.items():
        mine = data[data["optimizer"] == name]
        _panel(axis, mine, style.colour(name))
        style.name_panel(axis, name, _constants(mine))
        axis.set_xlabel("token budget T")
        style.log2_ticks(axis)
        style.log2_ticks(axis, "y")
    style.label_left(figure, axes, "tokens a step, B·S")
    style.legend(figure, spare, _handles(data))
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, color: style.Colour) -> None:
    logs = style.log2(rows, "tokens", "batch_tokens", "low", "high")
    for _, line in logs[logs["kind"] == "predicted"].groupby("trial_id"):
        axis.plot(line["tokens"], line["batch_tokens"], color="black", linewidth=1)
    own = logs[logs["kind"] == "own"]
    axis.plot(own["tokens"], own["batch_tokens"], "D", color="black", markersize=5, markerfacecolor="none")
    for kind, marker, size, shift in (("measured", "^", 7, 0.025), ("best", "*", 11, -0.025)):
        points = logs[logs["kind"] == kind]
        style.intervals(axis, points["tokens"] + shift, points["low"], points["high"], color=color, linewidth=1.6)
        for resolved, some in points.groupby(points["resolved"].astype(bool)):
            face = color if resolved else "white"
            x = some["tokens"] + shift
            axis.plot(x, some["batch_tokens"], marker, markersize=size, color=color, markerfacecolor=face)


def _constants(rows: pd.DataFrame) -> str:
    """The runs' constants and the error of their line, which is one and the same for all."""
    runs = rows[rows["kind"] == "predicted"].drop_duplicates("trial_id")
    low, high = runs["constant"].min(), runs["constant"].max()
    values = f"{low:.2g}" if len(runs) == 1 else f"{low:.2g} to {high:.2g}"
    return f"{len(runs)} run{'s' * (len(runs) > 1)}: c = {values}, rms {runs['error'].iloc[0]:.2f} octaves"


def _handles(data: pd.DataFrame) -> list[Line2D]:
    mark = partial(Line2D, [], [], linestyle="", color=style.GREY)
    handles = [
        mark(marker="^", markersize=7, label="largest without loss BS°"),
        mark(marker="*", markersize=11, label="best batch BS*"),
        Line2D([], [], color="black", linewidth=1, label="one run's constants, own c"),
        mark(marker="D", markersize=5, markerfacecolor="none", color="black", label="every run's constants, one c"),
    ]
    if not data.loc[data["kind"].isin(["measured", "best"]), "resolved"].astype(bool).all():
        handles.append(mark(marker="^", markersize=7, markerfacecolor="white", label="at the grid's edge"))
    return handles


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = [f"{name}: {_constants(rows)}" for name, rows in data.groupby("optimizer", sort=False)]
    return f"Batch size against the token budget, predicted from measured constants and measured. {'; '.join(parts)}."

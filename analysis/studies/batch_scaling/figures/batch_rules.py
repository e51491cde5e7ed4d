"""What each rule's prediction for the largest budget costs, in nats above the best measured cell there."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.studies.batch_scaling.regret import Contest
from analysis.studies.batch_scaling.result import BatchScaling
from analysis.tables.sweep import SweepTables

TITLE = "Rules on a budget they have not seen"
CAPTION = (
    "Each rule starts from the optimum of the next smaller budget (the fitted power law from all others), predicts "
    "batch and learning rate, and is charged what the measured loss there lies above the best measured cell. An arrow "
    "means at least that much: the prediction lies outside what was measured. Grey marks hold out other budgets."
)
WIDEST = 0.2  # nats: what costs more is drawn at the right edge
NARROWEST = 0.01
ROOM = 0.24  # of the scale, at its right, for the numbers


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """One row per optimizer, held-out budget and rule, the forward contest's (the largest budget's) by regret first."""
    rows: list[dict[str, Any]] = []
    for found in fit.optimizers:
        if found.forward is not None:
            others = [contest for contest in found.contests if contest is not found.forward]
            for contest in (found.forward, *others):
                rows += [{"optimizer": found.optimizer, **row} for row in _scores(contest, contest is found.forward)]
    return pd.DataFrame(rows)


def _scores(contest: Contest, forward: bool) -> list[dict[str, Any]]:
    return [
        {
            "held_out_tokens": contest.tokens,
            "anchor_tokens": contest.anchor,
            "forward": forward,
            "rule": score.rule,
            "title": score.title,
            "batch_tokens": score.batch_tokens.value,
            "lr": score.lr.value,
            "regret": score.regret.value,
            "low": score.regret.low,
            "high": score.regret.high,
            "outside": score.outside,
            "winner": contest.winner == score.rule,
            "why": contest.why,
        }
        for score in contest.scores
    ]


def draw(data: pd.DataFrame) -> Figure:
    """A row of panels per optimizer, the rules by regret."""
    names = list(dict.fromkeys(data["optimizer"]))
    lines = [int(data[(data["optimizer"] == name) & data["forward"]].shape[0]) for name in names]
    figure = Figure(figsize=(7.6, 0.42 * sum(lines) + 1.1 * len(names) + 0.4))
    axes = figure.subplots(len(names), 1, squeeze=False, height_ratios=lines).ravel()
    finite = pd.concat([data["regret"], data.loc[data["forward"], "high"]]).astype(float)
    right = float(np.clip(1.05 * finite[np.isfinite(finite)].max(), NARROWEST, WIDEST))
    left = data.loc[data["forward"], ["regret", "low"]].astype(float).min().min()
    scale = (min(left, 0.0) - 0.03 * right, right)
    for name, axis in zip(names, axes, strict=True):
        _panel(axis, data[data["optimizer"] == name], style.colour(name), scale)
        axis.set_title(name, color=style.colour(name), fontweight="bold", loc="left")
    axes[-1].set_xlabel("regret (nats above the best measured cell)")
    figure.legend(handles=_handles(data), loc="outside lower center", ncols=3)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, color: style.Colour, scale: tuple[float, float]) -> None:
    left, right = scale
    forward = rows[rows["forward"]].reset_index(drop=True)
    place = {rule: y for y, rule in enumerate(forward["rule"])}
    axis.axvline(0, color="black", linewidth=0.8)
    others = rows[~rows["forward"]]
    for tokens, shade in zip(sorted(others["held_out_tokens"].unique()), _other_shades(others), strict=True):
        some = others[(others["held_out_tokens"] == tokens) & others["rule"].isin(place)]
        for bound, rest in some.groupby(some["outside"] | (some["regret"] > right)):
            marker, x = ">" if bound else "o", rest["regret"].clip(upper=right)
            axis.plot(x, rest["rule"].map(place) + 0.25, marker, color=shade, markersize=3.5)
    low, high = (forward[end].astype(float).clip(upper=right) for end in ("low", "high"))
    style.intervals(axis, forward.index.to_series(), low, high, along="x", color=color, linewidth=2)
    for y, row in enumerate(forward.to_dict("records")):
        at = min(row["regret"], right)
        bound = row["outside"] or row["regret"] > right
        axis.plot(at, y, ">" if bound else "o", color=color, markersize=7 if bound else 6)
        axis.text(right * 1.04, y, _cost(row), va="center", fontsize=8.5, fontweight="bold" if row["winner"] else None)
    axis.set_yticks(range(len(forward)), [f"{r['rule']}\n{r['title']}" for r in forward.to_dict("records")], fontsize=8)
    axis.set_ylim(len(forward) - 0.4, -0.6)
    axis.grid(False, axis="y")
    axis.set_xlim(left, (1 + ROOM) * right)
    axis.set_xticks([tick for tick in axis.get_xticks() if left <= tick <= right * 1.001])


def _other_shades(others: pd.DataFrame) -> list[tuple[float, float, float]]:
    """Greys from pale to middle, for the other budgets in order."""
    return style.shades("#AAAAAA", others["held_out_tokens"].nunique())


def _cost(row: Any) -> str:
    if not np.isfinite(row["regret"]):
        return "diverges"
    return f"{'≥ ' if row['outside'] else ''}{row['regret']:.4f}{' wins' if row['winner'] else ''}"


def _handles(data: pd.DataFrame) -> list[Line2D]:
    mark = partial(Line2D, [], [], linestyle="", color=style.GREY)
    largest = style.power_of_two(data["held_out_tokens"].max())
    forward, others = data[data["forward"]], data[~data["forward"]]
    text = f"held out T = {largest}" + (", 95% interval" if forward["low"].notna().any() else "")
    handles = [mark(marker="o", markersize=6, label=text)]
    if data["outside"].any() or (data["regret"] > WIDEST).any():
        handles.append(mark(marker=">", markersize=7, label=f"at least, or beyond {WIDEST:g} nats"))
    for tokens, shade in zip(sorted(others["held_out_tokens"].unique()), _other_shades(others), strict=True):
        text = f"held out T = {style.power_of_two(tokens)}"
        handles.append(mark(marker="o", markersize=3.5, color=shade, label=text))
    return handles


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data[data["forward"]].groupby("optimizer", sort=False):
        costs = ", ".join(f"{r['rule']} {_cost(r).removesuffix(' wins')}" for r in rows.to_dict("records"))
        held_out = style.power_of_two(rows["held_out_tokens"].iloc[0], plain=True)
        parts.append(f"{name} at {held_out} tokens: {costs} ({rows['why'].iloc[0]})")
    return f"Regret of each rule in nats on the largest budget, lowest first. {'; '.join(parts)}."

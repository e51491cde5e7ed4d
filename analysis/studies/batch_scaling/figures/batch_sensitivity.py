"""The exponents of the batch and of the learning rate when one choice of the fit is made otherwise."""

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.fits.intervals import Estimate
from analysis.studies.batch_scaling.result import BatchScaling
from analysis.tables.sweep import SweepTables

TITLE = "Exponents under other choices"
CAPTION = (
    "Bars are 95% intervals; some go on beyond the frame. An exponent that depends on how the best batch is read off "
    "the profiles is not yet measured, whatever its interval. On a smooth surface of the theory's three regimes the "
    "lowest loss follows 4/7 = 0.571, and the largest batch without loss 2/3. Lines without a point have fewer than "
    "two budgets whose optimum is inside its grid."
)
PANELS = {"batch": "exponent of the batch in T", "lr": "exponent of the learning rate in T"}
# Value, name and line style of what others expect.
REFERENCES = {
    "batch": (("2/3 (bst)", 2 / 3, "-"), ("0.571 (steplaw)", 0.571, "--"), ("0.45 (norm)", 0.45, ":")),
    "lr": (("−1/3 (bst)", -1 / 3, "-"),),
}
WIDEST = 1.2  # beyond the points' own range the scale follows the intervals this far


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """One row per optimizer, choice and `panel` (batch, lr): the exponent with its interval.

    It is missing where a choice leaves fewer than two budgets resolved; empty if it is missing everywhere.
    """
    rows: list[dict[str, Any]] = []
    for found in fit.optimizers:
        for line in found.sensitivity:
            about = {"optimizer": found.optimizer, "choice": line.choice}
            rows += [{**about, **_exponent(panel, at)} for panel, at in (("batch", line.batch), ("lr", line.lr))]
    known = [row for row in rows if row["exponent"] is not None]
    return pd.DataFrame(rows).astype(dict.fromkeys(("exponent", "low", "high"), float)) if known else pd.DataFrame()


def _exponent(panel: str, at: Estimate | None) -> dict[str, Any]:
    value, low, high = (None, None, None) if at is None else (at.value, at.low, at.high)
    return {"panel": panel, "exponent": value, "low": low, "high": high}


def draw(data: pd.DataFrame) -> Figure:
    """Two panels on the same choices; optimizers are set apart within a choice."""
    choices, names = list(dict.fromkeys(data["choice"])), list(dict.fromkeys(data["optimizer"]))
    figure = Figure(figsize=(8.2, (0.2 + 0.11 * len(names)) * len(choices) + 1.3))
    for axis, (panel, label) in zip(figure.subplots(1, 2, sharey=True), PANELS.items(), strict=True):
        rows = data[data["panel"] == panel]
        for text, value, line in REFERENCES[panel]:
            axis.axvline(value, color="black", linestyle=line, linewidth=0.9, label=text)
        for i, name in enumerate(names):
            _optimizer(axis, rows[rows["optimizer"] == name], choices, 0.24 * (i - (len(names) - 1) / 2), name)
        _limits(axis, rows, [value for _, value, _ in REFERENCES[panel]])
        axis.set_xlabel(label)
        axis.set_yticks(range(len(choices)), choices)
        axis.set_ylim(len(choices) - 0.4, -0.6)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1, handlelength=1.4)
    if len(names) > 1:
        figure.legend(handles=_handles(names), loc="outside lower center", ncols=4)
    return figure


def _optimizer(axis: Axes, rows: pd.DataFrame, choices: list[str], shift: float, name: str) -> None:
    y = rows["choice"].map({choice: i for i, choice in enumerate(choices)}) + shift
    color = style.colour(name)
    style.intervals(axis, y, rows["low"], rows["high"], along="x", color=color, linewidth=1.8)
    axis.plot(rows["exponent"], y, "o", color=color, markersize=5)


def _limits(axis: Axes, rows: pd.DataFrame, references: list[float]) -> None:
    """As wide as the bars, but bars much wider than all the exponents are cut."""
    values = [*rows["exponent"].dropna(), *references]
    bars = pd.concat([rows["low"], rows["high"]]).astype(float).dropna()
    low, high = min([*values, *bars]), max([*values, *bars])
    axis.set_xlim(max(low, min(values) - WIDEST) - 0.05, min(high, max(values) + WIDEST) + 0.05)


def _handles(names: list[str]) -> list[Line2D]:
    mark = partial(Line2D, [], [], marker="o", markersize=5, linewidth=1.8)
    return [mark(color=style.colour(name), label=name) for name in names]


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for (name, panel), rows in data.dropna(subset=["exponent"]).groupby(["optimizer", "panel"], sort=False):
        first, low, high = rows["exponent"].iloc[0], rows["exponent"].min(), rows["exponent"].max()
        what = "batch" if panel == "batch" else "learning rate"
        choice = rows["choice"].iloc[0]
        parts.append(f"{name}, {what}: {first:.2f} ({choice}), from {low:.2f} to {high:.2f} over {len(rows)} choices")
    return f"Exponents in the token budget under other choices of the fit. {'; '.join(parts)}."

"""Best batch size and best learning rate against the token budget, with the fitted power laws and the rule's."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.drawing import style
from analysis.fits.intervals import Estimate, with_interval
from analysis.studies.batch_scaling.exponents import RIVALS, Exponent
from analysis.studies.batch_scaling.result import BatchScaling, BudgetOptimum, OptimizerScaling
from analysis.tables.sweep import SweepTables

TITLE = "Best batch size and learning rate against the token budget"
CAPTION = (
    "Bars are 95% intervals. A hollow mark lies at the edge of a grid, or beside a divergence, and its line does not "
    "count it. Pale bars span the batch sizes that cannot be told apart from the best. Through the centre of the "
    "stars: the exponents that the rule implies for them (the wedge), and others that were published (dotted)."
)
PANELS = {"batch": "tokens a step, B·S", "lr": "best learning rate"}
PATHS = {"best": "best batch", "largest": "largest without loss"}  # kinds, and the names of their exponents
NAMES = {"best": "best batch BS*", "largest": "largest without loss BS°", "corner": "corner BS₂ of the surface"}
LR_NAMES = {"best": "at the best batch BS*", "largest": "at the largest batch BS°"}
IMPLIED_TEXTS = {"batch": "$T^{4/7}$ to $T^{2/3}$", "lr": "$T^{-3/7}$ to $T^{-1/3}$"}
MARKS = {"best": ("*", 11), "largest": ("^", 6)}
BEYOND = 2.0  # octaves beyond the points and bars that the scale goes for a line
LINES: dict[str, Any] = {"best": "-", "largest": "--", "corner": "-."}


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """Rows of four types, per optimizer and `panel` (batch in tokens a step, lr), with `value` at a budget `tokens`.

        point   of the paths `kind` best and largest, with its interval; `resolved` if it counts for the line
        tied    the lowest and the highest batch that cannot be told apart from the best
        line    at the first and the last budget: of `kind` best, largest, corner (of the surface) and published; it has
                an `exponent`
        implied the values there by the exponents that the rule implies for the best path, `low` and `high`

    Empty with fewer than two budgets.
    """
    rows: list[dict[str, Any]] = []
    for found in fit.optimizers:
        if len(found.budgets) > 1:
            described = [row for budget in found.budgets for row in _points(budget)]
            described += [row for panel in PANELS for row in _lines(found, panel, described)]
            rows += [{"optimizer": found.optimizer, **row} for row in described]
    data = pd.DataFrame(rows)
    return data if data.empty or "exponent" in data else data.assign(exponent=np.nan)  # where no line was fitted


def _points(budget: BudgetOptimum) -> list[dict[str, Any]]:
    inside, without = not budget.batch_at_edge, not budget.largest_at_edge
    points: list[tuple[str, str, Estimate, bool]] = [
        ("batch", "best", budget.batch, inside),
        ("batch", "largest", budget.largest, without),
        ("lr", "best", budget.lr, inside and budget.lr_resolved),
        ("lr", "largest", budget.lr_largest, without and budget.lr_largest_resolved),
    ]
    rows: list[dict[str, Any]] = [
        {
            "panel": panel,
            "type": "point",
            "kind": kind,
            "tokens": budget.tokens,
            "value": at.value,
            "low": at.low,
            "high": at.high,
            "resolved": resolved,
        }
        for panel, kind, at, resolved in points
    ]
    if budget.tied:
        band = {"low": min(budget.tied), "high": max(budget.tied)}
        rows.append({"panel": "batch", "type": "tied", "kind": "best", "tokens": budget.tokens, **band})
    return rows


def _lines(found: OptimizerScaling, panel: str, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Through the centre of a path's resolved points, as least squares have it; the corner has a level of its own."""
    ends = (found.budgets[0].tokens, found.budgets[-1].tokens)
    rows: list[dict[str, Any]] = []
    for kind, path in PATHS.items():
        used = [p for p in points if (p["panel"], p["type"], p["kind"]) == (panel, "point", kind) and p["resolved"]]
        name = ("batch size, " if panel == "batch" else "learning rate, ") + path
        exponent = found.exponent(name)
        if used and exponent is not None and exponent.estimate is not None:
            centre = tuple(float(np.mean(np.log([p[axis] for p in used]))) for axis in ("tokens", "value"))
            rows += _line(panel, kind, exponent.estimate, ends, centre)
            if kind == "best":
                rows += _compared(panel, exponent, ends, centre)
    if panel == "batch" and found.surfaces:
        surface = found.surfaces[-1]
        first = (float(np.log(ends[0])), float(np.log(surface.bs2_first.value)))
        rows += _line(panel, "corner", surface.exponent, ends, first)
    return rows


def _compared(
    panel: str, exponent: Exponent, ends: tuple[float, float], through: tuple[float, ...]
) -> list[dict[str, Any]]:
    """What the rule implies, and for batches what others have published."""
    low, high = exponent.implied
    steepest, flattest = (_line(panel, "rule", Estimate(each), ends, through) for each in (high, low))
    rows: list[dict[str, Any]] = []
    for one, other in zip(flattest, steepest, strict=True):
        first, last = sorted((one["value"], other["value"]))
        span = {"low": first, "high": last, "exponent_low": low, "exponent_high": high}
        rows.append({"panel": panel, "type": "implied", "kind": "rule", "tokens": one["tokens"], **span})
    for each in RIVALS if panel == "batch" else ():
        if not low <= each <= high and not np.isclose([low, high], each, atol=1e-3).any():
            rows += _line(panel, "published", Estimate(each), ends, through)
    return rows


def _line(
    panel: str, kind: str, exponent: Estimate, ends: tuple[float, float], through: tuple[float, ...]
) -> list[dict[str, Any]]:
    return [
        {
            "panel": panel,
            "type": "line",
            "kind": kind,
            "tokens": tokens,
            "value": float(np.exp(through[1] + exponent.value * (np.log(tokens) - through[0]))),
            "exponent": exponent.value,
            "exponent_low": exponent.low,
            "exponent_high": exponent.high,
        }
        for tokens in ends
    ]


def draw(data: pd.DataFrame) -> Figure:
    """A row per optimizer: its batch sizes, and its learning rates."""
    names = list(dict.fromkeys(data["optimizer"]))
    figure = Figure(figsize=(8.2, 4.3 * len(names)), layout=ConstrainedLayoutEngine(h_pad=0.12))
    for name, pair in zip(names, figure.subplots(len(names), 2, squeeze=False), strict=True):
        for axis, (panel, label) in zip(pair, PANELS.items(), strict=True):
            rows = data[(data["optimizer"] == name) & (data["panel"] == panel)]
            _panel(axis, rows, style.colour(name))
            axis.set_ylabel(label)
            handles = _handles(rows, panel, axis, style.colour(name))
            axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.18), handlelength=2.6)
        pair[0].set_title(name, color=style.colour(name), fontweight="bold", loc="left")
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, color: style.Colour) -> None:
    logs = style.log2(rows, "tokens", "value", "low", "high")
    tied = logs[logs["type"] == "tied"]
    style.intervals(
        axis, tied["tokens"], tied["low"], tied["high"], color=style.pale(color, 0.8), linewidth=13, zorder=1
    )
    implied = logs[logs["type"] == "implied"]
    axis.fill_between(implied["tokens"], implied["low"], implied["high"], color=style.GREY, alpha=0.35, linewidth=0)
    for (kind, _), line in logs[logs["type"] == "line"].groupby(["kind", "exponent"], sort=False):
        if kind == "published":
            axis.plot(line["tokens"], line["value"], color=style.GREY, linestyle=":", linewidth=1.3)
        else:
            width = 1 if kind == "corner" else 1.3
            axis.plot(line["tokens"], line["value"], color=color, linestyle=LINES[str(kind)], linewidth=width)
    points = logs[logs["type"] == "point"]
    for shift, (kind, (marker, size)) in zip((-0.025, 0.025), MARKS.items(), strict=True):
        mine = points[points["kind"] == kind]
        x = mine["tokens"] + shift  # or the intervals would cover each other
        style.intervals(axis, x, mine["low"], mine["high"], color=color, linewidth=1.6)
        for resolved, some in mine.groupby(mine["resolved"].astype(bool)):
            face = color if resolved else "white"
            axis.plot(x[some.index], some["value"], marker, markersize=size, color=color, markerfacecolor=face)
    # A corner of the surface may lie anywhere where its regime was not seen.
    shown = logs.loc[logs["type"] != "line", ["value", "low", "high"]].to_numpy()
    bottom, top = axis.get_ylim()
    axis.set_ylim(max(bottom, np.nanmin(shown) - BEYOND), min(top, np.nanmax(shown) + BEYOND))
    style.log2_ticks(axis)
    style.log2_ticks(axis, "y")
    axis.set_xlabel("token budget T")


def _handles(rows: pd.DataFrame, panel: str, axis: Axes, color: style.Colour) -> list[Line2D | Patch]:
    """A legend entry per path, with its exponent; of a line that left the frame it says so."""
    bottom, top = axis.get_ylim()
    lines = {str(kind): line for kind, line in rows[rows["type"] == "line"].groupby("kind")}
    names = NAMES if panel == "batch" else LR_NAMES
    handles: list[Line2D | Patch] = []
    for kind, name in names.items():
        marker, size = MARKS.get(kind, ("", 0))
        mark = partial(Line2D, [], [], color=color, marker=marker, markersize=size, linewidth=1.3)
        if kind in lines:
            ends = np.log2(lines[kind]["value"])
            gone = ends.max() < bottom or ends.min() > top
            text = f"{name}: {_exponent(lines[kind].iloc[0])}"
            handles.append(mark(linestyle=LINES[kind], label=f"{text}, out of frame" if gone else text))
        elif kind in MARKS:
            handles.append(mark(linestyle="", label=name))
    if (rows["type"] == "tied").any():
        handles.append(Line2D([], [], color=style.pale(color, 0.8), linewidth=9, label="not told apart from the best"))
    if (rows["type"] == "implied").any():
        label = f"the rule implies for ★: {IMPLIED_TEXTS[panel]}"
        handles.append(Patch(color=style.GREY, alpha=0.35, linewidth=0, label=label))
    if "published" in lines:
        exponents = lines["published"]["exponent"].drop_duplicates()
        label = "published elsewhere: " + ", ".join(f"$T^{{{each:g}}}$" for each in exponents)
        handles.append(Line2D([], [], color=style.GREY, linestyle=":", linewidth=1.3, label=label))
    return handles


def _exponent(line: Any) -> str:
    """With its interval, as far as it is known."""
    value, low, high = line["exponent"], line["exponent_low"], line["exponent_high"]
    known = pd.notna(low) and pd.notna(high)
    return with_interval(value, low if known else None, high if known else None, ".2f").replace("-", "−")


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    lines = data[(data["type"] == "line") & (data["kind"] != "published")].drop_duplicates(
        ["optimizer", "panel", "kind"]
    )
    parts = []
    for name in data["optimizer"].unique():
        rows = lines[lines["optimizer"] == name]
        texts = [
            f"{'batch' if r['panel'] == 'batch' else 'learning rate'}, "
            f"{(NAMES if r['panel'] == 'batch' else LR_NAMES)[r['kind']]}: "
            f"{_exponent(r)}"
            for r in rows.to_dict("records")
        ]
        parts.append(f"{name}: {'; '.join(texts) or 'no power law could be fitted'}")
    found = f"Exponents of T, with 95% intervals. {'. '.join(parts)}."
    return f"Best batch size and best learning rate against the token budget on logarithmic axes. {found}"

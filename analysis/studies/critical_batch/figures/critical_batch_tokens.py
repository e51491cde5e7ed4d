"""Tokens to a target over the fewest that it needs, against the batch size, for every size and target."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import sources, style
from analysis.studies.critical_batch.result import CriticalBatches, Source
from analysis.studies.critical_batch.target import Target
from analysis.tables.sweep import SweepTables

TITLE = "Tokens to a target against the batch size"
POINT, LINE, CRITICAL, EXCEEDS = "point", "line", "B_crit", "B_excess"
STEPS = 33  # points of a line
LEFT_OUT = "left out"


def table(tables: SweepTables, fit: CriticalBatches) -> pd.DataFrame:
    """Per source, size and target (`curve`, by ascending tokens) `ratio`, tokens over T_min, at batch sizes in tokens.

    `kind` says whether it is a measured point (left out: the law is not of it), of the law's line, or a critical batch.
    """
    found = [_source(each, fit) for each in fit.sources]
    known = [rows for rows in found if not rows.empty]
    return pd.concat(known, ignore_index=True) if known else pd.DataFrame()


def _source(each: Source, fit: CriticalBatches) -> pd.DataFrame:
    fitted = [target for target in each.targets if target.at.fit.tokens_min is not None]
    ordered = sorted(fitted, key=lambda target: target.quantity("T"))
    parts = [_target(target).assign(curve=i, label=_label(target)) for i, target in enumerate(ordered)]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return rows.assign(source=each.name, share=fit.share, unit=each.unit, per=each.seq_len or 1.0)


def _label(target: Target) -> str:
    size = "" if target.n_params is None else f"N = {target.n_params:.3g}, "
    return f"{size}loss {target.at.fit.target:.4g}"


def _short(target: Target) -> str:
    """What a curve is called beside its last point."""
    return (
        f"{target.at.fit.target:.4g}"
        if target.n_params is None
        else f"{target.n_params:.3g}, {target.at.fit.target:.4g}"
    )


def _target(target: Target) -> pd.DataFrame:
    at = target.at
    known = np.isfinite(at.log_tokens)
    least = target.quantity("T")
    measured = np.exp(at.log_tokens[known]) / least
    kinds = np.where(at.used[known], POINT, LEFT_OUT)
    parts = [pd.DataFrame({"kind": kinds, "batch_tokens": at.batch_tokens[known], "ratio": measured})]
    if at.fit.status == "ok":
        line = np.geomspace(at.batch_tokens[at.used].min(), at.batch_tokens[at.used].max(), STEPS)
        parts.append(pd.DataFrame({"kind": LINE, "batch_tokens": line, "ratio": at.fit.tokens(line) / least}))
        for kind, batch in ((CRITICAL, at.fit.batch_crit), (EXCEEDS, target.exceeds.law)):
            if batch is not None:
                ratio = float(at.fit.tokens(batch.value)) / least
                row = {"kind": kind, "batch_tokens": batch.value, "ratio": ratio, "low": batch.low, "high": batch.high}
                parts.append(pd.DataFrame([row]))
    return pd.concat(parts, ignore_index=True).assign(short=_short(target))


def caption(data: pd.DataFrame) -> str:
    """What is drawn, and how much of it is not."""
    share = data["share"].iloc[0]
    return (
        "Points are measured, or read between budgets; lines are 1 + B/B_crit, of which the star is B_crit, at twice "
        f"the fewest tokens, and the diamond {share}, with 95% intervals. Hollow points need more tokens than larger "
        f"batches, and are left out of the fit. Beside a curve stand its number of "
        f"parameters and its target. The darker, the more tokens.{sources.beyond(data)}"
    )


def draw(data: pd.DataFrame) -> Figure:
    """A panel per source; a shade per size and target."""
    names = sources.shown(data)
    figure, axes, spare = style.panels(names, legend_share=0.75)
    for name, axis in axes.items():
        mine = data[data["source"] == name]
        count = int(mine["curve"].max()) + 1
        for (curve, kind), rows in mine.groupby(["curve", "kind"], sort=True):
            color = style.shades(style.PALETTE[0], count)[int(str(curve))]
            x = rows["batch_tokens"] / rows["per"]
            if kind == LINE:
                axis.plot(x, rows["ratio"], color=color, linewidth=1.2)
            elif kind in (POINT, LEFT_OUT):
                face = color if kind == POINT else "white"
                axis.plot(x, rows["ratio"], "o", color=color, markersize=3.5, markerfacecolor=face)
                if kind == POINT:
                    end = (x.iloc[-1], rows["ratio"].iloc[-1])
                    text = rows["short"].iloc[0]
                    axis.annotate(text, end, (5, 0), textcoords="offset points", color=color, va="center", size=7)
            else:
                ends = rows["low"] / rows["per"], rows["high"] / rows["per"]
                style.intervals(axis, rows["ratio"], *ends, along="x", color="black", linewidth=1.6, zorder=4)
                look = "*" if kind == CRITICAL else "D"
                size = 8 if kind == CRITICAL else 4
                axis.plot(x, rows["ratio"], look, color=color, markersize=size, markeredgecolor="black", zorder=5)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xlabel(f"batch size, {mine['unit'].iloc[0]}")
        axis.margins(x=0.14)
        axis.set_title(name, fontsize=9)
    style.label_left(figure, axes, "tokens to the target ÷ fewest")
    style.legend(figure, spare, _handles(str(data["share"].iloc[0])))
    return figure


def _handles(share: str) -> list[Line2D]:
    star: dict[str, Any] = {"linestyle": "", "markeredgecolor": "black", "color": style.PALETTE[0]}
    return [
        Line2D([], [], color=style.PALETTE[0], marker="o", markersize=3.5, label="measured, and the law"),
        Line2D([], [], color=style.PALETTE[0], marker="o", linestyle="", markerfacecolor="white", label=LEFT_OUT),
        Line2D([], [], marker="*", markersize=8, label="$B_{crit}$", **star),
        Line2D([], [], marker="D", markersize=4, label=share, **star),
    ]


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data[data["kind"] == CRITICAL].groupby("source", sort=False):
        shown = [f"{row['label']}: {row['batch_tokens'] / row['per']:,.0f}" for row in rows.to_dict("records")]
        parts.append(f"{name}: {', '.join(shown)} {rows['unit'].iloc[0]}")
    return f"Tokens to a target against the batch size. Critical batch sizes: {'; '.join(parts) or 'none'}."

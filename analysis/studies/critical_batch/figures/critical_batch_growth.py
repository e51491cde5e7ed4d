"""Critical batch sizes by both definitions against the number of parameters, with their power laws."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import sources, style
from analysis.fits.outcomes import Outcome
from analysis.studies.critical_batch.growth import Growth
from analysis.studies.critical_batch.result import CriticalBatches, Source
from analysis.studies.critical_batch.target import CRITICAL, EXCEEDS
from analysis.tables.sweep import SweepTables

TITLE = "Critical batch sizes against the number of parameters"
CAPTION = (
    "Points are critical batch sizes of a size and target with 95% intervals; lines are power laws of the number of "
    "parameters alone, through the lowest target of every size."
)
LINE = "law"
LOOKS = {CRITICAL: ("o", style.PALETTE[0]), EXCEEDS: ("D", style.PALETTE[1])}


def table(tables: SweepTables, fit: CriticalBatches) -> pd.DataFrame:
    """Per source of several sizes and definition its batch sizes in tokens with intervals, and its law's two ends."""
    found = [_source(each, fit) for each in fit.sources]
    known = [rows for rows in found if not rows.empty]
    return pd.concat(known, ignore_index=True) if known else pd.DataFrame()


def _source(each: Source, fit: CriticalBatches) -> pd.DataFrame:
    laws = [growth for growth in each.growths if growth.over == "N" and not growth.beside]
    rows = [row for law in laws for row in _rows(each, law)]
    about: dict[str, Any] = {"share": fit.share, "unit": each.unit, "per": each.seq_len or 1.0}
    return pd.DataFrame(rows).assign(source=each.name, **about) if rows else pd.DataFrame()


def _rows(each: Source, law: Growth) -> list[dict[str, Any]]:
    found = [t for t in each.targets if t.verdict == Outcome.FOUND]
    known = [(t, batch) for t in found if (batch := t.batch(law.definition)) is not None]
    about: dict[str, Any] = {"definition": law.definition, "exponent": law.exponent.text(".3f")}
    points = [
        {"kind": "point", "n_params": t.n_params, "target": t.at.fit.target} | batch.columns("batch_tokens") | about
        for t, batch in known
    ]
    sizes = [float(t.n_params or 1.0) for t, _ in known]
    ends = np.array([min(sizes), max(sizes)])
    lines = zip(ends, law.at(ends), strict=True)
    return points + [{"kind": LINE, "n_params": n, "batch_tokens": b} | about for n, b in lines]


def draw(data: pd.DataFrame) -> Figure:
    """A panel per source."""
    figure, axes, spare = style.panels(sources.shown(data), legend_share=0.6)
    for name, axis in axes.items():
        mine = data[data["source"] == name]
        for definition, rows in mine.groupby("definition", sort=False):
            marker, color = LOOKS[str(definition)]
            points, line = rows[rows["kind"] != LINE], rows[rows["kind"] == LINE]
            value, low, high = (points[f"batch_tokens{end}"] / points["per"] for end in ("", "_low", "_high"))
            style.intervals(axis, points["n_params"], low, high, color=color, linewidth=1.4)
            axis.plot(points["n_params"], value, marker, color=color, markersize=4)
            axis.plot(line["n_params"], line["batch_tokens"] / line["per"], color=color, linewidth=1.2)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("parameters, N")
        axis.set_title(name, fontsize=9)
    style.label_left(figure, axes, f"batch size, {data['unit'].iloc[0]}")
    style.legend(figure, spare, _handles(data))
    return figure


def _handles(data: pd.DataFrame) -> list[Line2D]:
    shown = {CRITICAL: "$B_{crit}$", EXCEEDS: str(data["share"].iloc[0])}
    return [
        Line2D([], [], marker=marker, color=color, markersize=4, label=shown[definition])
        for definition, (marker, color) in LOOKS.items()
        if (data["definition"] == definition).any()
    ]


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    share = str(data["share"].iloc[0])
    parts = [
        f"{name}: {definition if definition == CRITICAL else share} as N to the power {rows['exponent'].iloc[0]}"
        for (name, definition), rows in data.groupby(["source", "definition"], sort=False)
    ]
    return f"Critical batch sizes against the number of parameters. {'; '.join(parts)}."

"""Activations and their change against width after the last watched step: a line per kind of layer."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.studies.coordinate_check.fit import QUANTITIES, CoordinateCheck
from analysis.tables.sweep import SweepTables
from analysis.tables.watched import LOGITS

TITLE = "Activations against width"
CAPTION = (
    "Root mean square of every layer's output h after the last step, and of its change Δh since initialization: mean "
    "over seeds, bars span them. A layer that learns features at every width has level lines; the grey dotted line "
    "grows in proportion to the width. Thick lines are those whose slope lies beyond the tolerance."
)
# Okabe and Ito's colours and two greys of other lightness, in the order of the network; the output is black.
PALETTE = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#8C564B", "#7F7F7F", "#B8A100", "#4B5320")
COLUMNS = {"output_rms": r"$\|h\|_{\mathrm{RMS}}$", "output_change_rms": r"$\|\Delta h\|_{\mathrm{RMS}}$"}


def table(tables: SweepTables, fit: CoordinateCheck) -> pd.DataFrame:
    """A row per method, quantity, kind and width: geometric mean over seeds and their range, and the kind's slope.

    Sizes that are not positive have no place on a logarithmic axis and are left out.
    """
    return pd.DataFrame(row for method in fit.methods for row in _rows(method, fit.sizes))


def _rows(method: Any, sizes: pd.DataFrame) -> Iterable[dict[str, Any]]:
    mine = sizes[sizes["optimizer"] == method.optimizer]
    for found in method.slopes:
        kind = mine[mine["kind"] == found.kind]
        for width, rows in kind[kind[found.quantity] > 0].groupby("width"):
            values = rows[found.quantity].to_numpy(float)
            yield {
                "optimizer": method.optimizer,
                "verdict": method.verdict,
                "step": method.step,
                "quantity": found.quantity,
                "kind": found.kind,
                "width": width,
                "size": float(2 ** np.log2(values).mean()),
                "low": float(values.min()),
                "high": float(values.max()),
                "n_seeds": len(values),
                "slope": found.slope.value if found.slope else None,
                "slope_verdict": found.verdict,
            }


def draw(data: pd.DataFrame) -> Figure:
    """A row of panels per method, a column per quantity, each column on one scale."""
    names, looks = list(dict.fromkeys(data["optimizer"])), kind_looks(data["kind"])
    figure = Figure(figsize=(8.2, 0.6 + 2.3 * len(names)))
    panels = figure.subplots(len(names), len(COLUMNS), squeeze=False, sharex=True, sharey="col")
    widths = sorted(data["width"].unique())
    for row, name in zip(panels, names, strict=True):
        for axis, (quantity, label) in zip(row, COLUMNS.items(), strict=True):
            mine = data[(data["optimizer"] == name) & (data["quantity"] == quantity)]
            _panel(axis, mine, looks)
            axis.set_ylabel(label)
        verdict = data.loc[data["optimizer"] == name, "verdict"].iloc[0]
        row[0].set_title(f"{name}: {verdict}", color=style.colour(name), fontweight="bold", loc="left")
    for axis in panels[-1]:
        axis.set_xticks(list(np.log2(widths)), [str(width) for width in widths])
        axis.set_xlabel("width")
    figure.legend(handles=_handles(looks), loc="outside right center")
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    rows = style.log2(rows, "width", "size", "low", "high")
    style.log2_ticks(axis, "y")
    for kind, line in rows.groupby("kind", sort=False):
        colour, marker = looks[str(kind)]
        beyond = (line["slope_verdict"] == "beyond").any()
        axis.plot(
            line["width"], line["size"], color=colour, marker=marker, markersize=4, linewidth=2.6 if beyond else 1.1
        )
        style.intervals(axis, line["width"], line["low"], line["high"], color=colour, linewidth=1)
    if len(rows):
        ends = np.array([rows["width"].min(), rows["width"].max()])
        axis.plot(ends, rows["size"].min() + ends - ends[0], ":", color=style.GREY, linewidth=1.2, zorder=1)


def kind_looks(kinds: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of every kind of layer, by their order."""
    names = list(dict.fromkeys(kinds))
    inner = [name for name in names if name != LOGITS]
    looks = {name: (PALETTE[i % len(PALETTE)], style.MARKERS[i % len(style.MARKERS)]) for i, name in enumerate(inner)}
    return {name: looks.get(name, ("#000000", "*")) for name in names}


def _handles(looks: dict[str, tuple[str, str]]) -> list[Line2D]:
    lines = [Line2D([], [], color=c, marker=m, markersize=4, label=kind) for kind, (c, m) in looks.items()]
    return [*lines, Line2D([], [], color=style.GREY, linestyle=":", label="∝ width")]


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("optimizer", sort=False):
        slopes = rows.drop_duplicates(["kind", "quantity"]).dropna(subset=["slope"])
        said = "no slope is known"
        if len(slopes):
            low, high = (slopes.sort_values("slope").iloc[i] for i in (0, -1))
            said = "slopes from " + " to ".join(
                f"{row['slope']:+.2f} ({QUANTITIES[row['quantity']]} of {row['kind']})" for row in (low, high)
            )
        parts.append(f"{name} {rows['verdict'].iloc[0]}, {said}")
    return f"Size of activations and of their change against width, on logarithmic axes: {'; '.join(parts)}."

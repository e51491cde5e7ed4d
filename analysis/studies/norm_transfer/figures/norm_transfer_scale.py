"""The output layer's norm at the optimum against the token budget, a line per width."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.fits.intervals import Estimate
from analysis.studies.norm_transfer.fit import MethodTransfer, NormTransfer
from analysis.tables.sweep import SweepTables

TITLE = "The norm at the optimum against scale"
CAPTION = (
    "The norm at the best learning rate and batch size, with its 95% interval, wider networks darker; hollow where "
    "the grid does not resolve the optimum. If the norm is transferred all lie on one level line. Dotted: ∝ √T."
)


def table(tables: SweepTables, fit: NormTransfer) -> pd.DataFrame:
    """A row per method, width and budget, the method's exponents repeated in each."""
    return pd.DataFrame(row for method in fit.methods for row in _rows(method))


def _rows(method: MethodTransfer) -> list[dict[str, object]]:
    known = {
        f"in_{name}{end}": getattr(exponent or Estimate(np.nan), part)
        for name, exponent in (("width", method.in_width), ("tokens", method.in_tokens))
        for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    return [
        {
            "optimizer": method.optimizer,
            "verdict": method.verdict,
            "width": optimum.width,
            "tokens": optimum.tokens,
            "norm": optimum.norm.value,
            "low": optimum.norm.low,
            "high": optimum.norm.high,
            "resolved": optimum.resolved,
            **known,
        }
        for optimum in method.optima
        if optimum.norm
    ]


def draw(data: pd.DataFrame) -> Figure:
    """A panel per method; widths slightly set apart so that intervals do not cover each other."""
    names, widths = list(dict.fromkeys(data["optimizer"])), sorted(data["width"].unique())
    figure, axes, spare = style.panels(names, columns=3, size=(2.8, 2.9), legend_share=0.7, legend_height=0.6)
    for name, axis in axes.items():
        mine = data[data["optimizer"] == name]
        for i, (width, shade) in enumerate(zip(widths, style.shades(style.colour(name), len(widths)), strict=True)):
            shift = 0.05 * (i - (len(widths) - 1) / 2)
            _line(axis, mine[mine["width"] == width], shade, style.MARKERS[i % len(style.MARKERS)], shift)
        _reference(axis, mine)
        style.name_panel(axis, name, str(mine["verdict"].iloc[0]))
        style.log2_ticks(axis, "x")
        style.log2_ticks(axis, "y")
        axis.set_xlabel("tokens T")
    style.label_left(figure, axes, r"$\|W\|_{\mathrm{RMS}\to\infty}$ at the optimum")
    root = Line2D([], [], color=style.GREY, linestyle=":", label="∝ √T")
    style.legend(figure, spare, [*style.width_handles(widths, markers=True), root])
    return figure


def _line(axis: Axes, rows: pd.DataFrame, shade: style.Colour, marker: str, shift: float) -> None:
    rows = style.log2(rows, "tokens", "norm", "low", "high")
    x = rows["tokens"] + shift
    axis.plot(x, rows["norm"], color=shade, marker=marker, markersize=5, linewidth=1.2)
    style.intervals(axis, x, rows["low"], rows["high"], color=shade, linewidth=1.6)
    edge = ~rows["resolved"].astype(bool)
    axis.plot(x[edge], rows["norm"][edge], marker, color=shade, markersize=5, markerfacecolor="white", linestyle="")


def _reference(axis: Axes, rows: pd.DataFrame) -> None:
    tokens, norms = (np.log2(rows[name].to_numpy(float)) for name in ("tokens", "norm"))
    x = np.array([tokens.min(), tokens.max()])
    axis.plot(x, np.median(norms) + 0.5 * (x - x.mean()), ":", color=style.GREY, linewidth=1.2, zorder=1)


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("optimizer", sort=False):
        first = rows.iloc[0]
        slopes = [
            f"{first[f'in_{axis}']:+.2f} in {words}"
            for axis, words in (("width", "width"), ("tokens", "the token budget"))
            if pd.notna(first[f"in_{axis}"])
        ]
        span = f"between {rows['norm'].min():.3g} and {rows['norm'].max():.3g}"
        parts.append(f"{name} {span}, exponents {' and '.join(slopes) or 'unknown'}: {first['verdict']}")
    return f"Norm of the output layer at the optimum against the token budget. {'; '.join(parts)}."

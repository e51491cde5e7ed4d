"""One look for all figures: an optimizer has the same colour everywhere, wider networks a darker shade of it."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

# Okabe and Ito's colours, distinguishable with any common colour vision deficiency.
COLOURS = {
    "adam": "#D55E00",
    "adam-mup": "#E69F00",
    "muon": "#009E73",
    "scion": "#0072B2",
    "uscion": "#56B4E9",
}
# For things that are told apart by their place in a list.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B", "#7F7F7F")
SPARE = ("#CC79A7", "#000000", "#7F7F7F", "#8C564B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANEL = (3.4, 2.9)  # inches
GREY = "#888888"

Colour = str | tuple[float, float, float]


def colour(optimizer: str) -> str:
    """The optimizer's colour; one that is not in the table gets a spare, chosen by its name alone."""
    if optimizer in COLOURS:
        return COLOURS[optimizer]
    return SPARE[hashlib.sha256(optimizer.encode()).digest()[0] % len(SPARE)]


def colours(names: Iterable[str], optimizers: Iterable[str]) -> dict[str, str]:
    """A colour for every name: its optimizer's, or where that would give two names one colour, by their place."""
    pairs = dict(zip(names, optimizers, strict=True))
    own = {name: colour(optimizer) for name, optimizer in pairs.items()}
    if len(set(own.values())) == len(own):
        return own
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(pairs)}


def shades(base_colour: str, count: int) -> list[tuple[float, float, float]]:
    """`count` shades of a colour from light to dark, for widths in order."""
    base = to_rgb(base_colour)
    weights = [0.0] if count == 1 else [0.55 - 1.0 * i / (count - 1) for i in range(count)]

    def mixed(weight: float) -> tuple[float, float, float]:
        target, share = (1.0, weight) if weight > 0 else (0.0, -weight)
        red, green, blue = (c + (target - c) * share for c in base)
        return red, green, blue

    return [mixed(weight) for weight in weights]


def apply() -> None:
    """Set the style for everything drawn afterwards."""
    sns.set_theme(context="paper", style="ticks", font="DejaVu Sans")
    mpl.rcParams.update(
        {
            "axes.grid": True,
            "grid.alpha": 0.35,
            "grid.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "svg.hashsalt": "scionlab",  # the same figure is the same file
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
        }
    )


def panels(
    names: Sequence[str],
    columns: int = 3,
    size: tuple[float, float] = PANEL,
    legend_share: float = 1.0,
    legend_height: float = 0.0,
    share_y: bool = True,
) -> tuple[Figure, dict[str, Axes], Axes | None]:
    """A panel per name, and one more for the legend where the grid leaves a cell free.

    `size` is a panel's in inches. With `share_y` all are on one vertical scale. Where the legend has a column to
    itself, that is `legend_share` panels wide; where it lies below, the figure is `legend_height` inches higher.
    """
    columns = min(columns, len(names) + 1)
    rows = -(-len(names) // columns)
    shares = [1.0] * columns
    if rows == 1 and columns > len(names):
        shares[-1] = legend_share
    layout = ConstrainedLayoutEngine(h_pad=0.12)
    height = size[1] * rows + (legend_height if rows * columns == len(names) else 0.0)
    figure = Figure(figsize=(size[0] * sum(shares), height), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=False, sharey=share_y, width_ratios=shares).ravel()
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    spare = axes[len(names)] if len(axes) > len(names) else None
    return figure, dict(zip(names, axes[: len(names)], strict=True)), spare


def label_left(figure: Figure, axes: dict[str, Axes], label: str) -> None:
    """Label the vertical axis of every row's first panel."""
    grid = figure.axes[0].get_gridspec()
    columns = grid.ncols if grid else 1
    for axis in list(axes.values())[::columns]:
        axis.set_ylabel(label)


def width_handles(widths: Sequence[float], markers: bool = False, axis: str = "width") -> list[Line2D]:
    """Legend entries for widths or places on another axis, in shades of grey that stand for any series'."""
    return [
        Line2D([], [], color=shade, marker=MARKERS[i % len(MARKERS)] if markers else "", label=f"{axis} {width:g}")
        for i, (width, shade) in enumerate(zip(widths, shades(GREY, len(widths)), strict=True))
    ]


def legend(figure: Figure, spare: Axes | None, handles: list[Line2D], title: str | None = None) -> None:
    """Put the legend into the free panel, or below the figure where there is none."""
    if spare is not None:
        spare.legend(handles=handles, loc="center", title=title)
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, title=title)


def log2_ticks(axis: Axes, which: str = "x") -> None:
    """Label an axis in exponents of two as powers."""
    target = axis.xaxis if which == "x" else axis.yaxis
    target.set_major_locator(MaxNLocator(integer=True, nbins=7))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"$2^{{{value:g}}}$"))


def power_of_two(value: float, plain: bool = False) -> str:
    """A positive number as a power of two with at most one decimal, 2^16 or 2^16.5, as mathematics or `plain` text."""
    exponent = f"{round(float(np.log2(value)), 1) + 0.0:g}"  # + 0.0: there is no exponent -0
    return f"2^{exponent}" if plain else f"$2^{{{exponent}}}$"


def raised(text: str) -> str:
    """A text whose powers, N^-0.5, are raised as mathematics."""
    return re.sub(r"\^([+-]?\d+(?:\.\d+)?)", r"$^{\1}$", text)


def budget_shades(optimizer: str, budgets: Iterable[float]) -> dict[float, Colour]:
    """A shade of the optimizer's colour for every token budget, the larger the darker."""
    ordered = sorted(budgets)
    return dict(zip(ordered, shades(colour(optimizer), len(ordered)), strict=True))


def budget_handles(budgets: Iterable[float]) -> list[Line2D]:
    """Legend entries for token budgets, in shades of grey that stand for any optimizer's."""
    ordered = sorted(budgets)
    return [
        Line2D([], [], color=shade, label=f"T = {power_of_two(tokens)}")
        for tokens, shade in zip(ordered, shades(GREY, len(ordered)), strict=True)
    ]


def log2(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The rows with some columns in octaves, for axes with `log2_ticks`."""
    return rows.assign(**{column: np.log2(rows[column].astype(float)) for column in columns})


def name_panel(axis: Axes, optimizer: str, note: str) -> None:
    """The optimizer as the panel's title, and a line of numbers below it."""
    axis.set_title(f"{optimizer}\n", color=colour(optimizer), fontweight="bold")
    axis.text(0.5, 1.02, note, transform=axis.transAxes, ha="center", va="bottom", fontsize=9)


def intervals(axis: Axes, at: ArrayLike, low: ArrayLike, high: ArrayLike, along: str = "y", **look: Any) -> None:
    """Bars from `low` to `high`, upright or (`along` x) level, wherever both are known and finite."""
    bars = pd.DataFrame({"at": at, "low": low, "high": high}).astype(float)
    bars = bars.replace([np.inf, -np.inf], np.nan).dropna()
    if bars.empty:
        return
    draw = axis.vlines if along == "y" else axis.hlines
    draw(bars["at"], bars["low"], bars["high"], **look)


def pale(of: Colour, share: float = 0.72) -> Colour:
    """A colour mixed with white, for bands behind lines: unlike transparency it does not darken where bands cross."""
    red, green, blue = (c + (1 - c) * share for c in to_rgb(of))
    return red, green, blue


def ties(axis: Axes, points: pd.DataFrame, x: str, y: str, of: Colour) -> None:
    """A thick pale stretch through the points of a line that are `tied`, and a pale dot at one that is alone."""
    tied = points["tied"].eq(True)
    if tied.any():
        color, width = pale(of), 8
        axis.plot(points[x], points[y].where(tied), color=color, linewidth=width, solid_capstyle="round", zorder=1)
        axis.plot(points[x][tied], points[y][tied], "o", color=color, markersize=width, markeredgewidth=0, zorder=1)


def tie_handle() -> Line2D:
    """Its legend entry."""
    return Line2D([], [], color=pale(GREY), linewidth=8, label="not told apart\nfrom the best")

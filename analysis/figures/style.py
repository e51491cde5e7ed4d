"""One look for all figures: an optimizer has the same colour everywhere, wider networks a darker shade of it."""

import hashlib
from collections.abc import Sequence

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Okabe and Ito's colours, distinguishable with any common colour vision deficiency.
COLOURS = {
    "adam": "#D55E00",
    "adam-mup": "#E69F00",
    "muon": "#009E73",
    "scion": "#0072B2",
    "uscion": "#56B4E9",
}
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


def panels(names: Sequence[str], columns: int = 3) -> tuple[Figure, dict[str, Axes], Axes | None]:
    """A panel per name on shared axes, and one more for the legend where the grid leaves a cell free."""
    columns = min(columns, len(names) + 1)
    rows = -(-len(names) // columns)
    layout = ConstrainedLayoutEngine(h_pad=0.12)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=False, sharey=True).ravel()
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


def width_handles(widths: Sequence[int], markers: bool = False) -> list[Line2D]:
    """Legend entries for widths, in shades of grey that stand for any optimizer's."""
    return [
        Line2D([], [], color=shade, marker=MARKERS[i % len(MARKERS)] if markers else "", label=f"width {width}")
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

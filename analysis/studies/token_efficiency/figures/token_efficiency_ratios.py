"""How many times fewer tokens a method needs than the reference, along the reference's tokens, for every size."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import sources, style
from analysis.fits.outcomes import Outcome
from analysis.studies.token_efficiency.result import TokenEfficiency
from analysis.tables.sweep import SweepTables

TITLE = "Ratio of tokens at equal loss"
APART = 1.04  # factor along tokens between sizes, so that their bars do not hide each other


def table(tables: SweepTables, fit: TokenEfficiency) -> pd.DataFrame:
    """Per method (`source`), size and loss the `ratio` by the reading that verdicts go by, and the reference's tokens.

    `claimed`: there is a verdict. `series` numbers the sizes of a table.
    """
    sizes = list(dict.fromkeys(ratio.n_params for ratio in fit.ratios))
    rows = []
    for ratio in fit.ratios:
        chosen = fit.chosen(ratio)
        if chosen is not None and ratio.tokens is not None:
            about = {"source": ratio.method, "n_params": ratio.n_params, "loss": ratio.loss, "tokens": ratio.tokens}
            about |= {"series": sizes.index(ratio.n_params), "reference": fit.reference}
            rows.append(about | chosen.columns("ratio") | {"claimed": ratio.verdict != Outcome.CANNOT_TELL})
    return pd.DataFrame(rows)


def caption(data: pd.DataFrame) -> str:
    """What is drawn, and how much of it is not."""
    return (
        f"Tokens of {data['reference'].iloc[0]} over those of the method, at losses that both reach; above 1 the "
        "method needs fewer. The darker, the larger the network. Bars are intervals that hold for all ratios together "
        f"with 95%; of hollow points nothing is claimed.{sources.beyond(data)}"
    )


def draw(data: pd.DataFrame) -> Figure:
    """A panel per method."""
    figure, axes, spare = style.panels(sources.shown(data), legend_share=0.6)
    shades = style.shades(style.PALETTE[0], int(data["series"].max()) + 1)
    for name, axis in axes.items():
        axis.axhline(1, color="black", linewidth=0.8)
        for i, color in enumerate(shades):
            rows = data[(data["source"] == name) & (data["series"] == i)].sort_values("tokens")
            rows = rows.assign(tokens=rows["tokens"] * APART**i)
            axis.plot(rows["tokens"], rows["ratio"], color=color, linewidth=0.8)
            style.intervals(axis, rows["tokens"], rows["ratio_low"], rows["ratio_high"], color=color, linewidth=1.4)
            for face, part in ((color, rows[rows["claimed"]]), ("white", rows[~rows["claimed"]])):
                axis.plot(part["tokens"], part["ratio"], "o", color=color, markersize=4, markerfacecolor=face)
        axis.set_xscale("log", base=2)
        axis.set_xlabel(f"tokens of {data['reference'].iloc[0]}")
        axis.set_title(name, fontsize=9)
    style.label_left(figure, axes, "ratio of tokens")
    sizes = data.dropna(subset="n_params").drop_duplicates("series").sort_values("series")
    handles = [
        Line2D([], [], color=shades[int(row["series"])], marker="o", markersize=4, label=f"N = {row['n_params']:.3g}")
        for row in sizes.to_dict("records")
    ]
    hollow = Line2D([], [], color=style.GREY, marker="o", linestyle="", markerfacecolor="white", label="no claim")
    style.legend(figure, spare, [*handles, hollow])
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("source", sort=False):
        shown = [f"{row['ratio']:.2f} at loss {row['loss']:.3g}" for row in rows.to_dict("records")]
        parts.append(f"{name}: {', '.join(shown)}")
    return f"Tokens of {data['reference'].iloc[0]} over those of the method at equal loss. {'; '.join(parts)}."

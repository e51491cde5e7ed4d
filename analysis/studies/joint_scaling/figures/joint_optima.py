"""Optima against tokens, coloured by network size, with the law's lines."""

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from analysis.drawing import sources, style
from analysis.studies.joint_scaling.result import JointScaling, ReadLaw, SourceJoint, of
from analysis.tables.sweep import SweepTables

TITLE = "Optima against tokens, and the law"
POINT, LEFT_OUT, LINE = "optimum", "left out", "law"
LINES = 5  # sizes with a line: more would hide the points
COLOURS = "viridis"


def table(tables: SweepTables, fit: JointScaling) -> pd.DataFrame:
    """Per source and quantity its optima by the chosen reading and the law at some sizes: n_params, tokens, value."""
    found = [_panel(source, each) for source in fit.sources for each in source.chosen]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _panel(source: SourceJoint, each: ReadLaw) -> pd.DataFrame:
    mine = [o for o in source.optima if (o.reading, o.quantity) == (each.reading, each.quantity)]
    rows = [
        {
            "kind": LEFT_OUT if o.why else POINT,
            "n_params": o.n_params,
            "tokens": o.tokens,
            "value": o.value,
            "low": o.low,
            "high": o.high,
        }
        for o in mine
        if np.isfinite(o.value)
    ]
    law = each.best
    # A law with further terms has no one line for a size.
    if law is not None and {term.resource for term in law.terms} <= {"n_params", "tokens"}:
        sizes = np.array(sorted({o.n_params for o in mine if not o.why}))
        places = np.unique(np.linspace(0, len(sizes) - 1, min(LINES, len(sizes))).round().astype(int))
        for n_params in sizes[places] if law.term("n_params") else sizes[:1]:
            tokens = np.array(law.measured["tokens"])
            values = law.predict(n_params, tokens).value
            rows += [
                {"kind": LINE, "n_params": n_params, "tokens": t, "value": v}
                for t, v in zip(tokens, values, strict=True)
            ]
    note = law.formula() if law is not None else "no law"
    return pd.DataFrame(rows).assign(source=of(source, each), note=note, with_n=bool(law and law.term("n_params")))


def caption(data: pd.DataFrame) -> str:
    """What is drawn, and how much of it is not."""
    return (
        "A point is the optimum of a network size and token budget by the chosen reading, the lighter the larger the "
        "network, with its interval where noise is known; hollow ones lie at a grid's end and are left out. Lines are "
        "the law at some of the sizes, black where it has no N. A panel for each source and quantity."
        f"{sources.beyond(data)}"
    )


def draw(data: pd.DataFrame) -> Figure:
    """A panel per source and quantity on shared colours."""
    names = sources.shown(data)
    figure, axes, _ = style.panels(names, legend_share=0.05, share_y=False)
    norm = sources.shades(data["n_params"])
    colours = ScalarMappable(norm, COLOURS)
    for name, axis in axes.items():
        mine = style.log2(data[data["source"] == name], "tokens", "value", "low", "high")
        dots, lines = mine[mine["kind"] != LINE], mine[mine["kind"] == LINE]
        for _, rows in lines.groupby("n_params"):
            colour = colours.to_rgba(rows["n_params"].to_numpy())[0] if rows["with_n"].all() else "black"
            axis.plot(rows["tokens"], rows["value"], color=colour, linewidth=1.1, zorder=1)
        known, out = dots[dots["kind"] == POINT], dots[dots["kind"] == LEFT_OUT]
        style.intervals(axis, known["tokens"], known["low"], known["high"], color=style.GREY, linewidth=0.7, zorder=0)
        axis.scatter(
            known["tokens"], known["value"], c=known["n_params"], norm=norm, cmap=COLOURS, s=14, linewidths=0, zorder=2
        )
        hollow = axis.scatter(out["tokens"], out["value"], facecolors="none", s=18, zorder=2)
        hollow.set_edgecolor([tuple(rgba) for rgba in colours.to_rgba(out["n_params"].to_numpy())])
        style.log2_ticks(axis)
        style.log2_ticks(axis, "y")
        axis.set_xlabel("training tokens, T")
        axis.set_title(f"{name}\n{style.raised(mine['note'].iloc[0])}", fontsize=9)
    style.label_left(figure, axes, "optimum")
    figure.colorbar(colours, ax=list(axes.values()), label="parameters, N")
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = [
        f"{name}: {(rows['kind'] == POINT).sum():,} optima, {(rows['kind'] == LEFT_OUT).sum():,} left out, "
        f"{rows['note'].iloc[0]}"
        for name, rows in data.groupby("source", sort=False)
    ]
    return f"Optima against tokens, with the fitted law. {'; '.join(parts)}."

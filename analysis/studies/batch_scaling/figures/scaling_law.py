"""Measured losses and the fitted law's: over token budgets for each network, over batch sizes for each budget."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.fits.power_sum import levels
from analysis.laws.scaling_laws import ScalingLaw
from analysis.studies.batch_scaling.result import BatchScaling
from analysis.tables.arrays import Floats
from analysis.tables.sweep import SweepTables

TITLE = "Loss and the scaling laws fitted to it"
CAPTION = (
    "Points are the best measured losses, lines the laws fitted to all of them. L(N, T) has a line per number of "
    "parameters N; L(N, K, B) has one per token budget T = K B, along which larger batches mean fewer steps."
)
POINT, LINE = "point", "line"
LABELS = {"n_params": "parameters, N", "tokens": "training tokens, T", "batch_tokens": "tokens a step, B"}
FORMS = {"chinchilla": "L(N, T)", "three-term": "L(N, K, B)"}
NAMED = 12  # series in the legend: of more, some that lie evenly among them
STEPS = 49  # points of a line


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """`of_laws` of every law."""
    return of_laws((each.optimizer, each.law) for each in fit.laws)


def of_laws(laws: Iterable[tuple[str, ScalingLaw]]) -> pd.DataFrame:
    """From (optimizer, law): measured losses (`kind` point) and the law's (`kind` line), along `x` for every `series`.

    `along` and `by` name what x and series are: numbers of parameters or of tokens. Losses are nats per token; `rms` is
    the law's over all points. A law that was not fitted has no rows.
    """
    parts = [_law(optimizer, law) for optimizer, law in laws if law.parameters]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _law(optimizer: str, law: ScalingLaw) -> pd.DataFrame:
    points = law.points()
    if "steps" in points:
        points["tokens"] = points["steps"] * points["batch_tokens"]
    as_run = points[["n_params", "tokens"]].copy()
    for column in ("n_params", "tokens"):  # budgets are rounded to whole steps
        points[column] = points.groupby(levels(points[column].to_numpy()))[column].transform("median")
    form, along, by = FORMS[law.form.name], "tokens", "n_params"
    if "batch_tokens" in points and points["batch_tokens"].nunique() > 1:
        along, by = "batch_tokens", "tokens"
    elif points["tokens"].nunique() == 1:
        along, by = "n_params", "tokens"
    if along in as_run:  # what tells the series apart is one number each, and where a point lies is its own
        points[along] = as_run[along]
    apart = points["n_params"].nunique() > 1 and along == "batch_tokens"
    sizes = sorted(points["n_params"].unique()) if apart else [None]
    parts = []
    for size in sizes:
        panel = points if size is None else points[points["n_params"] == size]
        name = f"{optimizer}, {form}" + ("" if size is None else f", N = {size:,.0f}")
        for series, rows in panel.sort_values(along).groupby(by):
            measured = pd.DataFrame({"kind": POINT, "x": rows[along], "val_loss": rows["val_loss"]})
            parts.append(pd.concat([measured, _line(law, rows, along)]).assign(panel=name, series=series))
    about = {"optimizer": optimizer, "along": along, "by": by, "rms": law.rms, "status": law.status}
    return pd.concat(parts).assign(**about)


def _line(law: ScalingLaw, rows: pd.DataFrame, along: str) -> pd.DataFrame:
    """The law along one resource over the range measured; the others stay, but steps are what the tokens leave."""
    x = np.geomspace(rows[along].min(), rows[along].max(), STEPS)
    of: dict[str, Floats] = {name: np.full(STEPS, rows[name].iloc[0]) for name in ("n_params", "tokens")}
    of["batch_tokens"] = np.full(STEPS, rows["batch_tokens"].iloc[0] if "batch_tokens" in rows else 1.0)
    of[along] = x
    of["steps"] = of["tokens"] / of["batch_tokens"]
    loss = law.predict(*(of[name] for name in law.form.resources))
    return pd.DataFrame({"kind": LINE, "x": x, "val_loss": loss})


def draw(data: pd.DataFrame) -> Figure:
    """A panel per law; larger networks and budgets are darker."""
    figure, axes, spare = style.panels(list(dict.fromkeys(data["panel"])), legend_share=0.6)
    for name, axis in axes.items():
        mine = data[data["panel"] == name]
        first = mine.iloc[0]
        family = sorted(data.loc[data["by"] == first["by"], "series"].unique())
        shades = dict(zip(family, style.shades(style.colour(first["optimizer"]), len(family)), strict=True))
        for series, rows in mine.groupby("series"):
            points, line = rows[rows["kind"] == POINT], rows[rows["kind"] == LINE]
            marker = style.MARKERS[family.index(series) % len(style.MARKERS)]
            axis.plot(np.log2(line["x"]), line["val_loss"], color=shades[series], linewidth=1.3)
            axis.plot(np.log2(points["x"]), points["val_loss"], marker, color=shades[series], markersize=4.5)
        axis.set_title(name, color=style.colour(first["optimizer"]), fontweight="bold")
        status = "" if first["status"] == "ok" else f", {first['status']}"
        note = f"rms {first['rms']:.3f} nats{status}"
        axis.annotate(note, (0.98, 0.97), xycoords="axes fraction", ha="right", va="top", size=8)
        style.log2_ticks(axis)
        axis.set_xlabel(LABELS[first["along"]])
    style.label_left(figure, axes, "validation loss (nats)")
    style.legend(figure, spare, _handles(data))
    return figure


def _handles(data: pd.DataFrame) -> list[Line2D]:
    handles = []
    for by, rows in data.groupby("by", sort=False):
        family = sorted(rows["series"].unique())
        shades = style.shades(style.GREY, len(family))
        for i in sorted({round(place) for place in np.linspace(0, len(family) - 1, min(NAMED, len(family)))}):
            series, shade = family[i], shades[i]
            label = f"T = {style.power_of_two(series)}" if by == "tokens" else f"N = {series:,.0f}"
            handles.append(Line2D([], [], color=shade, marker=style.MARKERS[i % len(style.MARKERS)], label=label))
    return handles


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = [
        f"{row['panel']}: {row['rms']:.3f} nats" + ("" if row["status"] == "ok" else f" ({row['status']})")
        for row in data.drop_duplicates("panel").to_dict("records")
    ]
    return f"Validation losses with the fitted scaling laws. Root mean square residuals: {'; '.join(parts)}."

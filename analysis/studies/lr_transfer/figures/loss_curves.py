"""Training loss against tokens at the best learning rate of each width (or other place), a panel per series."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import style, units
from analysis.studies.lr_transfer.figures.lr_series import Layout
from analysis.studies.lr_transfer.result import LrTransfer
from analysis.tables.sweep import SweepTables

TITLE = "Training loss at the best learning rate"
HEADROOM = 2.0  # nats above the lowest loss that the scale shows; the first steps fall from above it


def caption(data: pd.DataFrame) -> str:
    """Names the axis."""
    axis = Layout.of(data).axis
    return f"Mean over seeds at each {axis}'s best grid learning rate. The first steps fall from above the scale."


def table(tables: SweepTables, fit: LrTransfer) -> pd.DataFrame:
    """One row per series, place and step: mean over the seeds at the grid's best learning rate."""
    ok = fit.cells(tables.runs[tables.runs["status"] == "ok"])
    keys = ["series", "optimizer", "at", "lr"]
    means = ok.groupby(keys, as_index=False, sort=False)["val_loss"].mean()
    best = means.loc[means.groupby(["series", "at"], sort=False)["val_loss"].idxmin(), keys]
    chosen = best.merge(ok, on=keys)[["trial_id", *keys]]
    points = chosen.merge(tables.losses(chosen["trial_id"].tolist()), on="trial_id")
    curves = points.groupby([*keys, "tokens"], as_index=False, sort=False).agg(
        train_loss=("train_loss", "mean"), n_seeds=("trial_id", "nunique")
    )
    return units.with_unit(fit.named(curves), tables.runs)


def draw(data: pd.DataFrame) -> Figure:
    """Lines from light (narrow) to dark (wide)."""
    layout = Layout.of(data)
    places = layout.places(data)
    lowest = data["train_loss"].min()
    figure, axes, spare = style.panels(list(layout.colours))
    for name, axis in axes.items():
        for place, shade in zip(places, style.shades(layout.colours[name], len(places)), strict=True):
            rows = data[(data[layout.series] == name) & (data[layout.column] == place)]
            axis.plot(rows["tokens"] / 1000, rows["train_loss"], color=shade, linewidth=1.3)
        axis.set_title(name, color=layout.colours[name], fontweight="bold")
        axis.set_xlabel(f"thousand {units.examples(data)}")
        axis.set_ylim(lowest - 0.1, lowest + HEADROOM)
    style.label_left(figure, axes, f"training loss{units.nats(data)}")
    style.legend(figure, spare, style.width_handles(places, axis=layout.axis))
    return figure


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    layout = Layout.of(data)
    last = data[data["tokens"] == data["tokens"].max()]
    parts = [f"{row[layout.series]} {layout.place(row)}: {row['train_loss']:.2f}" for _, row in last.iterrows()]
    what = f"Training loss against {units.examples(data)} at each {layout.axis}'s best learning rate."
    return f"{what} Last values: {', '.join(parts)} nats."

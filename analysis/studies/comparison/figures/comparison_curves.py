"""Training loss against tokens, a line per arm at its best learning rate and place; the end larger on the right."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.drawing import units
from analysis.studies.comparison.design import sign
from analysis.studies.comparison.figures import arms
from analysis.studies.comparison.result import CellResult, Comparison
from analysis.tables.keys import plain
from analysis.tables.sweep import SweepTables

TITLE = "Training loss of every arm at its best"
BINS = 64
SMOOTH = 4  # bins a point is averaged over
HEADROOM = 1.0  # nats above the lowest loss that the scale shows


def caption(data: pd.DataFrame) -> str:
    """Says what is drawn."""
    best = f"learning rate and {data['across'].iloc[0]}" if "across" in data else "learning rate"
    return f"Mean over seeds at every arm's best {best} of the grid, smoothed over a sixteenth of the run."


def table(tables: SweepTables, fit: Comparison) -> pd.DataFrame:
    """One row per arm and bin of tokens: mean training loss. Empty without curves."""
    curves = tables.losses()
    if curves.empty:
        return pd.DataFrame()
    edges = np.linspace(0, curves["tokens"].max(), BINS + 1)
    runs, rows = arms.placed(tables, fit), []
    for arm, named in enumerate(fit.design.arms):
        cell = _best(fit, named.name)
        if cell is None:
            continue
        place = fit.design.places.index(cell.place)
        chosen = runs[(runs["arm"] == arm) & (runs["place"] == place) & (runs["lr"] == cell.rate)]
        mine = curves[curves["trial_id"].isin(chosen["trial_id"]) & np.isfinite(curves["train_loss"])]
        binned = mine.groupby(np.digitize(mine["tokens"], edges, right=True))["train_loss"].mean()
        smooth = binned.rolling(SMOOTH, min_periods=1).mean()
        about = {"arm": named.name, "optimizer": named.optimizer, **arms.where(fit, place), "lr": cell.rate}
        rows += [
            {**about, "tokens": edges[index], "train_loss": loss, "n_seeds": mine["trial_id"].nunique()}
            for index, loss in zip(smooth.index.to_numpy(int), smooth, strict=True)
        ]
    return arms.finish(rows, tables, fit) if rows else pd.DataFrame()


def _best(fit: Comparison, arm: str) -> CellResult | None:
    """The arm's cell with the best value; None where all diverged."""
    cells = [(cell.value.value, cell) for cell in fit.cells if cell.arm == arm and cell.value is not None]
    return min(cells, key=lambda pair: pair[0] * sign(fit.design.settings.metric))[1] if cells else None


def draw(data: pd.DataFrame) -> Figure:
    """The whole run, and its last third."""
    found = arms.colours(data)
    columns = 2 if max(map(len, found)) > 20 else 3
    figure = Figure(figsize=(8.8, 3.7 + 0.22 * -(-len(found) // columns)))
    whole, end = figure.subplots(1, 2)
    lowest, last = data["train_loss"].min(), data["tokens"].max()
    for i, (name, color) in enumerate(found.items()):
        rows = arms.of(data, name)
        look = {"color": color, "linestyle": arms.dashes(i), "linewidth": 1.5, "label": _label(rows, name)}
        for axis in (whole, end):
            axis.plot(rows["tokens"] / 1000, rows["train_loss"], **look)
            axis.set_xlabel(f"thousand {units.examples(data)}")
    whole.set_ylabel(arms.label(data, "train_loss"))
    whole.set_ylim(lowest - 0.05 * HEADROOM, lowest + HEADROOM)
    tail = data[data["tokens"] > 2 / 3 * last]["train_loss"]
    top = min(tail.max(), tail.min() + HEADROOM / 2)
    end.set_xlim(2 / 3 * last / 1000, last / 1000)
    end.set_ylim(tail.min() - 0.05 * (top - tail.min()) - 1e-3, top + 0.05 * (top - tail.min()) + 1e-3)
    end.set_title("the last third", fontsize="medium")
    names, labels = whole.get_legend_handles_labels()
    figure.legend(names, labels, loc="outside lower center", ncols=columns)
    return figure


def _label(rows: pd.DataFrame, name: str) -> str:
    row = rows.iloc[0]
    at = f", {row['across']} {plain(row['place'])}" if "place" in rows else ""
    return f"{name} (lr $2^{{{np.log2(row['lr']):.3g}}}${at})"


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = [f"{name} {arms.of(data, name)['train_loss'].iloc[-1]:.2f}" for name in arms.colours(data)]
    return f"Training loss against {units.examples(data)}, a line per arm. Last values: {', '.join(parts)}."

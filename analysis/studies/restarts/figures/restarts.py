"""Training loss against tokens, a line per way to spend them; restarts are marked where they happen."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.studies.restarts.fit import Restarts
from analysis.tables.sweep import SweepTables

TITLE = "Training loss against tokens"
CAPTION = (
    "Mean over seeds, smoothed over a sixteenth of the run; dotted lines mark restarts. All rates are held, then decay "
    "at the end. The legend gives the validation loss after the last step with its interval."
)
BINS = 64
SMOOTH = 4  # bins a point is averaged over
HEADROOM = 1.0  # nats above the lowest loss that the scale shows
COLOURS = ("#0072B2", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#56B4E9", "#000000")


def table(tables: SweepTables, fit: Restarts) -> pd.DataFrame:
    """One row per way and bin of tokens: mean training loss; each way's final loss and restarts are repeated in it."""
    curves = tables.losses()
    edges = np.linspace(0, curves["tokens"].max(), BINS + 1)
    rows = []
    for way in fit.ways:
        mine = curves[curves["trial_id"].isin(way.trial_ids) & np.isfinite(curves["train_loss"])]
        binned = mine.groupby(np.digitize(mine["tokens"], edges, right=True))["train_loss"].mean()
        smooth = binned.rolling(SMOOTH, min_periods=1).mean()
        restarts = " ".join(f"{stage[0]:.0f}" for stage in way.stages[1:])
        final = way.loss
        for index, loss in zip(smooth.index.to_numpy(int), smooth, strict=True):
            rows.append(
                {
                    "way": way.name,
                    "tokens": edges[index],
                    "train_loss": loss,
                    "restarts_at": restarts,
                    "val_loss": None if final is None else final.value,
                    "val_loss_low": None if final is None else final.low,
                    "val_loss_high": None if final is None else final.high,
                    "n_seeds": way.n_seeds,
                }
            )
    return pd.DataFrame(rows)


def draw(data: pd.DataFrame) -> Figure:
    """The whole run on the left, its last third larger on the right."""
    figure = Figure(figsize=(9.6, 4.4))
    whole, end = figure.subplots(1, 2)
    names = list(dict.fromkeys(data["way"]))
    lowest, last = data["train_loss"].min(), data["tokens"].max()
    for i, name in enumerate(names):
        rows = data[data["way"] == name]
        colour = COLOURS[i % len(COLOURS)]
        for axis in (whole, end):
            axis.plot(
                rows["tokens"] / 1000, rows["train_loss"], color=colour, linewidth=1.5, label=_label(rows.iloc[0])
            )
            for at in rows["restarts_at"].iloc[0].split():
                axis.axvline(float(at) / 1000, color=colour, linestyle=":", linewidth=1)
            axis.set_xlabel("thousand tokens")
    whole.set_ylabel("training loss (nats)")
    whole.set_ylim(lowest - 0.05 * HEADROOM, lowest + HEADROOM)
    tail = data[data["tokens"] > 2 / 3 * last]["train_loss"]
    end.set_xlim(2 / 3 * last / 1000, last / 1000)
    end.set_ylim(tail.min() - 0.02, tail.max() + 0.02)
    end.set_title("the last third", fontsize="medium")
    handles, labels = whole.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, title="validation loss at the end, 95% interval"
    )
    return figure


def _label(row: pd.Series) -> str:
    if pd.isna(row["val_loss"]):
        return f"{row['way']}: diverged"
    if pd.isna(row["val_loss_low"]):
        return f"{row['way']}: {row['val_loss']:.3f}"
    return f"{row['way']}: {row['val_loss']:.3f} [{row['val_loss_low']:.3f}, {row['val_loss_high']:.3f}]"


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = [_label(rows.iloc[0]) for _, rows in data.groupby("way", sort=False)]
    return f"Training loss against tokens. Validation loss after the last step: {'; '.join(parts)} nats."

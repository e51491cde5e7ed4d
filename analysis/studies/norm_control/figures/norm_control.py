"""Norms of the weights over training: a panel per method, a line per role, and the bounds of theory."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.studies.norm_control.fit import SETTING, NormControl, weights
from analysis.tables.sweep import SweepTables

TITLE = "Norms of the weights over training"
CAPTION = (
    "Every layer in its own norm, at the setting with the lowest validation loss: the line is the mean over a role's "
    "layers and the seeds, the band reaches from the smallest to the largest. Dashed: the largest of the role's "
    "bounds, which tend to ρ for constrained steps and are ‖W⁰‖ + ρΣγ for unconstrained ones. A weight of 0 is below "
    "the scale."
)
COLOURS = {"input": "#0072B2", "hidden": "#009E73", "output": "#D55E00", "gain": "#CC79A7", "bias": "#7F7F7F"}


def table(tables: SweepTables, fit: NormControl) -> pd.DataFrame:
    """A row per method, role and step: mean norm over layers and seeds, the extremes, and the largest bound."""
    _, rows = weights(tables)
    chosen = pd.concat([_best(mine) for _, mine in rows.groupby("optimizer", sort=True)])
    keys = ["optimizer", *SETTING, "role", "step"]
    found = chosen.groupby(keys, as_index=False, sort=False).agg(
        norm=("norm", "mean"), low=("norm", "min"), high=("norm", "max"), bound=("bound", "max"),
        n_layers=("layer", "nunique"), n_seeds=("seed", "nunique"),
    )  # fmt: skip
    verdicts = pd.DataFrame({"optimizer": m.optimizer, "verdict": m.verdict} for m in fit.methods)
    return found.merge(verdicts, on="optimizer").sort_values(["optimizer", "role", "step"], ignore_index=True)


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the setting with the lowest mean loss over seeds."""
    runs = rows.drop_duplicates("trial_id")
    best = runs.groupby([*SETTING], as_index=False).agg({"val_loss": "mean"}).sort_values("val_loss").head(1)
    return rows.merge(best[[*SETTING]], on=[*SETTING])


def draw(data: pd.DataFrame) -> Figure:
    """All panels on one logarithmic scale."""
    names = list(dict.fromkeys(data["optimizer"]))
    columns = 2 if len(names) == 4 else 3
    figure, axes, spare = style.panels(names, columns, size=(2.7, 2.7), legend_share=0.7, legend_height=0.5)
    for name, axis in axes.items():
        mine = data[data["optimizer"] == name]
        for role, rows in mine.groupby("role", sort=False):
            _line(axis, rows, COLOURS.get(str(role), style.GREY))
        axis.set_yscale("log")
        style.name_panel(
            axis, name, f"bounds: {mine['verdict'].iloc[0]}" if mine["bound"].notna().any() else "no bound"
        )
        axis.set_xlabel("step")
    style.label_left(figure, axes, "norm of the weight")
    style.legend(figure, spare, _handles(data))
    return figure


def _line(axis: Axes, rows: pd.DataFrame, colour: str) -> None:
    positive = rows[["norm", "low", "high", "bound"]].where(rows[["norm", "low", "high", "bound"]] > 0).astype(float)
    axis.fill_between(rows["step"], positive["low"], positive["high"], color=style.pale(colour), linewidth=0)
    axis.plot(rows["step"], positive["norm"], color=colour, linewidth=1.4)
    if positive["bound"].notna().any():
        axis.plot(rows["step"], positive["bound"], "--", color="black", linewidth=0.9)


def _handles(data: pd.DataFrame) -> list[Line2D]:
    roles = [role for role in COLOURS if (data["role"] == role).any()]
    handles = [Line2D([], [], color=COLOURS[role], label=role) for role in roles]
    if data["bound"].notna().any():
        handles.append(Line2D([], [], color="black", linewidth=0.9, linestyle="--", label="bound"))
    return handles


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("optimizer", sort=False):
        said = ", ".join(f"{role} {_ends(mine)}" for role, mine in rows.groupby("role", sort=False))
        parts.append(f"{name} {said}")
    return f"Norms of the weights against steps, mean over the layers of a role: {'; '.join(parts)}."


def _ends(rows: pd.DataFrame) -> str:
    norms, bound = rows["norm"].to_numpy(float), float(rows["bound"].iloc[-1])
    return f"{norms[0]:.3g} to {norms[-1]:.3g}" + (f" (bound {bound:.3g})" if np.isfinite(bound) else "")

"""‖∇f‖_* against the horizon, a line per arm, a panel per kind of noise, with the slopes of theory."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.studies.convergence.arms import noiseless
from analysis.studies.convergence.fit import ConvergenceFit
from analysis.tables.sweep import SweepTables

TITLE = "Mean gradient norm against the horizon"
CAPTION = (
    "Mean over the run, but for its start, of the dual norm of the exact gradient, for runs of n steps whose step "
    "size is the theorem's for that n; geometric mean over seeds, bars span them. Solid lines have a constant "
    "momentum, dashed ones a vanishing one. Dotted grey: the slopes of theory, −1/2 and −1/4. What falls "
    "farther leaves the frame."
)
DEPTH = 12  # octaves below a panel's highest point that it shows
GUIDES = (-1 / 2, -1 / 4)
# Of methods that other figures do not have; others get a spare one by their place among those.
COLOURS = {**style.COLOURS, "almond": "#CC79A7", "clipped-scion": "#000000", "clipped-uscion": "#7F7F7F"}
SPARE = ("#8C564B", "#B8A100", "#4B5320")


def table(tables: SweepTables, fit: ConvergenceFit) -> pd.DataFrame:
    """A row per arm and horizon: geometric mean over seeds of the metric and its range, the arm's exponent repeated."""
    rows = []
    for found in fit.arms:
        points = fit.points[(fit.points["arm"] == found.arm.name) & (fit.points["grad_dual"] > 0)]
        for steps, mine in points.groupby("steps"):
            values = mine["grad_dual"].to_numpy(float)
            rows.append(
                {
                    "arm": found.arm.name,
                    "optimizer": found.arm.optimizer,
                    "momentum_schedule": found.arm.momentum_schedule,
                    "data": found.arm.data,
                    "steps": steps,
                    "grad_dual": float(2 ** np.log2(values).mean()),
                    "low": float(values.min()),
                    "high": float(values.max()),
                    "n_seeds": len(values),
                    "exponent": found.exponent.value if found.exponent else None,
                    "theory": found.arm.theory,
                    "verdict": found.verdict,
                }
            )
    return pd.DataFrame(rows)


def draw(data: pd.DataFrame) -> Figure:
    """Every panel on its own scale: without noise some arms fall far below the others."""
    sources = sorted(data["data"].unique(), key=lambda name: (not noiseless(name), name))
    columns = min(3, len(sources))
    rows = -(-len(sources) // columns)
    figure = Figure(figsize=(0.4 + 2.8 * columns, 0.9 + 3.0 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in panels[len(sources) :]:
        axis.set_axis_off()
    looks = colours(data["optimizer"])
    for source, axis in zip(sources, panels, strict=False):
        mine = data[data["data"] == source]
        for i, (_, line) in enumerate(mine.groupby("arm", sort=False)):
            _line(axis, line, looks, style.MARKERS[i % len(style.MARKERS)])
        _guides(axis, mine)
        axis.set_ylim(bottom=max(axis.get_ylim()[0], np.log2(mine["grad_dual"].max()) - DEPTH))
        axis.set_title(source.removeprefix("noise:").replace("none", "no noise"))
        style.log2_ticks(axis)
        style.log2_ticks(axis, "y")
        axis.set_xlabel("horizon n (steps)")
    for axis in panels[::columns]:
        axis.set_ylabel(r"mean of $\|\nabla f\|_*$")
    figure.legend(handles=_handles(data, looks), loc="outside lower center", ncols=3 if columns > 1 else 2)
    return figure


def colours(optimizers: Iterable[str]) -> dict[str, str]:
    """A colour for every optimizer."""
    names = sorted(set(optimizers))
    unknown = [name for name in names if name not in COLOURS]
    return {name: COLOURS[name] if name in COLOURS else SPARE[unknown.index(name) % len(SPARE)] for name in names}


def dashes(momentum_schedule: str) -> Literal["-", "--"]:
    """The line of a momentum schedule."""
    return "--" if momentum_schedule == "vanishing" else "-"


def _line(axis: Axes, rows: pd.DataFrame, looks: dict[str, str], marker: str) -> None:
    first = rows.iloc[0]
    colour = looks[first["optimizer"]]
    rows = style.log2(rows, "steps", "grad_dual", "low", "high")
    axis.plot(
        rows["steps"], rows["grad_dual"], dashes(first["momentum_schedule"]), color=colour, marker=marker, markersize=4,
        linewidth=1.4,
    )  # fmt: skip
    style.intervals(axis, rows["steps"], rows["low"], rows["high"], color=colour, linewidth=1.2)


def _guides(axis: Axes, rows: pd.DataFrame) -> None:
    """Lines of theory's slopes through the middle of the first horizon's points."""
    steps, duals = (np.log2(rows[name].to_numpy(float)) for name in ("steps", "grad_dual"))
    ends = np.array([steps.min(), steps.max()])
    start = duals[steps == ends[0]].mean()
    for exponent in GUIDES:
        axis.plot(ends, start + exponent * (ends - ends[0]), ":", color=style.GREY, linewidth=1.2, zorder=1)


def _handles(data: pd.DataFrame, looks: dict[str, str]) -> list[Line2D]:
    handles = [Line2D([], [], color=colour, label=name) for name, colour in looks.items()]
    handles += [
        Line2D([], [], color=style.GREY, linestyle=dashes(name), label=f"α {name}")
        for name in dict.fromkeys(data["momentum_schedule"])
    ]
    return [*handles, Line2D([], [], color=style.GREY, linestyle=":", label="slopes −1/2, −1/4")]


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("arm", sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        slope = f", exponent {first['exponent']:+.2f}" if pd.notna(first["exponent"]) else ""
        parts.append(
            f"{name} from {first['grad_dual']:.2g} at {first['steps']} steps to {last['grad_dual']:.2g} at "
            f"{last['steps']}{slope} ({first['verdict']})"
        )
    return f"Mean dual norm of the gradient against the horizon, on logarithmic axes: {'; '.join(parts)}."

"""f along a run without noise: clipped steps beside plain ones."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.studies.convergence.figures.convergence import colours, dashes
from analysis.studies.convergence.fit import ConvergenceFit, losses_of
from analysis.tables.sweep import SweepTables

TITLE = "The loss along a run without noise"
CAPTION = (
    "One seed, at the longest horizon of which all of these arms log every step; where there is none, at the longest "
    "they share, with means over several steps. Clipped steps shrink with the gradient, so f falls at every one; "
    "plain steps keep their length and end in going to and fro. Dashed: a vanishing momentum. The verdicts are on all "
    "horizons. What falls farther leaves the frame."
)
DEPTH = 1e-8  # of the highest loss: what lies lower is not shown


def table(tables: SweepTables, fit: ConvergenceFit) -> pd.DataFrame:
    """A row per arm and logged step; empty if no arm is without noise and clipped."""
    if not any(descent.arm.clipped for descent in fit.descents):
        return pd.DataFrame()
    found = []
    for descent in fit.descents:
        mine = fit.points[fit.points["arm"] == descent.arm.name].sort_values("seed").drop_duplicates("steps")
        steps = dict(zip(mine["trial_id"], map(int, mine["steps"]), strict=True))
        losses = losses_of(tables, list(steps))
        found.append((descent, {steps[trial]: losses[trial] for trial in steps if trial in losses}))
    shared = set.intersection(*(set(curves) for _, curves in found))
    whole = {steps for steps in shared if all(len(curves[steps]) == steps for _, curves in found)}
    if not shared:
        return pd.DataFrame()
    horizon = max(whole or shared)
    return pd.DataFrame(
        {
            "arm": descent.arm.name,
            "optimizer": descent.arm.optimizer,
            "momentum_schedule": descent.arm.momentum_schedule,
            "horizon": horizon,
            "rise": descent.rise,
            "verdict": descent.verdict,
            "step": step,
            "loss": loss,
        }
        for descent, curves in found
        for step, loss in curves[horizon].items()
    )


def draw(data: pd.DataFrame) -> Figure:
    """One panel, logarithmic both ways; a loss of 0 is below it."""
    figure = Figure(figsize=(6.6, 3.6))
    axis = figure.subplots()
    looks = colours(data["optimizer"])
    for name, rows in data.groupby("arm", sort=False):
        _line(axis, rows, str(name), looks[rows["optimizer"].iloc[0]])
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_ylim(bottom=max(axis.get_ylim()[0], DEPTH * data["loss"].max()))
    axis.set_xlabel("step")
    axis.set_ylabel("f")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _line(axis: Axes, rows: pd.DataFrame, name: str, colour: str) -> None:
    first = rows.iloc[0]
    positive = rows["loss"].where(rows["loss"] > 0)
    width = 2.0 if first["optimizer"].startswith("clipped") else 1.2
    axis.plot(
        rows["step"], positive, dashes(first["momentum_schedule"]), color=colour, linewidth=width,
        label=f"{name}: {first['verdict']}",
    )  # fmt: skip


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = [
        f"{name} from {rows['loss'].iloc[0]:.2g} to {rows['loss'].iloc[-1]:.2g}, largest rise in any run "
        f"{rows['rise'].iloc[0]:.2g} of the start"
        for name, rows in data.groupby("arm", sort=False)
    ]
    return f"Loss against steps without noise at a horizon of {data['horizon'].max()} steps: {'; '.join(parts)}."

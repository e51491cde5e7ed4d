"""Variance of a gradient of b windows, and the ratio κ of its noise's norms, against b."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.drawing import style
from analysis.fits.intervals import Estimate
from analysis.laws.constants import VarianceLaw, probes_of
from analysis.studies.batch_scaling.result import BatchScaling, OptimizerScaling
from analysis.tables.sweep import SweepTables

TITLE = "Noise of the gradient against batch size"
CAPTION = (
    "Geometric means over the late probes of all runs, bars from their lower to their upper quartile; darker lines are "
    "longer windows. Were all tokens independent, the variance would fall as 1/b and as 1/s (dotted), and κ, which the "
    "theory takes for a constant, would be level."
)
QUANTITIES = {"grad_variance": "variance of the gradient, E‖g − ∇f‖₂²", "norm_ratio": "κ = ‖g − ∇f‖$_*$ / ‖g − ∇f‖₂"}
QUARTILES = (0.25, 0.75)


def table(tables: SweepTables, fit: BatchScaling) -> pd.DataFrame:
    """Per optimizer, `quantity` (grad_variance, norm_ratio), window length and batch size in windows: mean, quartiles.

    `kind` law are the fitted power laws, with their exponents in the batch and the window length. Empty where nothing
    was probed, or with one batch size.
    """
    probes = probes_of(tables.runs, tables.probes)
    if probes.empty or probes["probe_batch_size"].nunique() < 2:
        return pd.DataFrame()
    found = [_optimizer(o, probes[probes["late"]]) for o in fit.optimizers if o.constants is not None]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _optimizer(found: OptimizerScaling, late: pd.DataFrame) -> pd.DataFrame:
    assert found.constants is not None
    mine = late[late["trial_id"].isin([run.trial_id for run in found.constants.runs])]
    parts = []
    for quantity in QUANTITIES:
        points = _means(mine, quantity)
        law = found.constants.variance
        if quantity == "grad_variance" and law is not None:
            parts += [points, _variance_law(points, law)]
        elif quantity == "norm_ratio" and found.constants.norm_ratio_exponent is not None:
            parts += [points, _norm_ratio_law(points, found.constants.norm_ratio_exponent)]
        else:
            parts.append(points)
    return pd.concat(parts, ignore_index=True).assign(optimizer=found.optimizer)


def _means(late: pd.DataFrame, quantity: str) -> pd.DataFrame:
    keys = ["probe_seq_len", "probe_batch_size"]
    rows = late[late[quantity] > 0]
    points = (
        rows.assign(log=np.log(rows[quantity]))
        .groupby(keys)["log"]
        .agg(
            value="mean",
            low=lambda log: log.quantile(QUARTILES[0]),
            high=lambda log: log.quantile(QUARTILES[1]),
            n_probes="size",
        )
        .reset_index()
    )
    for column in ("value", "low", "high"):
        points[column] = np.exp(points[column].astype(float))
    return points.assign(kind="mean", quantity=quantity)


def _variance_law(points: pd.DataFrame, law: VarianceLaw) -> pd.DataFrame:
    rows = points[["probe_seq_len", "probe_batch_size", "quantity"]]
    growth = rows["probe_batch_size"] ** -law.batch.value
    exponents: dict[str, Any] = {"batch_exponent": -law.batch.value}
    if law.seq is not None:
        growth = growth * rows["probe_seq_len"] ** -law.seq.value
        exponents["seq_exponent"] = -law.seq.value
    return rows.assign(kind="law", value=law.coefficient * growth, **exponents)


def _norm_ratio_law(points: pd.DataFrame, exponent: Estimate) -> pd.DataFrame:
    """The fit has no level: through the centre of the longest windows' means, the ones it was fitted to."""
    rows = points[points["probe_seq_len"] == points["probe_seq_len"].max()]
    x, y = np.log(rows["probe_batch_size"].astype(float)), np.log(rows["value"])
    value = np.exp(y.mean() + exponent.value * (x - x.mean()))
    kept = rows[["probe_seq_len", "probe_batch_size", "quantity"]]
    return kept.assign(kind="law", value=value, batch_exponent=exponent.value)


def draw(data: pd.DataFrame) -> Figure:
    """A row per optimizer: its variance, and its κ."""
    names = list(dict.fromkeys(data["optimizer"]))
    lengths = sorted(data["probe_seq_len"].unique())
    figure = Figure(figsize=(8.2, 3.5 * len(names) + 0.4))
    for name, pair in zip(names, figure.subplots(len(names), 2, squeeze=False), strict=True):
        for axis, (quantity, label) in zip(pair, QUANTITIES.items(), strict=True):
            rows = data[(data["optimizer"] == name) & (data["quantity"] == quantity)]
            for i, (length, shade) in enumerate(
                zip(lengths, style.shades(style.colour(name), len(lengths)), strict=True)
            ):
                _length(axis, rows[rows["probe_seq_len"] == length], shade, style.MARKERS[i % len(style.MARKERS)])
            _reference(axis, rows, quantity)
            axis.set_ylabel(label)
            axis.set_xlabel("batch size b of the probe (windows)")
        pair[0].set_title(name, color=style.colour(name), fontweight="bold", loc="left")
    figure.legend(handles=_handles(data, lengths), loc="outside lower center", ncols=len(lengths) + 2)
    return figure


def _length(axis: Axes, rows: pd.DataFrame, shade: style.Colour, marker: str) -> None:
    rows = rows.assign(x=np.log2(rows["probe_batch_size"].astype(float)))
    means, law = rows[rows["kind"] == "mean"], rows[rows["kind"] == "law"]
    axis.plot(law["x"], law["value"], "--", color=shade, linewidth=1.2)
    axis.plot(means["x"], means["value"], marker, color=shade, markersize=5)
    style.intervals(axis, means["x"], means["low"], means["high"], color=shade, linewidth=1.2)


def _reference(axis: Axes, rows: pd.DataFrame, quantity: str) -> None:
    """The law's exponents in words; below the points, for the variance, the slope of independent tokens."""
    means, law = rows[rows["kind"] == "mean"], rows[rows["kind"] == "law"]
    batches = np.sort(means["probe_batch_size"].unique()).astype(float)
    axis.set_xticks(list(np.log2(batches)), [f"{batch:g}" for batch in batches])
    if quantity == "grad_variance":
        axis.set_yscale("log", base=2)
        ends = np.array([batches.min(), batches.max()])
        at = 0.75 * (means["low"].fillna(means["value"]) * means["probe_batch_size"]).min()
        axis.plot(np.log2(ends), at / ends, ":", color="black", linewidth=1)
    else:
        axis.set_ylim(0, 1.25 * means["high"].max())
    if len(law):
        axis.text(0.97, 0.95, _law(law), transform=axis.transAxes, va="top", ha="right", fontsize=9)


def _law(law: pd.DataFrame) -> str:
    first = law.iloc[0]
    length = f"\\,s^{{{first['seq_exponent']:.2f}}}" if pd.notna(first.get("seq_exponent")) else ""
    return f"$\\propto b^{{{first['batch_exponent']:.2f}}}{length}$"


def _handles(data: pd.DataFrame, lengths: list[int]) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="", marker=style.MARKERS[i % len(style.MARKERS)], color=shade, label=f"s = {length:g}")
        for i, (length, shade) in enumerate(zip(lengths, style.shades(style.GREY, len(lengths)), strict=True))
    ]
    if (data["kind"] == "law").any():
        handles.append(Line2D([], [], linestyle="--", linewidth=1.2, color=style.GREY, label="fitted power law"))
    return [*handles, Line2D([], [], linestyle=":", linewidth=1, color="black", label="∝ 1/b")]


def alt(data: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for name, rows in data.groupby("optimizer", sort=False):
        texts = []
        for law in rows[rows["kind"] == "law"].drop_duplicates("quantity").to_dict("records"):
            length = law.get("seq_exponent")
            of_length = f" and {length:.2f} in the window length" if pd.notna(length) else ""
            what = "the variance" if law["quantity"] == "grad_variance" else "κ"
            texts.append(f"{what} has exponent {law['batch_exponent']:.2f} in the batch size{of_length}")
        parts.append(f"{name}: {', '.join(texts) or 'no law could be fitted'}")
    return f"Variance of the gradient and ratio of its noise's norms against batch size. {'; '.join(parts)}."

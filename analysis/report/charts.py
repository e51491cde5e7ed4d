"""Charts to explore trials in, as Vega-Lite specifications: a tooltip says which trial a line or a point is.

They come on top of the figures, which stay as they are on paper and without JavaScript. Colours of ink and lines are
the page's own (`page.css`), so that a chart follows its light and dark.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from analysis.drawing import style
from analysis.report.trials import Column, Trials
from analysis.tables.sweep import SweepTables
from analysis.tables.units import unit

MOST_TRIALS = 400  # lines that a browser still moves at once
MOST_POINTS = 64  # of a curve
MOST_FILTERS = 4
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
HEIGHT = 380
ZOOM = "wheel![event.ctrlKey || event.metaKey]"  # a plain wheel scrolls the page
Spec = dict[str, Any]


def explore(tables: SweepTables, trials: Trials) -> list[dict[str, Any]]:
    """The charts of a page that have something to show: `id`, `title`, `spec`, and a `note` on what was left out."""
    few = f"{MOST_TRIALS} of {trials.total:,} trials, evenly from the table's first to its last. "
    left_out = few if trials.total > MOST_TRIALS else ""
    thin = f"At most {MOST_POINTS} points of a curve. "
    diverged = "What lies above the scale is drawn at its top edge, and so is what diverged. "
    charts = (
        ("curves", "Curves of the trials", curves(tables, trials), left_out + thin),
        ("rates", "Losses of the trials against learning rate", rates(tables, trials), left_out + diverged),
    )
    return [{"id": id_, "title": title, "spec": spec, "note": note} for id_, title, spec, note in charts if spec]


def curves(tables: SweepTables, trials: Trials) -> Spec | None:
    """A line of the training loss per trial, of imports without any of the validation loss; None without curves."""
    chosen = _spread(trials)
    ids = [trials.ids[i] for i in chosen]
    losses, of = tables.losses(ids), "training"
    if losses["train_loss"].isna().all():
        losses, of = tables.validations(ids).rename(columns={"val_loss": "train_loss"}), "validation"
    losses = losses[np.isfinite(losses["train_loss"].astype(float))]
    by_trial = {trial: rows for trial, rows in losses.groupby("trial_id", sort=False) if len(rows) > 1}
    records = []
    for i in chosen:
        if (rows := by_trial.get(trials.ids[i])) is not None:
            thin = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, MOST_POINTS).round().astype(int))]
            losses_shown = [float(f"{loss:.5g}") for loss in thin["train_loss"]]
            records.append({**_told(trials, i), "x": [int(t) for t in thin["tokens"]], "y": losses_shown})
    if not records:
        return None
    low, high = _limits(np.concatenate([record["y"] for record in records]))
    scale = alt.Scale(type="log" if low > 0 and high > 100 * low else "linear", domain=[low, high], nice=False)
    hover = alt.selection_point(name="hover", fields=["trial"], on="pointerover", clear="pointerout")
    line = alt.Chart().encode(
        x=alt.X("x:Q", title=_examples(tables.runs), axis=alt.Axis(format="~s", tickCount=8)),
        y=alt.Y("y:Q", title=f"{of} loss{_nats(tables.runs)}", scale=scale),
        detail="trial:N",
        **_colour(trials),
    )
    thin_line = line.mark_line(clip=True, aria=False).encode(
        strokeWidth=alt.condition(hover, alt.value(1.3), alt.value(1.0)),
        opacity=alt.condition(hover, alt.value(0.85), alt.value(0.12)),
    )
    wide = line.mark_line(clip=True, aria=False, strokeWidth=9, strokeOpacity=0.001).encode(tooltip=_tooltip(trials))
    zoom = alt.selection_interval(name="zoom", bind="scales", zoom=ZOOM)
    chart = alt.layer(thin_line, wide.add_params(hover, zoom), data=alt.InlineData(values=records))
    return _finished(
        chart.transform_flatten(["x", "y"]),
        trials,
        f"{of.capitalize()} loss of {len(records)} trials, a line each. The table of all trials has their settings and "
        "results.",
    )


def rates(tables: SweepTables, trials: Trials) -> Spec | None:
    """A point of the validation loss per trial against its learning rate, and lines through means over seeds.

    None where there is but one learning rate. What lies more than a nat above the best is drawn at the top edge, and so
    is what diverged.
    """
    lr, loss, status = (trials.column(key) for key in ("lr", "val_loss", "status"))
    if lr is None or loss is None or status is None or len(lr.values) < 2 or not loss.values:
        return None
    low, high = _limits(np.array([cell.order for cell in loss.cells if cell.order is not None], dtype=float))
    group = [column for column in trials.varying if column.key != "lr"]
    records = [
        {
            **_told(trials, i),
            "x": np.log2(lr.cells[i].order or np.nan),
            "y": high if (y := loss.cells[i].order) is None else min(y, high),
            "group": " ".join(column.cells[i].text for column in group),
        }
        for i in _spread(trials)
        if status.cells[i].text != "error"
    ]
    base = alt.Chart().encode(
        x=alt.X("x:Q", title="learning rate", scale=alt.Scale(zero=False, nice=False, padding=12), axis=_POWERS),
        **_colour(trials),
    )
    title, scale = f"validation loss{_nats(tables.runs)}", alt.Scale(domain=[low, high], nice=False)
    line = base.mark_line(aria=False, opacity=0.45, strokeWidth=1.3).encode(
        y=alt.Y("mean(y):Q", title=title, scale=scale), detail="group:N"
    )
    hover = alt.selection_point(name="hover", fields=["trial"], on="pointerover", clear="pointerout")
    points = base.mark_point(aria=False, filled=True, opacity=0.9).encode(
        y=alt.Y("y:Q", title=title, scale=scale),
        size=alt.condition(hover, alt.value(130), alt.value(45), empty=False),
        tooltip=_tooltip(trials),
        **_shape(trials),
    )
    zoom = alt.selection_interval(name="zoom", bind="scales", zoom=ZOOM)
    return _finished(
        alt.layer(line, points.add_params(hover, zoom), data=alt.InlineData(values=records)),
        trials,
        f"Validation loss of {len(records)} trials against their learning rates. The table of all trials has the same.",
    )


_POWERS = alt.Axis(labelExpr="'2^' + format(datum.value, '~g')", tickMinStep=1)


def _spread(trials: Trials) -> list[int]:
    """Which trials are drawn: all, or as many as can be, evenly from first to last."""
    count = len(trials.ids)
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, MOST_TRIALS)).round())]


def _told(trials: Trials, i: int) -> dict[str, str]:
    """What the tooltip says of a trial."""
    return {"trial": trials.ids[i], **{column.name: column.cells[i].text for column in trials.columns}}


def _tooltip(trials: Trials) -> list[alt.Tooltip]:
    names = [column.name for column in trials.columns if column.key != "error"]  # what failed is not drawn
    return [alt.Tooltip(f"{name}:N") for name in ("trial", *names)]


def _limits(values: "np.ndarray[Any, np.dtype[np.float64]]") -> tuple[float, float]:
    """A scale that shows the lowest nat or the lower nine tenths, whichever is more."""
    low, most = float(values.min()), float(np.quantile(values, 0.9))
    high = max(most, min(low + 1.0, float(values.max())))
    margin = 0.04 * (high - low)
    return low if low > 0 >= low - margin else low - margin, high + margin


def _main(trials: Trials) -> Column | None:
    """The setting that colours stand for: the optimizer if there are several, else the first one that varies."""
    several = [column for column in trials.varying if column.key != "lr" and len(column.values) <= len(style.PALETTE)]
    return several[0] if several else None


def _colour(trials: Trials) -> dict[str, Any]:
    column = _main(trials)
    if column is None:
        return {"color": alt.value(style.PALETTE[0])}
    names = column.values
    palette = (
        style.colours(names, names) if column.key == "optimizer" else dict(zip(names, style.PALETTE, strict=False))
    )
    scale = alt.Scale(domain=names, range=[palette[name] for name in names])
    return {"color": alt.Color(f"{column.name}:N", scale=scale, legend=alt.Legend(orient="top"))}


def _shape(trials: Trials) -> dict[str, Any]:
    """A second setting by the shape of points."""
    others = [c for c in trials.varying if c.key != "lr" and c is not _main(trials) and len(c.values) <= len(SHAPES)]
    if not others:
        return {}
    scale = alt.Scale(domain=others[0].values, range=SHAPES[: len(others[0].values)])
    return {"shape": alt.Shape(f"{others[0].name}:N", scale=scale, legend=alt.Legend(orient="bottom"))}


def _finished(chart: Any, trials: Trials, description: str) -> Spec:
    """The chart with lists to choose trials from, as wide as its place."""
    chart = chart.properties(width="container", height=HEIGHT, description=description, background="transparent")
    for i, column in enumerate(_filters(trials)):
        options = ["all", *column.values]
        chosen = alt.param(name=f"only_{i}", value="all", bind=alt.binding_select(options=options, name=column.name))
        keep = f"only_{i} == 'all' || datum[{column.name!r}] == only_{i}"
        chart = chart.add_params(chosen).transform_filter(keep)
    chart = chart.configure(font="system-ui, sans-serif").configure_view(stroke=None)
    return chart.configure_legend(titleOrient="left", titleAnchor="middle", padding=8).to_dict()


def _filters(trials: Trials) -> Sequence[Column]:
    return [column for column in trials.varying if column.listed][:MOST_FILTERS]


def _nats(runs: pd.DataFrame) -> str:
    per = unit(runs)
    return f" (nats per {per})" if per else ""


def _examples(runs: pd.DataFrame) -> str:
    return {"image": "images", "byte": "tokens", "token": "tokens"}.get(unit(runs), "examples")

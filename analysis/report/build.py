"""Fill the report's template with a sweep's fit, figures, grid and provenance."""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.figures import SavedFigure
from analysis.lr_transfer import CONFIDENCE, RESAMPLES, STAYS_PUT, LrTransfer, Optimum, Transfer, with_interval
from analysis.tables import SweepTables


def render(tables: SweepTables, fit: LrTransfer, figures: Sequence[SavedFigure]) -> str:
    """The page as text; figures are embedded, nothing is linked."""
    environment = Environment(
        loader=PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        sweep=tables.sweep,
        verdicts=[_verdict(transfer, fit) for transfer in fit.transfers],
        figures=[_figure(figure) for figure in figures],
        optima=[_optimum_row(optimum) for optimum in fit.optima],
        grid=_grid(tables.runs),
        excluded=_excluded(tables),
        provenance=_provenance(tables),
        confidence=f"{CONFIDENCE:.0%}",
        resamples=RESAMPLES,
        stays_put=STAYS_PUT,
        fixed=_fixed(tables.runs),
    )


def _verdict(transfer: Transfer, fit: LrTransfer) -> dict[str, str]:
    """The optimizer's finding in a sentence with its numbers."""
    optima = fit.of(transfer.optimizer)
    trained = [(o.width, o.lr_opt) for o in optima if o.lr_opt is not None]
    parts = []
    if transfer.drift is not None:
        drift = with_interval(transfer.drift, transfer.drift_low, transfer.drift_high, "+.2f")
        (narrow, first), (wide, last) = trained[0], trained[-1]
        parts.append(
            Markup("The best learning rate goes from {} at width {} to {} at width {}: {} octaves per octave.").format(
                _power(first), narrow, _power(last), wide, drift
            )
        )
    if transfer.transfer_regret is not None:
        parts.append(_regret(transfer, optima[0].width, optima[-1].width))
    if transfer.n_seeds == 1:
        parts.append(Markup("One seed: there is no measure of seed noise, so no interval is given."))
    if transfer.drift is not None and not transfer.resolved:
        parts.append(
            Markup("An optimum lies at its grid's edge or beside a rate that diverges: its drift says nothing.")
        )
    elif transfer.cut_off:
        parts.append(Markup("An interval is cut off at its grid's edge or at a rate that diverges."))
    return {"optimizer": transfer.optimizer, "verdict": transfer.verdict, "text": Markup(" ").join(parts)}


def _regret(transfer: Transfer, narrow: int, wide: int) -> Markup:
    if transfer.regret_diverges:
        return Markup("Width {}'s best rate lies at or next to one at which width {} diverges.").format(narrow, wide)
    regret = with_interval(transfer.transfer_regret, transfer.regret_low, transfer.regret_high, ".3f")
    return Markup("Training width {} with width {}'s best rate costs {} nats.").format(wide, narrow, regret)


def _power(value: float) -> Markup:
    """A learning rate as a power of two, to a tenth of an octave."""
    exponent = f"{round(float(np.log2(value)), 1):g}".replace("-", "−")
    return Markup("2<sup>{}</sup>").format(exponent)


def _optimum_row(optimum: Optimum) -> dict[str, str]:
    low, high, loss = optimum.lr_opt_low, optimum.lr_opt_high, optimum.val_loss_opt
    return {
        "optimizer": optimum.optimizer,
        "width": str(optimum.width),
        "best lr": "none" if optimum.lr_opt is None else f"{optimum.lr_opt:.3g}",
        "as a power": "–" if optimum.lr_opt is None else _power(optimum.lr_opt),
        "interval": "–" if low is None or high is None else f"{low:.3g} … {high:.3g}",
        "resolved": "yes" if optimum.resolved else "grid's edge" if optimum.at_edge else "beside divergence",
        "best loss measured": "–" if loss is None else f"{loss:.4f}",
        "seeds": str(optimum.n_seeds),
        "diverged": str(optimum.n_diverged),
    }


def _figure(figure: SavedFigure) -> dict[str, str]:
    svg = figure.path.with_suffix(".svg").read_bytes()
    return {
        "name": figure.name,
        "title": figure.title,
        "alt": figure.alt,
        "caption": figure.caption,
        "source": "data:image/svg+xml;base64," + base64.b64encode(svg).decode(),
        "csv": f"figures/{figure.name}.csv",
    }


def _grid(runs: pd.DataFrame) -> list[dict[str, str]]:
    """What was run: one row per optimizer and width."""
    rows = []
    for (optimizer, width), cells in runs.groupby(["optimizer", "width"], sort=True):
        rates = sorted(cells["lr"].unique())
        rows.append(
            {
                "optimizer": str(optimizer),
                "width": str(width),
                "parameters": _thousands(cells["n_params"].max()),
                "learning rates": Markup("{} … {} ({})").format(_power(rates[0]), _power(rates[-1]), len(rates)),
                "seeds": str(cells["seed"].nunique()),
                "ok": str((cells["status"] == "ok").sum()),
                "diverged": str((cells["status"] == "diverged").sum()),
                "failed": str((cells["status"] == "error").sum()),
            }
        )
    return rows


def _thousands(value: float) -> str:
    return "–" if pd.isna(value) else f"{int(value):,}"


def _fixed(runs: pd.DataFrame) -> dict[str, str]:
    """What all trials have in common, and each optimizer's options."""
    specs = [json.loads(text) for text in runs["spec"]]
    varying = {"optimizer", "options", "width", "lr", "seed"}
    common = {name: specs[0][name] for name in specs[0] if name not in varying}
    shown = {name: _several(spec[name] for spec in specs) for name in common}
    for optimizer in sorted({spec["optimizer"] for spec in specs}):
        shown[f"options of {optimizer}"] = _several(
            ", ".join(f"{k} {v}" for k, v in spec["options"].items())
            for spec in specs
            if spec["optimizer"] == optimizer
        )
    return shown


def _several(values: Iterable[Any]) -> str:
    return " | ".join(dict.fromkeys(map(str, values))) or "none"


def _excluded(tables: SweepTables) -> list[str]:
    """What the fit left out or treated apart, in sentences."""
    status = tables.runs["status"]
    diverged, failed = int((status == "diverged").sum()), int((status == "error").sum())
    lines = []
    if diverged:
        lines.append(
            f"Diverged trials: {diverged}. They are drawn at the top edge; a learning rate at which any seed diverged "
            "counts as infinitely bad and takes no part in a parabola."
        )
    if failed:
        lines.append(f"Failed trials, left out: {failed}. Calling the sweep again tries them again.")
    for optimizer, rows in tables.runs.groupby("optimizer"):
        if (rows["status"] == "error").all():
            lines.append(f"All trials of {optimizer} failed, so it does not appear in the findings.")
    without = set(tables.runs.loc[status != "error", "trial_id"]) - set(tables.curves["trial_id"])
    if without:
        lines.append(f"Trials whose curve is not in the store, missing from the loss curves: {len(without)}.")
    if tables.missing:
        lines.append(f"Trials of the grid not trained yet: {tables.missing} of {len(tables.sweep['trial_ids'])}.")
        lines.append("Seeds that do not cover every learning rate of a width are left out where others do.")
    return lines


def _provenance(tables: SweepTables) -> dict[str, str]:
    runs, sweep = tables.runs, tables.sweep

    def values(column: str) -> str:
        return ", ".join(sorted(map(str, runs[column].dropna().unique()))) or "unknown"

    trained = tables.sweeps["n_trained"].sum()
    busy = tables.sweeps["trial_seconds"].sum() / max(
        1e-9, (tables.sweeps["wall_time_s"] * tables.sweeps["workers"]).where(tables.sweeps["n_trained"] > 0, 0).sum()
    )
    return {
        "scionlab": values("scionlab_version"),
        "git commit": values("git_commit"),
        "PyTorch": values("torch_version"),
        "corpus": values("data"),
        "SHA-256 of the corpus": values("data_sha256"),
        "machine": f"{values('machine')} ({values('device')}, {values('dtype')}); last sweep on {sweep['machine']}",
        "trained": f"{runs['started_at'].min():%Y-%m-%d %H:%M} to {runs['started_at'].max():%Y-%m-%d %H:%M} UTC",
        "training time": f"{runs['wall_time_s'].sum():,.0f} s summed over trials",
        "sweep": (
            f"{tables.sweeps['wall_time_s'].sum():,.0f} s in {len(tables.sweeps)} calls that trained {trained} trials; "
            f"workers were {busy:.0%} busy"
        ),
        "sweep id": str(sweep["sweep_id"]),
    }

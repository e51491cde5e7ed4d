"""Fill the report's template with a sweep's fit, figures, grid and provenance."""

import base64
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.figures import SavedFigure
from analysis.lr_transfer import (
    CONFIDENCE,
    RESAMPLES,
    STAYS_PUT,
    LrTransfer,
    Optimum,
    Transfer,
    excluded,
    with_interval,
)
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
        excluded=[*excluded(tables.runs), *_missing(tables)],
        provenance=_provenance(tables),
        confidence=f"{CONFIDENCE:.0%}",
        resamples=RESAMPLES,
        stays_put=STAYS_PUT,
        fixed=_fixed(tables.runs),
    )


def _verdict(transfer: Transfer, fit: LrTransfer) -> dict[str, str]:
    """The optimizer's finding in a sentence with its numbers."""
    optima = [o for o in fit.optima if o.optimizer == transfer.optimizer]
    parts = []
    if transfer.drift is not None:
        narrow, wide = optima[0], optima[-1]
        drift = with_interval(transfer.drift, transfer.drift_low, transfer.drift_high, "+.2f")
        parts.append(
            Markup("The best learning rate goes from {} at width {} to {} at width {}: {} octaves per octave.").format(
                _power(narrow.lr_opt), narrow.width, _power(wide.lr_opt), wide.width, drift
            )
        )
        parts.append(_regret(transfer, narrow.width, wide.width))
    if transfer.n_seeds == 1:
        parts.append(Markup("One seed: there is no measure of seed noise, so no interval is given."))
    if transfer.at_edge:
        parts.append(Markup("An optimum lies at its grid's edge; the true one may lie beyond."))
    return {"optimizer": transfer.optimizer, "verdict": transfer.verdict, "text": Markup(" ").join(parts)}


def _regret(transfer: Transfer, narrow: int, wide: int) -> Markup:
    if transfer.transfer_regret is None or not np.isfinite(transfer.transfer_regret):
        return Markup("Width {}'s best rate makes width {} diverge.").format(narrow, wide)
    regret = with_interval(transfer.transfer_regret, transfer.regret_low, transfer.regret_high, ".3f")
    return Markup("Training width {} with width {}'s best rate costs {} nats.").format(wide, narrow, regret)


def _power(value: float) -> Markup:
    """A learning rate as a power of two, to a tenth of an octave."""
    exponent = f"{round(float(np.log2(value)), 1):g}".replace("-", "−")
    return Markup("2<sup>{}</sup>").format(exponent)


def _optimum_row(optimum: Optimum) -> dict[str, str]:
    low, high = optimum.lr_opt_low, optimum.lr_opt_high
    return {
        "optimizer": optimum.optimizer,
        "width": str(optimum.width),
        "best lr": f"{optimum.lr_opt:.3g}" + (" (grid's edge)" if optimum.at_edge else ""),
        "as a power": _power(optimum.lr_opt),
        "interval": "–" if low is None or high is None else f"{low:.3g} … {high:.3g}",
        "validation loss": f"{optimum.val_loss_opt:.4f}",
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
    """What all trials have in common."""
    names = [
        "model",
        "depth",
        "head_dim",
        "residual",
        "batch_size",
        "seq_len",
        "tokens",
        "steps",
        "schedule",
        "momentum",
    ]
    names += ["val_tokens", "data", "device", "dtype"]
    return {name: ", ".join(map(str, sorted(runs[name].unique()))) for name in names}


def _missing(tables: SweepTables) -> list[str]:
    if not tables.missing:
        return []
    return [f"Trials of the grid not trained yet: {tables.missing} of {len(tables.sweep['trial_ids'])}."]


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
        "machine": f"{sweep['machine']} ({values('device')}, {values('dtype')})",
        "trained": f"{runs['started_at'].min():%Y-%m-%d %H:%M} to {runs['started_at'].max():%Y-%m-%d %H:%M} UTC",
        "training time": f"{runs['wall_time_s'].sum():,.0f} s summed over trials",
        "sweep": (
            f"{tables.sweeps['wall_time_s'].sum():,.0f} s in {len(tables.sweeps)} calls that trained {trained} trials; "
            f"workers were {busy:.0%} busy"
        ),
        "sweep id": str(sweep["sweep_id"]),
    }

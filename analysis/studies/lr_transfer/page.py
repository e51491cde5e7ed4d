"""The page on learning-rate transfer across width, or along another axis."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.fits.intervals import with_interval
from analysis.report.texts import counts, power, powers, thousands
from analysis.studies.lr_transfer.result import STAYS_PUT, LrTransfer, Optimum, Transfer, place
from analysis.studies.lr_transfer.settings import BY_OPTIMIZER
from analysis.tables import keys
from analysis.tables.sweep import SweepTables


def context(tables: SweepTables, fit: LrTransfer) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [_verdict(transfer, fit) for transfer in fit.transfers],
        "optima": [_optimum_row(optimum, fit) for optimum in fit.optima],
        "stays_put": STAYS_PUT,
        "axis": fit.axis,
        "whose": "an optimizer's" if fit.settings.series == BY_OPTIMIZER else "a series'",
        "varying": (fit.settings.axis, *fit.settings.series, "lr"),
        "grid": _grid(tables.runs, fit),
    }


def _grid(runs: pd.DataFrame, fit: LrTransfer) -> list[dict[str, str]]:
    """What was run: one row per series and place."""
    return [
        {
            **_where(str(rows["series"].iloc[0]), rows["at"].iloc[0], fit),
            "parameters": thousands(rows["n_params"].max()),
            "learning rates": powers(rows["lr"]),
            "seeds": str(rows["seed"].nunique()),
            **counts(rows),
        }
        for _, rows in place(runs, fit.settings).groupby(["series", "at"], sort=True)
    ]


def _where(series: str, at: float, fit: LrTransfer) -> dict[str, str]:
    return {", ".join(keys.spoken(key) for key in fit.settings.series): series, fit.axis: keys.plain(at)}


def _verdict(transfer: Transfer, fit: LrTransfer) -> dict[str, str]:
    """The series' finding in a sentence with its numbers."""
    optima = fit.of(transfer.series)
    trained = [(keys.plain(o.at), o.lr_opt) for o in optima if o.lr_opt is not None]
    parts = []
    if lost := ", ".join(keys.plain(o.at) for o in optima if o.lr_opt is None):
        parts.append(Markup("Every rate diverges at {} {}.").format(fit.axis, lost))
    if transfer.drift is not None:
        drift = with_interval(transfer.drift, transfer.drift_low, transfer.drift_high, "+.2f")
        (narrow, first), (wide, last) = trained[0], trained[-1]
        parts.append(
            Markup("The best learning rate goes from {} at {} {} to {} at {} {}: {} octaves per octave.").format(
                power(first), fit.axis, narrow, power(last), fit.axis, wide, drift
            )
        )
    if transfer.transfer_regret is not None:
        parts.append(_regret(transfer, fit.axis, keys.plain(optima[0].at), keys.plain(optima[-1].at)))
    if transfer.n_seeds == 1:
        parts.append(Markup("One seed: there is no measure of seed noise, so no interval is given."))
    shared = max(optima, key=lambda o: o.share_diverged)
    if 0 < shared.share_diverged < 1:
        parts.append(
            Markup("At {} {}, {:.0%} of the runs at a rate beside the best one diverged.").format(
                fit.axis, keys.plain(shared.at), shared.share_diverged
            )
        )
    if transfer.drift is not None and not transfer.resolved:
        parts.append(
            Markup("An optimum lies at its grid's edge or beside a rate that diverges: its drift says nothing.")
        )
    elif transfer.cut_off:
        parts.append(Markup("An interval is cut off at its grid's edge or at a rate that diverges."))
    return {"of": transfer.series, "verdict": transfer.verdict, "text": Markup(" ").join(parts)}


def _regret(transfer: Transfer, axis: str, narrow: str, wide: str) -> Markup:
    if transfer.regret_diverges:
        text = Markup("{} {}'s best rate lies at or next to one at which {} {} diverges.")
        return text.format(axis.capitalize(), narrow, axis, wide)
    regret = with_interval(transfer.transfer_regret, transfer.regret_low, transfer.regret_high, ".3f")
    return Markup("Training {} {} with {} {}'s best rate costs {} nats.").format(axis, wide, axis, narrow, regret)


def _optimum_row(optimum: Optimum, fit: LrTransfer) -> dict[str, str]:
    low, high, loss = optimum.lr_opt_low, optimum.lr_opt_high, optimum.val_loss_opt
    return {
        **_where(optimum.series, optimum.at, fit),
        "best lr": "none" if optimum.lr_opt is None else f"{optimum.lr_opt:.3g}",
        "as a power": "–" if optimum.lr_opt is None else power(optimum.lr_opt),
        "interval": "–" if low is None or high is None else f"{low:.3g} … {high:.3g}",
        "resolved": "yes" if optimum.resolved else "grid's edge" if optimum.at_edge else "beside divergence",
        "best loss measured": "–" if loss is None else f"{loss:.4f}",
        "seeds": str(optimum.n_seeds),
        "diverged": str(optimum.n_diverged),
    }

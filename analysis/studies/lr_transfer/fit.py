"""Learning-rate transfer along an axis: where the best rate lies, how it drifts, and what not re-tuning costs.

The axis is the width unless the experiment's settings name another key (`analysis.tables.keys`): {"axis": "depth"}.
What is followed along it is a series: an optimizer, or with {"series": ["optimizer", "residual"]} one with one residual
scale. For every series and place w on the axis the losses are averaged over seeds at each learning rate; a rate at
which any seed diverged counts as infinitely bad. Then

    lr*(w)            parabola through the best point and its neighbours in log₂ lr (`analysis.fits.parabola`)
    drift             least-squares slope of log₂ lr* on log₂ w: octaves of lr per octave of width
    transfer regret   loss at the largest w with the smallest one's lr*, minus the loss with its own lr*; both are
                      read off the same curve (monotone cubic in log₂ lr through the measured means)

Intervals are percentiles of a bootstrap: the seed noise around the optimum, pooled over the places of a series, is
resampled (`analysis.fits.lr_curve`). They measure seed noise alone, not how well a parabola fits. With one seed there
is nothing to resample, and where an optimum is not resolved its resamples say nothing: no interval is given.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fits.interpolation import curve_at
from analysis.fits.intervals import RESAMPLES, TAIL, interval
from analysis.fits.lr_curve import LrCurve
from analysis.fits.parabola import slope
from analysis.studies.lr_transfer.result import STAYS_PUT, LrTransfer, Optimum, Transfer, place
from analysis.studies.lr_transfer.settings import LrTransferSettings
from analysis.tables import keys
from analysis.tables.arrays import Floats
from scionlab.errors import UserError
from scionlab.store import FINISHED

COLUMNS = ("optimizer", "lr", "seed", "status", "val_loss")


def fit_lr_transfer(runs: pd.DataFrame, seed: int = 0, settings: LrTransferSettings | None = None) -> LrTransfer:
    """Fit a table with the columns `COLUMNS` (others are only checked). `seed` is the bootstrap's.

    Raises UserError if a column is missing, no run is `ok`, or the runs of a series differ in more than the axis,
    learning rate and seed. Rows with status `error` do not count.
    """
    settings = settings or LrTransferSettings()
    missing = [column for column in COLUMNS if column not in runs]
    if missing:
        raise UserError(f"runs: columns {', '.join(missing)} are missing; needed are {', '.join(COLUMNS)}")
    finished = runs[runs["status"].isin(FINISHED)]
    if not (finished["status"] == "ok").any():
        raise UserError(
            f"runs: none of {len(runs)} trained to its end ({len(finished)} diverged): there is nothing to fit"
        )
    optima: list[Optimum] = []
    transfers: list[Transfer] = []
    placed = place(finished, settings)
    order = [keys.values(finished, key, "series") for key in settings.series]
    placed = placed.iloc[np.lexsort([pd.factorize(column, sort=True)[0] for column in reversed(order)])]
    for name, table in placed.groupby("series", sort=False):
        _check_one_experiment(str(name), table, settings)
        curves = [LrCurve.of(rows, float(rows["at"].iloc[0])) for _, rows in table.groupby("at", sort=True)]
        series = Series(str(name), str(table["optimizer"].iloc[0]), keys.spoken(settings.axis), curves)
        found, transfer = _fit_series(series, np.random.default_rng(seed))
        optima += found
        transfers.append(transfer)
    return LrTransfer(tuple(optima), tuple(transfers), settings)


def _check_one_experiment(name: str, table: pd.DataFrame, settings: LrTransferSettings) -> None:
    """Refuse runs that differ in more than the axes: by the trials' whole specs, or the columns of a foreign table."""
    hint = "give each setting a preset of its own (finished trials are reused)"
    for field, values in keys.different(table, [settings.axis, "lr", "seed"], ("optimizer", *keys.FIXED)).items():
        raise UserError(f"runs: {field} of {name!r} takes several values ({values}); {hint}")
    if table.duplicated(["at", "lr", "seed"]).any():
        raise UserError(f"runs: several runs of {name!r} share {keys.spoken(settings.axis)}, lr and seed; {hint}")


@dataclass(frozen=True)
class Series:
    """The curves of one series along the axis, which is named in words."""

    name: str
    optimizer: str
    axis: str
    curves: list[LrCurve]


def _fit_series(series: Series, rng: np.random.Generator) -> tuple[list[Optimum], Transfer]:
    curves = series.curves
    alive = [curve for curve in curves if curve.finite.any()]
    pool = np.concatenate([np.empty(0), *(curve.residuals() for curve in alive)])
    samples = {c.at: c.resample(pool, RESAMPLES, rng) for c in alive} if pool.size else {}
    optima = [_optimum(series, curve, samples.get(curve.at)) for curve in curves]
    return optima, _transfer(series, alive, samples)


def _optimum(series: Series, curve: LrCurve, sample: Floats | None) -> Optimum:
    n_diverged = int(np.isinf(curve.losses).sum())
    of, place = (series.name, series.optimizer), int(curve.at) if curve.at.is_integer() else curve.at
    if not curve.finite.any():
        return Optimum(*of, place, None, None, None, False, False, None, curve.n_seeds, n_diverged)
    at, resolved = curve.optimum(curve.mean)
    best = int(np.argmin(curve.mean))
    low, high = interval(None if sample is None or not resolved else curve.optimum(sample)[0])
    return Optimum(
        *of,
        place,
        lr_opt=float(2**at),
        lr_opt_low=None if low is None else 2**low,
        lr_opt_high=None if high is None else 2**high,
        at_edge=best in (0, len(curve.x) - 1),
        resolved=bool(resolved),
        val_loss_opt=float(curve.mean[best]),
        n_seeds=curve.n_seeds,
        n_diverged=n_diverged,
    )


def _transfer(series: Series, alive: list[LrCurve], samples: dict[float, Floats]) -> Transfer:
    curves, octaves = series.curves, np.log2([curve.at for curve in alive])
    found = [curve.optimum(curve.mean) for curve in alive]
    tops = np.array([at for at, _ in found])
    resolved = len(alive) == len(curves) and all(ok for _, ok in found)
    drift, drifts, cut_off = None, None, False
    if len(alive) > 1:
        drift = float(slope(octaves, tops))
    drawn = [curve.optimum(samples[curve.at]) for curve in alive if samples]
    if drawn:
        cut_off = any(float(np.mean(~ok)) > TAIL for _, ok in drawn)
        drifts = slope(octaves, np.stack([at for at, _ in drawn], axis=-1)) if len(alive) > 1 else None
    regret, regrets = _regrets(curves, found, drawn, samples)
    drift_low, drift_high = interval(drifts if resolved else None)
    regret_low, regret_high = interval(regrets if resolved else None)
    return Transfer(
        series=series.name,
        optimizer=series.optimizer,
        verdict=_lost(series) or verdict(drift, drift_low, drift_high, resolved, cut_off, series.axis),
        drift=drift,
        drift_low=drift_low,
        drift_high=drift_high,
        transfer_regret=regret,
        regret_low=regret_low,
        regret_high=regret_high,
        regret_diverges=regret is not None and not np.isfinite(regret),
        resolved=resolved,
        cut_off=cut_off,
        n_seeds=max(curve.n_seeds for curve in curves),
    )


Tops = list[tuple[Floats, NDArray[np.bool_]]]  # of each place, what LrCurve.optimum returns


def _regrets(
    curves: list[LrCurve], found: Tops, drawn: Tops, samples: dict[float, Floats]
) -> tuple[float | None, Floats | None]:
    """The regret at the last place, and its resamples; None with fewer than two places or no rate to carry over."""
    if len(curves) < 2 or not curves[0].finite.any():
        return None, None
    wide = curves[-1]
    if not wide.finite.any():
        return float("inf"), None
    (old, _), (own, _) = found[0], found[-1]
    regret = float(regret_of(wide.x, wide.mean[None], np.atleast_1d(old), np.atleast_1d(own))[0])
    return regret, regret_of(wide.x, samples[wide.at], drawn[0][0], drawn[-1][0]) if drawn else None


def regret_of(x: Floats, y: Floats, old: Floats, own: Floats) -> Floats:
    """Loss of each curve y (R, J) at `old` (R,) minus its loss at `own` (R,), both interpolated.

    Infinite where `old` lies at or next to a diverged rate. Outside the grid the loss at the nearest end stands in:
    nothing is extrapolated.
    """
    old = np.clip(old, x[0], x[-1])
    return curve_at(x, y, old) - curve_at(x, y, own)


def _lost(series: Series) -> str | None:
    """The verdict where a place has no learning rate that trains."""
    places = ", ".join(keys.plain(curve.at) for curve in series.curves if not curve.finite.any())
    return f"every rate diverges at {series.axis} {places}" if places else None


def verdict(
    drift: float | None, low: float | None, high: float | None, resolved: bool, cut_off: bool, axis: str = "width"
) -> str:
    """What the drift's interval allows to say.

    An optimum at its grid's edge or beside a diverged rate moves by whole grid steps, so its drift says nothing. An
    interval that is cut off there is too narrow to show that a rate stays put.
    """
    if drift is None:
        return f"one {axis}: no drift"
    if not resolved:
        return "not resolved"
    if low is None or high is None:
        return "no interval"
    if high < -STAYS_PUT:
        return "drifts down"
    if low > STAYS_PUT:
        return "drifts up"
    return "stays put" if max(-low, high) <= STAYS_PUT and not cut_off else "cannot tell"

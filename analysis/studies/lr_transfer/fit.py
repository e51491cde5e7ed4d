"""Learning-rate transfer along an axis: where the best rate lies, how it drifts, and what not re-tuning costs.

The axis is the width unless the experiment's settings name another key (`analysis.tables.keys`): {"axis": "depth"}.
What is followed along it is a series: an optimizer, or with {"series": ["optimizer", "residual"]} one with one residual
scale. For every series and place w on the axis there is a loss curve over learning rates. Then

    lr*(w)            where the curve, as it is read, is lowest (`analysis.fits.valley`)
    drift             least-squares slope of log₂ lr* on log₂ w: octaves of lr per octave of width
    transfer regret   loss at the largest w with the smallest one's lr*, minus the loss with its own lr*, both read off
                      one curve; never negative (`analysis.fits.reading`)

Intervals hold the noise of seeds, which may differ from place to place and from rate to rate (`analysis.fits.noise`),
and what a grid of learning rates leaves open of the curve. With one seed there is no measure of noise, and where an
optimum is not resolved its draws say nothing: no interval is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fits.intervals import RESAMPLES, Estimate
from analysis.fits.lr_curve import LrCurve
from analysis.fits.open_ends import ends, missing_rates
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.fits.parabola import slope
from analysis.fits.reading import Reading, read_curves
from analysis.fits.seeds import more_seeds
from analysis.studies.lr_transfer.result import STAYS_PUT, LrTransfer, Optimum, Transfer, place
from analysis.studies.lr_transfer.settings import LrTransferSettings
from analysis.tables import keys
from analysis.tables.arrays import Floats
from analysis.tables.same import same_rate
from scionlab.errors import UserError
from scionlab.runs.store import FINISHED

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
    placed = placed.assign(lr=same_rate(placed, ["series", "at"]))
    order = [keys.values(finished, key, "series") for key in settings.series]
    placed = placed.iloc[np.lexsort([pd.factorize(column, sort=True)[0] for column in reversed(order)])]
    for name, table in placed.groupby("series", sort=False):
        _check_one_experiment(str(name), table, settings)
        curves = [LrCurve.of(rows, float(rows["at"].iloc[0])) for _, rows in table.groupby("at", sort=True)]
        series = Series(str(name), str(table["optimizer"].iloc[0]), curves)
        found, transfer = _fit_series(series, np.random.default_rng(seed))
        optima += found
        transfers.append(transfer)
    return LrTransfer(tuple(optima), tuple(transfers), settings)


def _check_one_experiment(name: str, table: pd.DataFrame, settings: LrTransferSettings) -> None:
    """Refuse runs that differ in more than the axes: by the trials' whole specs, or the columns of a foreign table."""
    hint = keys.how_to_part(table)
    for field, values in keys.different(table, [settings.axis, "lr", "seed"], ("optimizer", *keys.FIXED)).items():
        raise UserError(f"runs: {field} of {name!r} takes several values ({values}); {hint}")
    if table.duplicated(["at", "lr", "seed"]).any():
        raise UserError(f"runs: several runs of {name!r} share {keys.spoken(settings.axis)}, lr and seed; {hint}")


@dataclass(frozen=True)
class Series:
    """The curves of one series along the axis."""

    name: str
    optimizer: str
    curves: list[LrCurve]

    @property
    def n_seeds(self) -> int:
        """The most seeds that a curve has."""
        return max(curve.n_seeds for curve in self.curves)


def _fit_series(series: Series, rng: np.random.Generator) -> tuple[list[Optimum], Transfer]:
    alive = [curve for curve in series.curves if curve.finite.any()]
    read = {reading.curve.at: reading for reading in read_curves(alive, RESAMPLES, rng)} if alive else {}
    optima = [_optimum(series, curve, read.get(curve.at)) for curve in series.curves]
    return optima, _transfer(series, list(read.values()))


def _optimum(series: Series, curve: LrCurve, reading: Reading | None) -> Optimum:
    of, place = (series.name, series.optimizer), int(curve.at) if curve.at.is_integer() else curve.at
    if reading is None:
        return Optimum(*of, place, None, None, None, False, False, None, curve.n_seeds, curve.n_diverged, 1.0)
    at = reading.optimum
    return Optimum(
        *of,
        place,
        lr_opt=2**at.value,
        lr_opt_low=None if at.low is None else 2**at.low,
        lr_opt_high=None if at.high is None else 2**at.high,
        at_edge=curve.at_edge,
        resolved=reading.resolved,
        val_loss_opt=float(curve.mean[curve.best]),
        n_seeds=curve.n_seeds,
        n_diverged=curve.n_diverged,
        share_diverged=reading.share_diverged,
    )


def _transfer(series: Series, readings: list[Reading]) -> Transfer:
    octaves = np.log2([reading.curve.at for reading in readings])
    resolved = len(readings) == len(series.curves) and all(reading.resolved for reading in readings)
    drift = _drift(octaves, readings, resolved) if len(readings) > 1 else None
    # An optimum that may lie beyond its grid moves the drift by the sign of its weight in the slope.
    early = [r for octave, r in zip(octaves, readings, strict=True) if octave < octaves.mean()]
    late = [r for octave, r in zip(octaves, readings, strict=True) if octave > octaves.mean()]
    falls = any(r.open_below for r in late) or any(r.open_above for r in early)
    rises = any(r.open_above for r in late) or any(r.open_below for r in early)
    regret = _regret(series.curves, readings)
    sure = regret if resolved else None
    outcome = verdict(drift, resolved, falls, rises)
    return Transfer(
        series=series.name,
        optimizer=series.optimizer,
        verdict=outcome,
        drift=None if drift is None else drift.value,
        drift_low=None if drift is None else drift.low,
        drift_high=None if drift is None else drift.high,
        transfer_regret=None if regret is None else regret.value,
        regret_low=None if sure is None else sure.low,
        regret_high=None if sure is None else sure.high,
        regret_diverges=regret is not None and not np.isfinite(regret.value),
        resolved=resolved,
        cut_off=falls or rises,
        n_seeds=series.n_seeds,
        lacks=_lacks(outcome, series, drift, [*early, *late]),
    )


def _drift(octaves: Floats, readings: Sequence[Reading], resolved: bool) -> Estimate:
    draws = [reading.drawn for reading in readings if reading.drawn is not None]
    sample = slope(octaves, np.stack(draws, axis=-1)) if resolved and len(draws) == len(readings) else None
    return Estimate.of(float(slope(octaves, np.array([reading.at for reading in readings]))), sample)


def _regret(curves: Sequence[LrCurve], readings: Sequence[Reading]) -> Estimate | None:
    """The regret at the last place; None with fewer than two places or no rate to carry over."""
    if len(curves) < 2 or not curves[0].finite.any():
        return None
    if not curves[-1].finite.any():
        return Estimate(float("inf"))
    return readings[-1].regret_of(readings[0])


def verdict(drift: Estimate | None, resolved: bool, may_fall: bool, may_rise: bool) -> Outcome:
    """What the drift's interval allows to say.

    An optimum at its grid's edge or beside a rate that does not train moves by whole grid steps, so its drift says
    nothing, and without any rate that trains there is none. Where the grid cuts the interval off, so that the drift
    `may_fall` or `may_rise` beyond it, only what that cannot undo is said.
    """
    if not resolved:
        return Outcome.NOT_RESOLVED
    if drift is None or drift.low is None or drift.high is None:
        return Outcome.CANNOT_TELL
    if drift.high < -STAYS_PUT and not may_rise:
        return Outcome.DRIFTS_DOWN
    if drift.low > STAYS_PUT and not may_fall:
        return Outcome.DRIFTS_UP
    inside = max(-drift.low, drift.high) <= STAYS_PUT
    return Outcome.STAYS_PUT if inside and not (may_fall or may_rise) else Outcome.CANNOT_TELL


def _lacks(outcome: Outcome, series: Series, drift: Estimate | None, tilting: Sequence[Reading]) -> Lacks:
    """What an open verdict lacks; `tilting` are the readings with a weight in the slope."""
    if not outcome.open:
        return SETTLED
    if outcome == Outcome.NOT_RESOLVED:
        places = [Missing.PLACES] if len(series.curves) == 1 else []
        return Lacks.of([*places, *(kind for curve in series.curves for kind in missing_rates(curve))])
    if drift is None:
        return Lacks.of([Missing.PLACES])

    def judge(narrowed: Estimate) -> Outcome:
        return verdict(narrowed, resolved=True, may_fall=False, may_rise=False)

    cut_off = Lacks.of([kind for r in tilting for kind in ends(r.curve, r.open_below, r.open_above)])
    return cut_off if not judge(drift).open else cut_off | more_seeds(series.n_seeds, drift, judge)

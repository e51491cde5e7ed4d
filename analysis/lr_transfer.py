"""Learning-rate transfer across width: where the best rate lies, how it drifts, and what not re-tuning costs.

For every optimizer and width the losses are averaged over seeds at each learning rate; a rate at which any seed
diverged counts as infinitely bad. Then

    lr*(w)            parabola through the best point and its neighbours in log₂ lr (`analysis.parabola`)
    drift             least-squares slope of log₂ lr* on log₂ width: octaves of lr per octave of width
    transfer regret   loss at the largest width with the smallest width's lr*, minus the best measured there;
                      between grid points the loss is interpolated (monotone cubic in log₂ lr)

Intervals are percentiles of a bootstrap over seeds. The noise that matters is what is left of a loss after its seed's
own offset at that width and the mean over seeds at that learning rate are taken out: a seed that is better everywhere
moves no optimum. These residuals, from the learning rates around the optimum, are pooled over the widths of an
optimizer and resampled. With one seed there is nothing to resample, and no interval is given.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from analysis.parabola import Floats, minimum
from scionlab.errors import UserError

CONFIDENCE = 0.95
RESAMPLES = 2000
WINDOW = 2  # learning rates to either side of the best one whose residuals enter the pool
# A drift within this many octaves per octave is called "stays put": over 10× the width the best learning rate
# then moves by less than a factor of 1.8, below what a grid of one octave resolves.
STAYS_PUT = 0.25

COLUMNS = ("optimizer", "width", "lr", "seed", "status", "val_loss")


@dataclass(frozen=True)
class Optimum:
    """Best learning rate of one optimizer at one width.

    `at_edge`: the best point ends the grid, so lr* may lie beyond. `val_loss_opt` is the best loss measured (mean over
    seeds), not the parabola's.
    """

    optimizer: str
    width: int
    lr_opt: float
    lr_opt_low: float | None
    lr_opt_high: float | None
    at_edge: bool
    val_loss_opt: float
    n_seeds: int
    n_diverged: int


@dataclass(frozen=True)
class Transfer:
    """How one optimizer's best learning rate moves with width. Regret is in nats; infinite if the rate diverges."""

    optimizer: str
    drift: float | None
    drift_low: float | None
    drift_high: float | None
    transfer_regret: float | None
    regret_low: float | None
    regret_high: float | None
    n_seeds: int
    at_edge: bool
    verdict: str


@dataclass(frozen=True)
class LrTransfer:
    """The fit of one table of runs."""

    optima: tuple[Optimum, ...]
    transfers: tuple[Transfer, ...]

    def frame(self) -> pd.DataFrame:
        """One row per optimizer and width, the optimizer's transfer repeated in each."""
        optima = pd.DataFrame([asdict(o) for o in self.optima])
        transfers = pd.DataFrame([asdict(t) for t in self.transfers]).drop(columns=["n_seeds", "at_edge"])
        return optima.merge(transfers, on="optimizer")

    def summary(self) -> pd.DataFrame:
        """One row per optimizer, as text for a terminal."""
        rows = []
        for transfer in self.transfers:
            optima = [o for o in self.optima if o.optimizer == transfer.optimizer]
            rows.append(
                {
                    "optimizer": transfer.optimizer,
                    "widths": ", ".join(str(o.width) for o in optima),
                    "log2 lr*": ", ".join(f"{np.log2(o.lr_opt):.1f}{'!' if o.at_edge else ''}" for o in optima),
                    "drift": with_interval(transfer.drift, transfer.drift_low, transfer.drift_high, "+.2f"),
                    "regret": with_interval(transfer.transfer_regret, transfer.regret_low, transfer.regret_high, ".3f"),
                    "verdict": transfer.verdict,
                }
            )
        return pd.DataFrame(rows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; infinite regret becomes null with its verdict."""
        return {
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "stays_put_within": STAYS_PUT,
            "optima": [asdict(o) for o in self.optima],
            "transfers": [asdict(t) for t in self.transfers],
        }


def with_interval(value: float | None, low: float | None, high: float | None, form: str) -> str:
    """`value [low, high]`, as far as they are known."""
    if value is None:
        return "–"
    if low is None or high is None:
        return format(value, form)
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def fit_lr_transfer(runs: pd.DataFrame, seed: int = 0) -> LrTransfer:
    """Fit a table with the columns `COLUMNS` (others are ignored). `seed` is the bootstrap's.

    Raises UserError if a column is missing or no row is finished. Rows with status `error` do not count.
    """
    missing = [column for column in COLUMNS if column not in runs]
    if missing:
        raise UserError(f"runs: columns {', '.join(missing)} are missing; needed are {', '.join(COLUMNS)}")
    finished = runs[runs["status"].isin(["ok", "diverged"])]
    if finished.empty:
        raise UserError("runs: no row has status 'ok' or 'diverged'")
    optima: list[Optimum] = []
    transfers: list[Transfer] = []
    for optimizer, table in finished.groupby("optimizer", sort=True):
        curves = [_Curve.of(rows) for _, rows in table.groupby("width", sort=True)]
        curves = [curve for curve in curves if np.isfinite(curve.mean).any()]
        found, transfer = _fit_optimizer(str(optimizer), curves, np.random.default_rng(seed))
        optima += found
        transfers.append(transfer)
    return LrTransfer(tuple(optima), tuple(transfers))


@dataclass(frozen=True)
class _Curve:
    """Losses at one width: x = log₂ lr (J,), losses (J, seeds) with inf for diverged and NaN for absent."""

    width: int
    x: Floats
    losses: Floats

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "_Curve":
        losses = rows["val_loss"].where(rows["status"] == "ok", np.inf)
        grid = rows.assign(loss=losses).pivot_table(index="lr", columns="seed", values="loss", aggfunc="mean")
        return cls(int(rows["width"].iloc[0]), np.log2(grid.index.to_numpy(dtype=float)), grid.to_numpy(dtype=float))

    @property
    def mean(self) -> Floats:
        """Mean over the seeds present; inf where any diverged."""
        return np.nanmean(self.losses, axis=1)

    @property
    def n_seeds(self) -> int:
        return self.losses.shape[1]

    @property
    def counts(self) -> NDArray[np.int_]:
        """Seeds present at each learning rate."""
        return np.sum(~np.isnan(self.losses), axis=1)

    def residuals(self) -> Floats:
        """Noise around the optimum, seed offsets removed and scaled to be unbiased in variance."""
        best = int(np.argmin(self.mean))
        near = self.losses[max(0, best - WINDOW) : best + WINDOW + 1]
        near = near[np.isfinite(near).all(axis=1)]
        rates, seeds = near.shape
        if rates < 2 or seeds < 2:
            return np.empty(0)
        left = near - near.mean(axis=1, keepdims=True) - near.mean(axis=0, keepdims=True) + near.mean()
        return left.ravel() * np.sqrt(rates * seeds / ((rates - 1) * (seeds - 1)))


def _fit_optimizer(optimizer: str, curves: list[_Curve], rng: np.random.Generator) -> tuple[list[Optimum], Transfer]:
    samples = _resample(curves, rng)
    optima = [_optimum(optimizer, curve, sample) for curve, sample in zip(curves, samples, strict=True)]
    return optima, _transfer(optimizer, curves, optima, samples)


def _resample(curves: list[_Curve], rng: np.random.Generator) -> list[Floats | None]:
    """For each width, mean curves (RESAMPLES, J) with fresh seed noise; None where there is no noise to draw from."""
    pool = np.concatenate([curve.residuals() for curve in curves]) if curves else np.empty(0)
    if pool.size == 0:
        return [None] * len(curves)
    samples: list[Floats | None] = []
    for curve in curves:
        noise = rng.choice(pool, size=(RESAMPLES, *curve.losses.shape))
        present = ~np.isnan(curve.losses)
        samples.append(curve.mean + (noise * present).sum(axis=2) / curve.counts)
    return samples


def _interval(sample: Floats | None) -> tuple[float | None, float | None]:
    if sample is None:
        return None, None
    tail = (1 - CONFIDENCE) / 2
    # An observation, not a mean of two: one of them may be infinite.
    low, high = np.quantile(sample, [tail, 1 - tail], method="closest_observation")
    return float(low), float(high)


def _optimum(optimizer: str, curve: _Curve, sample: Floats | None) -> Optimum:
    x, best = minimum(curve.x, curve.mean)
    low, high = _interval(None if sample is None else minimum(curve.x, sample)[0])
    return Optimum(
        optimizer=optimizer,
        width=curve.width,
        lr_opt=float(2**x),
        lr_opt_low=None if low is None else 2**low,
        lr_opt_high=None if high is None else 2**high,
        at_edge=int(best) in (0, len(curve.x) - 1),
        val_loss_opt=float(curve.mean[best]),
        n_seeds=curve.n_seeds,
        n_diverged=int(np.isinf(curve.losses).sum()),
    )


def _transfer(optimizer: str, curves: list[_Curve], optima: list[Optimum], samples: list[Floats | None]) -> Transfer:
    n_seeds = max((curve.n_seeds for curve in curves), default=0)
    edge = any(o.at_edge for o in optima)
    if len(curves) < 2:
        return Transfer(optimizer, None, None, None, None, None, None, n_seeds, edge, "one width: no drift")
    widths = np.log2([float(curve.width) for curve in curves])
    best = np.array([np.log2(o.lr_opt) for o in optima])
    drift = float(_slope(widths, best))
    regret = float(_regret(curves[-1].x, curves[-1].mean[None], best[:1])[0])
    drifts, regrets = None, None
    drawn = [sample for sample in samples if sample is not None]
    if len(drawn) == len(curves):
        tops = np.stack([minimum(c.x, sample)[0] for c, sample in zip(curves, drawn, strict=True)], axis=-1)
        drifts = _slope(widths, tops)
        regrets = _regret(curves[-1].x, drawn[-1], tops[:, 0])
    drift_low, drift_high = _interval(drifts)
    regret_low, regret_high = _interval(regrets)
    return Transfer(
        optimizer=optimizer,
        drift=drift,
        drift_low=drift_low,
        drift_high=drift_high,
        transfer_regret=regret,
        regret_low=regret_low,
        regret_high=regret_high,
        n_seeds=n_seeds,
        at_edge=edge,
        verdict=verdict(drift_low, drift_high, edge),
    )


def _slope(x: Floats, y: Floats) -> Floats:
    """Least-squares slope of y (..., W) on x (W,)."""
    centred = x - x.mean()
    return np.asarray(y @ centred / (centred @ centred))


def _regret(x: Floats, y: Floats, at: Floats) -> Floats:
    """Interpolated loss of each curve y (R, J) at its own `at` (R,), minus its best on the grid.

    Infinite next to a diverged rate. Outside the grid the loss at the nearest end stands in: nothing is extrapolated.
    """
    finite = np.isfinite(y[0])  # resampling moves losses, not which of them are finite
    at = np.clip(at, x[0], x[-1])
    beside = np.stack([np.searchsorted(x, at, side="right") - 1, np.searchsorted(x, at, side="left")])
    diverges = ~finite[np.clip(beside, 0, len(x) - 1)].all(axis=0)
    x, y = x[finite], y[:, finite]
    if len(x) < 2:
        return np.where(diverges, np.inf, 0.0)
    # The pieces' coefficients are taken out of scipy's object, because it evaluates every curve at every point.
    pieces = PchipInterpolator(x, y, axis=1).c
    piece = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    cubic = pieces[:, piece, np.arange(len(at))]
    loss = np.polyval(cubic, at - x[piece])
    return np.where(diverges, np.inf, loss - y.min(axis=1))


def verdict(low: float | None, high: float | None, at_edge: bool) -> str:
    """What the drift's interval allows to say: stays put, drifts down or up, or cannot tell; without one, nothing."""
    if at_edge:
        return "optimum at the grid's edge: drift is a bound"
    if low is None or high is None:
        return "no interval"
    if max(-low, high) <= STAYS_PUT:
        return "stays put"
    if high < -STAYS_PUT:
        return "drifts down"
    if low > STAYS_PUT:
        return "drifts up"
    return "cannot tell"


def excluded(runs: pd.DataFrame) -> Iterable[str]:
    """What the fit left out or treated apart, in sentences."""
    diverged = int((runs["status"] == "diverged").sum())
    failed = int((runs["status"] == "error").sum())
    if diverged:
        yield (
            f"Diverged trials: {diverged}. They are drawn at the top edge; a learning rate at which any seed diverged "
            "counts as infinitely bad and takes no part in a parabola."
        )
    if failed:
        yield f"Trials that failed with an error and are left out: {failed}. Calling the sweep again tries them again."

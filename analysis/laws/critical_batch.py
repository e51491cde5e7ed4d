"""The critical batch size: how many more tokens a larger batch needs to reach the same loss.

    T(B) = T_min (1 + B/B_crit)        McCandlish et al., arXiv 1812.06162: E/E_min − 1 = (S/S_min − 1)⁻¹ with E = B S

B and T are tokens a step and tokens to the target loss; T_min is what the smallest batches need, and a batch of B_crit
needs twice that. The chain:

    tokens to target   at every batch size the loss over budgets T, made monotone (the lowest with at most T tokens), is
                       interpolated by a monotone cubic in log T. Nothing is extrapolated: a batch size that does not
                       pass the target between its smallest and largest budget has no value
    fit                least squares of log T by Huber's loss: on a grid of log₂ B_crit, T_min is the robust mean, and
                       B_crit the vertex of the parabola through the best grid point and its neighbours

In the law no batch is too small. Where small batches need more tokens than larger ones, as sign-like and normalized
updates make them, those are outside it: they are left out of the fit, and said so.

Intervals come from resampled losses that the caller hands over, so that they measure the noise of seeds. In simulated
tables of the law with seed noise of 0.003 and 0.01 nats they covered the truth in 91 to 95%.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from analysis.fits.intervals import CONFIDENCE, TAIL, Estimate, columns_of
from analysis.fits.parabola import minimum
from analysis.tables.arrays import Bools, Floats
from scionlab.errors import UserError

HUBER = 0.1  # in log tokens: an error beyond 10% of the tokens pulls like an absolute one
SLACK = (
    1.25  # a batch smaller than the one with the fewest tokens that needs this many times as many is outside the law
)
FEWEST = 3  # batch sizes that it takes to fit two parameters
SHARE = 2 / 3  # of the batch sizes that must reach a default target
QUARTERS = (0.75, 0.5, 0.25)  # where the default targets lie in the range of losses that so many reach
BEYOND = 2.0  # octaves beyond the smallest and largest batch size within which B_crit is looked for
PER_OCTAVE = 8  # points of the grid of B_crit
FINE = 64  # points between two budgets at which the interpolated loss is compared with the target
ROUNDS = 25  # of reweighting for the robust mean
ROUNDING = 1e-9  # nats that interpolation may err at a measured loss


@dataclass(frozen=True)
class Reached:
    """Tokens at which a batch size of `batch_tokens` reaches the target; None where it does not between its budgets.

    `used`: the fit uses it.
    """

    target: float
    batch_tokens: float
    tokens: float | None
    used: bool


@dataclass(frozen=True)
class TargetFit:
    """The law at one target loss. B_crit and T_min are in tokens, `rms` is the residuals' in log tokens.

    `status`: "ok"; "at edge", B_crit lies more than a factor of 4 outside the batch sizes, or there is none, and no
    interval is given; "too few", fewer than 3 batch sizes reach the target. `cut_off`: in more than 2.5% of the
    resamples B_crit is at that edge, where its interval ends.
    """

    target: float
    status: str
    batch_crit: Estimate | None
    tokens_min: Estimate | None
    rms: float | None
    cut_off: bool
    n_batches: int

    def tokens(self, batch_tokens: ArrayLike) -> Floats:
        """Tokens to the target at batch sizes in tokens; UserError if nothing was fitted."""
        if self.batch_crit is None or self.tokens_min is None:
            raise UserError(f"critical batch: fewer than {FEWEST} batch sizes reach the loss {self.target:g}")
        return self.tokens_min.value * (1 + np.asarray(batch_tokens, dtype=float) / self.batch_crit.value)


@dataclass(frozen=True)
class AtTarget:
    """The fit at one target, and what it is of: B (J,) in tokens, ascending, and log T (J,), NaN where not reached.

    `used`: the fit uses the batch size. `sample` are draws of log T (R, J), `drawn` of B_crit and T_min (2, R): None
    where there is no noise to draw, or no interval.
    """

    fit: TargetFit
    batch_tokens: Floats
    log_tokens: Floats
    used: Bools
    sample: Floats | None = None
    drawn: Floats | None = None

    @property
    def reached(self) -> tuple[Reached, ...]:
        """A row per batch size."""
        tokens = [float(np.exp(value)) if np.isfinite(value) else None for value in self.log_tokens]
        rows = zip(self.batch_tokens, tokens, self.used, strict=True)
        return tuple(Reached(self.fit.target, float(b), t, bool(u)) for b, t, u in rows)

    @property
    def warnings(self) -> list[str]:
        """What keeps the fit from being one of all batch sizes, with an interval."""
        at = f"loss {self.fit.target:g}:"
        if self.fit.status == "too few":
            return [f"{at} {self.fit.n_batches} batch sizes can be fitted, fewer than {FEWEST}"]
        left_out = self.batch_tokens[np.isfinite(self.log_tokens) & ~self.used]
        found = []
        if left_out.size:
            sizes = ", ".join(f"{size:g}" for size in left_out)
            found.append(f"{at} batches of {sizes} tokens need more tokens than larger ones: outside the law, left out")
        if self.fit.status == "at edge":
            found.append(f"{at} B_crit lies far outside the batch sizes measured, or there is none")
        if self.fit.cut_off:
            found.append(f"{at} the interval of B_crit ends where the search for it does")
        return found


@dataclass(frozen=True)
class CriticalBatch:
    """The fits at several target losses, from high to low, and what they were fitted to."""

    targets: tuple[TargetFit, ...]
    reached: tuple[Reached, ...]
    warnings: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row per target."""
        rows = [
            {**asdict(fit), **columns_of("batch_crit", fit.batch_crit), **columns_of("tokens_min", fit.tokens_min)}
            for fit in self.targets
        ]
        return pd.DataFrame(rows, columns=_FRAME)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"confidence": CONFIDENCE, **asdict(self)}


_FRAME = [
    *("target", "status", "batch_crit", "batch_crit_low", "batch_crit_high"),
    *("tokens_min", "tokens_min_low", "tokens_min_high", "rms", "cut_off", "n_batches"),
]


def fit_critical_batch(
    tokens: ArrayLike,
    batch_tokens: ArrayLike,
    loss: ArrayLike,
    targets: Sequence[float] | None = None,
    resampled: ArrayLike | None = None,
) -> CriticalBatch:
    """From cells (n,): budget and batch size in tokens, and the loss at the best learning rate in nats per token.

    `targets` are losses, by default those of `default_targets`. `resampled` (R, n) holds draws of the losses; without
    it there are no intervals. UserError if shapes differ, a value is not finite and positive, or a cell occurs twice.
    """
    found, warnings = at_targets(tokens, batch_tokens, loss, targets, resampled)
    return CriticalBatch(
        targets=tuple(each.fit for each in found),
        reached=tuple(row for each in found for row in each.reached),
        warnings=(*warnings, *(warning for each in found for warning in each.warnings)),
    )


def at_targets(
    tokens: ArrayLike,
    batch_tokens: ArrayLike,
    loss: ArrayLike,
    targets: Sequence[float] | None = None,
    resampled: ArrayLike | None = None,
) -> tuple[list[AtTarget], list[str]]:
    """The fits of `fit_critical_batch`, with their draws, from high targets to low; and warnings of all of them."""
    cells = pd.DataFrame({"batch": _column("batch_tokens", batch_tokens), "tokens": _column("tokens", tokens)})
    losses = _column("loss", loss)
    if len(losses) != len(cells) or cells.duplicated().any():
        raise UserError("critical batch: every batch size and budget must have one loss")
    drawn = None if resampled is None else np.asarray(resampled, dtype=float)
    if drawn is not None and (drawn.ndim != 2 or drawn.shape[1] != len(losses)):
        raise UserError(f"resampled: has shape {drawn.shape}; needed is (resamples, {len(losses)})")
    curves = _curves(cells)
    single = int(cells["batch"].nunique()) - len(curves)
    warnings = [f"{single} batch sizes have one budget only, and do not count"] if single else []
    chosen = default_targets([losses[rows] for _, rows, _ in curves]) if targets is None else targets
    if not chosen:
        warnings.append(f"no loss is reached by {SHARE:.0%} of the batch sizes, and {FEWEST} of them")
    wanted = np.array(sorted(chosen, reverse=True), dtype=float)
    measured = _all_reached(curves, losses[None], wanted)[0]
    sample = None if drawn is None else _all_reached(curves, drawn, wanted)
    batch = np.array([size for size, _, _ in curves])
    of_each = [None if sample is None else sample[:, :, i] for i in range(len(wanted))]
    found = [fit_target(float(t), batch, measured[:, i], of_each[i]) for i, t in enumerate(wanted)]
    return found, warnings


Curve = tuple[float, NDArray[np.intp], Floats]  # a batch size, its cells by ascending budget, their budgets


def _column(name: str, values: ArrayLike) -> Floats:
    column = np.asarray(values, dtype=float)
    if column.ndim != 1 or not (np.isfinite(column) & (column > 0)).all():
        raise UserError(f"{name}: must be one finite and positive value per cell")
    return column


def _curves(cells: pd.DataFrame) -> list[Curve]:
    """The batch sizes with at least two budgets, ascending."""
    curves = []
    for size, group in cells.groupby("batch", sort=True):
        rows = group.sort_values("tokens").index.to_numpy()
        if len(rows) > 1:
            curves.append((float(str(size)), rows, cells["tokens"].to_numpy()[rows]))
    return curves


def default_targets(losses: Sequence[Floats]) -> list[float]:
    """Up to three losses that most batch sizes reach, from each batch size's losses by ascending budget.

    A batch size reaches what lies between the loss of its smallest budget and its lowest. The targets lie at the
    quarters of the range of losses that at least two thirds of the batch sizes, and three of them, reach.
    """
    first, lowest = np.array([row[0] for row in losses]), np.array([row.min() for row in losses])
    needed = max(FEWEST, math.ceil(SHARE * len(losses)))

    def enough(loss: float) -> bool:
        return int(((lowest <= loss) & (loss <= first)).sum()) >= needed

    ends = [float(loss) for loss in (*first, *lowest) if enough(loss)]
    if not ends:
        return []
    targets = {round(min(ends) + share * (max(ends) - min(ends)), 3) for share in QUARTERS}
    return sorted((target for target in targets if enough(target)), reverse=True)


def _all_reached(curves: Sequence[Curve], losses: Floats, targets: Floats) -> Floats:
    """log T of losses (R, n) at every batch size and target, (R, batch sizes, targets); NaN where there is none."""
    found = [tokens_to_target(tokens, losses[:, rows], targets) for _, rows, tokens in curves]
    return np.stack(found, axis=1) if found else np.empty((len(losses), 0, len(targets)))


def tokens_to_target(tokens: Floats, losses: Floats, targets: Floats) -> Floats:
    """Logarithm of the tokens at which losses (R, m) at budgets (m,), ascending, first reach targets (Q,): (R, Q).

    NaN where the target lies above the loss of the smallest budget, or below the lowest.
    """
    x = np.log(tokens)
    fine = np.interp(np.arange(FINE * (len(x) - 1) + 1) / FINE, np.arange(len(x)), x)
    curve = np.asarray(PchipInterpolator(x, np.minimum.accumulate(losses, axis=1), axis=1)(fine))
    found = [_crossing(fine, curve, target) for target in targets]
    return np.stack(found, axis=1) if found else np.empty((len(losses), 0))


def _crossing(x: Floats, curves: Floats, target: float) -> Floats:
    """Where curves (R, m) first fall to the target, straight between the points x (m,)."""
    below = curves <= target + ROUNDING
    after = np.argmax(below, axis=1)
    before = np.maximum(after - 1, 0)
    rows = np.arange(len(curves))
    high, low = curves[rows, before], curves[rows, after]
    fall = np.where(high > low, high - low, 1.0)
    at = x[before] + np.clip((high - target) / fall, 0, 1) * (x[after] - x[before])
    return np.where(below.any(axis=1) & (high >= target - ROUNDING), at, np.nan)


def fit_target(target: float, batch_tokens: Floats, log_tokens: Floats, sample: Floats | None = None) -> AtTarget:
    """The fit to log T (J,) at batch sizes (J,), ascending; NaN is a target that is not reached.

    `sample` (R, J) are draws of log T, which intervals are percentiles of.
    """
    used = _inside_law(log_tokens[None])
    n_batches = int(used.sum())
    if n_batches < FEWEST:
        few = TargetFit(target, "too few", None, None, None, False, n_batches)
        return AtTarget(few, batch_tokens, log_tokens, np.zeros_like(used[0]), sample)
    crit, low, inside = _hyperbola(batch_tokens, log_tokens[None])
    drawn = _sample(batch_tokens, sample) if inside[0] else None
    fit = TargetFit(
        target=target,
        status="ok" if inside[0] else "at edge",
        batch_crit=Estimate.of(float(crit[0]), None if drawn is None else drawn[0]),
        tokens_min=Estimate.of(float(low[0]), None if drawn is None else drawn[1]),
        rms=None,
        cut_off=drawn is not None and float(np.mean(~drawn[2])) > TAIL,
        n_batches=n_batches,
    )
    residuals = (log_tokens - np.log(fit.tokens(batch_tokens)))[used[0]]
    fit = replace(fit, rms=float(np.sqrt(np.mean(residuals**2))))
    draws = None if drawn is None else np.stack(drawn[:2])
    return AtTarget(fit, batch_tokens, log_tokens, used[0], sample, draws)


def _sample(batch: Floats, sample: Floats | None) -> tuple[Floats, Floats, Bools] | None:
    """Fits of the resamples; None where there are none, or too many in which too few batch sizes reach the target."""
    if sample is None:
        return None
    usable = _inside_law(sample).sum(axis=1) >= FEWEST
    return _hyperbola(batch, sample[usable]) if usable.mean() >= 1 - TAIL else None


def _inside_law(log_tokens: Floats) -> Bools:
    """Which batch sizes (ascending) of (R, J) reach the target and are not too small for the law."""
    known = np.isfinite(log_tokens)
    filled = np.where(known, log_tokens, np.inf)
    cheapest = np.argmin(filled, axis=1)[:, None]
    small = np.arange(log_tokens.shape[1]) < cheapest
    return known & ~(small & (filled > filled.min(axis=1, keepdims=True) + np.log(SLACK)))


def _hyperbola(batch: Floats, log_tokens: Floats) -> tuple[Floats, Floats, Bools]:
    """B_crit and T_min of resamples (R, J) of log T, and whether B_crit lies inside its grid, each (R,)."""
    used = _inside_law(log_tokens)
    values = np.where(used, log_tokens, 0.0)
    reach = np.log2(batch[used.any(axis=0)])
    octaves = np.arange(reach.min() - BEYOND, reach.max() + BEYOND + 0.5 / PER_OCTAVE, 1 / PER_OCTAVE)
    rise = np.log1p(batch / 2 ** octaves[:, None])  # (grid, J)
    _, misfit = _robust_mean(values[:, None] - rise, used[:, None])
    at, best = minimum(octaves, misfit)
    low, _ = _robust_mean(values - np.log1p(batch / 2 ** at[:, None]), used)
    return 2**at, np.exp(low), (best > 0) & (best < len(octaves) - 1)


def _robust_mean(values: Floats, used: Bools) -> tuple[Floats, Floats]:
    """The mean over the last axis by Huber's loss, and that loss, of the values that are used."""
    weights = np.broadcast_to(used, values.shape).astype(float)
    mean = np.zeros(values.shape[:-1])
    for _ in range(ROUNDS):
        mean = (weights * values).sum(axis=-1) / weights.sum(axis=-1)
        weights = used * HUBER / np.maximum(np.abs(values - mean[..., None]), HUBER)
    away = np.abs(values - mean[..., None])
    clipped = np.minimum(away, HUBER)
    return mean, (used * clipped * (away - clipped / 2)).sum(axis=-1)

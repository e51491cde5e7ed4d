"""Where the optimum of a place lies, by several readings, since the answer depends on it.

    best        the run of the lowest loss (mean over seeds)
    band x%     the mean, in logarithms, of the runs whose loss is within x% of the lowest (Li et al., arXiv 2503.04715)
    profile     every curve's lowest loss as read (`analysis.fits.reading`), then the parabola through the lowest of
                these over batch sizes (`analysis.fits.profile`), and the rate there; likewise over momentum and decay
    quadratic   the least-squares quadratic in (log₂ lr, log₂ B) around the best run, at its momentum and weight decay
    as given    where a place has one run: an optimum that somebody else read

An optimum at the end of a grid, or beside rates that diverge, is not one, by whatever reading: `why` says so. Rate and
batch size go together: where either ends, neither counts. A band may reach a grid's end though the best run does not;
it is then cut off, its mean too far inside, and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np

from analysis.fits.cells import Budget
from analysis.fits.intervals import Estimate
from analysis.fits.profile import REACH, Profile, best_batch, drawn_profile, lr_along, profile
from analysis.laws.joint import BATCH_TOKENS, LR
from analysis.studies.joint_scaling.places import BESIDE, Curve, Place
from analysis.studies.joint_scaling.settings import band_name
from analysis.tables.arrays import Bools, Floats

BEST, PROFILE, QUADRATIC, AS_GIVEN = "best", "profile", "quadratic", "as given"
AT_END = "at its grid's end"
BESIDE_DIVERGENCE = "beside rates that diverge"
RATES_END = "best rates at their grid's end"
BATCHES_END = "best batch size at its grid's end"
NO_MINIMUM = "no minimum among the runs"
ONE_VALUE = "one value was tried"
ZERO = "the best is 0, which has no logarithm"
NOT_POSITIVE = "the lowest loss is not positive"
FEWEST = 8  # runs for a quadratic, which has six coefficients
PAIR = (LR, BATCH_TOKENS)


@dataclass(frozen=True)
class Optimum:
    """log₂ of the best value of a quantity at a place by a reading, with an interval where noise is known.

    `why` says why it does not count, and is empty where it does; `cut`: its band reaches the end of a grid.
    """

    reading: str
    quantity: str
    log2: Estimate
    why: str = ""
    cut: bool = False


@dataclass(frozen=True)
class _Runs:
    """The runs of a place that trained: log₂ of every quantity (n,), losses (n,), whether each ends its curve (n,)."""

    at: Mapping[str, Floats]
    loss: Floats
    ends: Bools


def read_place(place: Place, swept: Sequence[str], bands: Sequence[float]) -> list[Optimum]:
    """The optima of what was swept, by every reading; of a table of optima the one run, as given."""
    runs = _runs(place)
    if not swept:
        return [Optimum(AS_GIVEN, quantity, Estimate(float(runs.at[quantity][0]))) for quantity in PAIR]
    why = _why(place, swept)
    best = {quantity: float(runs.at[quantity][int(np.argmin(runs.loss))]) for quantity in swept}
    found = [Optimum(BEST, quantity, Estimate(best[quantity]), why[quantity]) for quantity in swept]
    for band in bands:
        found += _band(place, runs, swept, band, why)
    found += _profile(place, swept, why)
    return found + (_quadratic(place, runs, why) if set(PAIR) <= set(swept) else [])


def _runs(place: Place) -> _Runs:
    curves = [each.curve for each in place.curves]
    counts = [int(curve.finite.sum()) for curve in curves]
    at = {LR: np.concatenate([curve.x[curve.finite] for curve in curves])}
    for quantity in BESIDE:
        at[quantity] = np.repeat([curve.at[quantity] for curve in place.curves], counts)
    ends = np.concatenate([np.isin(np.flatnonzero(c.finite), (0, len(c.x) - 1)) for c in curves])
    return _Runs(at, np.concatenate([curve.mean[curve.finite] for curve in curves]), ends)


def _why(place: Place, swept: Sequence[str]) -> dict[str, str]:
    """Of every swept quantity, why the best run tells no optimum of it; "" where it does."""
    best = _best(place)
    found = {quantity: _end(place, quantity, best.at[quantity]) for quantity in swept if quantity != LR}
    if LR in swept:
        curve = best.curve
        one = ONE_VALUE if len(curve.x) == 1 else AT_END if curve.at_edge else BESIDE_DIVERGENCE
        found[LR] = "" if curve.resolved else one
    of_rate, of_batch = found.get(LR, ""), found.get(BATCH_TOKENS, "")
    if LR in found and of_batch and not of_rate:
        found[LR] = BATCHES_END
    if BATCH_TOKENS in found and of_rate and not of_batch:
        found[BATCH_TOKENS] = of_rate if of_rate == BESIDE_DIVERGENCE else RATES_END
    return found


def _best(place: Place) -> Curve:
    """The curve with the run of the lowest loss."""
    return min(place.curves, key=lambda each: float(each.curve.mean.min()))


def _end(place: Place, quantity: str, at: float) -> str:
    values = place.values(quantity)
    if at == -np.inf:
        return ZERO
    if len(values) == 1:
        return ONE_VALUE
    return AT_END if at in (values[0], values[-1]) else ""


def _band(place: Place, runs: _Runs, swept: Sequence[str], percent: float, why: Mapping[str, str]) -> list[Optimum]:
    """Means in logarithms; runs without weight decay say nothing of its mean."""
    lowest = float(runs.loss.min())
    inside = runs.loss <= lowest * (1 + percent / 100) if lowest > 0 else runs.loss == lowest
    found = []
    for quantity in swept:
        near = runs.at[quantity][inside]
        finite = near[np.isfinite(near)]
        ends = place.values(quantity)[[0, -1]] if quantity != LR else None
        cut = bool(runs.ends[inside].any() if ends is None else np.isin(near, ends).any())
        value = float(finite.mean()) if len(finite) else np.nan
        reason = NOT_POSITIVE if lowest <= 0 else why[quantity]
        found.append(Optimum(band_name(percent), quantity, Estimate(value), reason, cut))
    return found


def _profile(place: Place, swept: Sequence[str], why: Mapping[str, str]) -> list[Optimum]:
    found = []
    for quantity in swept:
        if quantity == LR:
            found.append(_profiled_rate(place, BATCH_TOKENS in swept, why[LR]))
            continue
        observed, drawn = _over(place, quantity)
        if observed is None:
            found.append(Optimum(PROFILE, quantity, Estimate(np.nan), why[quantity] or ONE_VALUE))
            continue
        at, known = best_batch(observed)
        draws = None if drawn is None or not known[0] else best_batch(drawn)[0]
        reason = ZERO if why[quantity] == ZERO else _open(observed, quantity, known)
        found.append(Optimum(PROFILE, quantity, Estimate.of(at[0], draws), reason))
    return found


def _profiled_rate(place: Place, along_batch: bool, why: str) -> Optimum:
    """The rate at the best batch; of one batch size, the best rate of the lowest curve."""
    if not along_batch:
        lowest = min(place.curves, key=lambda curve: curve.reading.loss)
        return Optimum(PROFILE, LR, lowest.reading.optimum, "" if lowest.reading.resolved else why or AT_END)
    observed, drawn = _over(place, BATCH_TOKENS)
    if observed is None:
        return Optimum(PROFILE, LR, Estimate(np.nan), why or ONE_VALUE)
    at, inside = best_batch(observed)
    value, resolved = lr_along(observed, at)
    known = inside & resolved
    draws = None if drawn is None or not known[0] else lr_along(drawn, best_batch(drawn)[0])[0]
    return Optimum(PROFILE, LR, Estimate.of(value[0], draws), _open(observed, LR, known))


def _open(of: Profile, quantity: str, known: Bools) -> str:
    """Why the best value of a profile is not known; "" where it is."""
    lowest = int(of.lowest[0])
    if known[0]:
        return ""
    if lowest in (0, len(of.x) - 1):
        return BATCHES_END if quantity == LR else AT_END
    if of.inside(of.lowest)[0]:
        return BESIDE_DIVERGENCE
    return AT_END if quantity == LR else RATES_END


def _over(place: Place, quantity: str) -> tuple[Profile | None, Profile | None]:
    """The profile over a quantity, of each of whose values the lowest curve counts, and that of drawn curves.

    None for a quantity with one value; values of 0 have no place on a logarithmic axis.
    """
    lowest: dict[float, Curve] = {}
    for curve in place.curves:
        at = curve.at[quantity]
        if np.isfinite(at) and (at not in lowest or curve.reading.loss < lowest[at].reading.loss):
            lowest[at] = curve
    x = np.array(sorted(lowest))
    if len(x) < 2:
        return None, None
    chosen = [lowest[at] for at in x]
    budget, readings = Budget(place.tokens, tuple(c.cell for c in chosen)), [c.reading for c in chosen]
    drawn = drawn_profile(budget, readings)
    return replace(profile(budget, readings), x=x), None if drawn is None else replace(drawn, x=x)


def _quadratic(place: Place, runs: _Runs, why: Mapping[str, str]) -> list[Optimum]:
    """Fitted to the runs within `REACH` rates and batch sizes of the best one."""
    best = _best(place)
    rates, batches = best.curve.x, place.values(BATCH_TOKENS)
    box = {
        LR: _around(rates, best.curve.best),
        BATCH_TOKENS: _around(batches, int(np.searchsorted(batches, best.at[BATCH_TOKENS]))),
    }
    near = np.all([(runs.at[q] >= low) & (runs.at[q] <= high) for q, (low, high) in box.items()], axis=0)
    for quantity in BESIDE[1:]:
        near &= (runs.at[quantity] == best.at[quantity]) | np.isnan(best.at[quantity])
    x = np.stack([runs.at[quantity][near] for quantity in PAIR])
    at = _vertex(x, runs.loss[near])
    outside = at is None or any(not low < value < high for value, (low, high) in zip(at, box.values(), strict=True))
    values = np.full(2, np.nan) if at is None else at
    return [
        Optimum(QUADRATIC, quantity, Estimate(float(value)), why[quantity] or (NO_MINIMUM if outside else ""))
        for quantity, value in zip(PAIR, values, strict=True)
    ]


def _around(values: Floats, index: int) -> tuple[float, float]:
    """Ends of what is within `REACH` of an index; a hair wider, as rates of several batch sizes are rounded."""
    hair = 0.01  # octaves
    return float(values[max(0, index - REACH)]) - hair, float(values[min(len(values) - 1, index + REACH)]) + hair


def _vertex(x: Floats, loss: Floats) -> Floats | None:
    """Lowest point (2,) of the least-squares quadratic through runs x (2, n); None where there is none."""
    if x.shape[1] < FEWEST or any(len(np.unique(row)) < 3 for row in x):
        return None
    centre = x.mean(axis=1)
    u = x - centre[:, None]
    squares = [u[i] * u[j] for i, j in combinations_with_replacement(range(2), 2)]
    _, a, b, aa, ab, bb = np.linalg.lstsq(np.stack([np.ones(u.shape[1]), *u, *squares], axis=1), loss, rcond=None)[0]
    bends = np.array([[2 * aa, ab], [ab, 2 * bb]])
    if np.linalg.eigvalsh(bends)[0] <= 0:
        return None
    return np.asarray(centre - np.linalg.solve(bends, [a, b]))

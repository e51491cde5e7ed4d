"""Seed noise of loss curves: how unequal it is, and how far one curve's level can be told from another's.

Losses of a curve are taken apart into a mean of every rate, a level of every seed, which moves the whole curve and none
of its optimum, and a rest.

    rests     within a curve, each rate's pooled with its neighbours' and drawn towards what is common to the curve
              (`Points.variance`); each curve's overall size drawn towards that of the others
    levels    of the rates near the optimum. What a seed has in common in all curves of a block (its initialization and
              order of data; the mean of the middle half, quiet curves counting more) cancels in every
              difference between them, and is taken out; what is left is independent from curve to curve. A curve with
              large rests is taken to have large levels, by a power of the rests' size that all curves tell: a level is
              one number a seed, the rests are one a rate and seed

all by Smyth's moderated variances (`analysis.fits.moderation`): the more so the less they differ. So a wide network may
be quieter than a narrow one, and a rate beside a wall noisier than the best one, as far as the seeds show it. Two seeds
are enough to say something.

With one seed there are no differences. Noise may then be read off the curves' roughness: the third divided difference
of a smooth curve is small, and of noise it is a sum with known weights. What curves bend beyond a parabola counts as
noise, too, so such intervals err on the wide side.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

from analysis.fits.lr_curve import LrCurve
from analysis.fits.moderation import Pool, log_variances, moderated
from analysis.fits.points import Points
from analysis.tables.arrays import Bools, Floats

Source = Literal["seeds", "roughness", "none"]

NEIGHBOURS = 2  # rates to either side whose rests say how noisy a rate is
WINDOW = 2  # rates to either side of the best one at which a seed's level is read
STEEP = 0.2  # but not where the loss is so much higher, in its own unit
FOUR = 4  # points of a third difference
POWER, SPREAD = 0.5, 0.25  # of rests' variance in levels': mean and variance; 0 is not at all, 1 in proportion
OUTER = 0.25  # of the levels of a seed, at either end, that do not count for what it has in common


@dataclass(frozen=True)
class Noise:
    """What is known of the noise of curves, in their order.

    `points` are the rates that train, with the variances of rests. `levels` are pools of one seed's level; a pool of no
    freedom is not known. `size` is the standard deviation of one run's loss about its curve, root mean square over the
    curves, in the losses' unit. `paired`: the curves of every block have the same seeds, and some block has two curves.
    """

    points: tuple[Points, ...]
    levels: tuple[Pool, ...]
    source: Source
    size: float = 0.0
    paired: bool = False

    @property
    def levels_known(self) -> bool:
        """Whether there is any measure of how far levels move."""
        return any(pool.freedom > 0 for pool in self.levels)


def near(curve: LrCurve) -> Bools:
    """Rates (J,) at which seeds' levels are read: near the optimum, and trained by all seeds."""
    steps, mean = np.arange(len(curve.x)), curve.mean
    best = curve.best
    whole = np.isfinite(curve.losses).all(axis=1)
    return np.asarray(whole & (abs(steps - best) <= WINDOW) & (mean <= mean[best] + STEEP))


def measure_noise(
    curves: Sequence[LrCurve],
    blocks: Sequence[Any] | None = None,
    groups: Sequence[Any] | None = None,
    places: Sequence[Any] | None = None,
    roughness: bool = False,
) -> Noise:
    """The noise of curves that trained somewhere.

    blocks: one of each curve; levels are compared within a block. Default: all curves are one.
    groups: one of each curve; the levels of a group are of one size at one place. Default: its block.
    places: one of each curve; how large levels are may also differ by place, by one factor for all groups, as runs of
        few steps are noisier than runs of many. Default: all curves are at one.
    roughness: whether one seed's noise is read off the roughness of curves, and of their minima within a block.
    """
    blocks = [0] * len(curves) if blocks is None else list(blocks)
    rests, freedom = _rests(curves)
    trend = np.array([np.mean(rest) for rest in rests])
    levels, paired = _levels(curves, blocks, groups or blocks, places or [0] * len(curves), trend)
    if freedom.any() or any(pool.freedom for pool in levels):
        return _noise(curves, rests, freedom, levels, "seeds", paired)
    if roughness:
        return _rough(curves, blocks)
    return _noise(curves, rests, freedom, levels, "none")


def _noise(
    curves: Sequence[LrCurve],
    rests: Sequence[Floats],
    freedom: Floats,
    levels: Sequence[Pool],
    source: Source,
    paired: bool = False,
) -> Noise:
    """From every curve's variances of one run's rest (J,), with degrees of freedom (curves,), and pools of a level."""
    points = []
    for curve, rest, known in zip(curves, rests, freedom, strict=True):
        at, variance = curve.finite, None if source == "none" else (rest / curve.counts)[curve.finite]
        points.append(Points(curve.x[at], curve.mean[at], variance, float(known) or np.inf))
    squares = [np.mean(rest) + pool.sd**2 for rest, pool in zip(rests, levels, strict=True)]
    return Noise(tuple(points), tuple(levels), source, float(np.sqrt(np.mean(squares))), paired)


def _rests(curves: Sequence[LrCurve]) -> tuple[list[Floats], Floats]:
    """Variances of one run's rest at every curve's rates (J,), and the curves' degrees of freedom, 0 if not known."""
    squares, freedoms = [curve.squares for curve in curves], [curve.freedoms for curve in curves]
    sizes = [_within(s, f) for s, f in zip(squares, freedoms, strict=True)]
    totals = np.array([np.sum(s / size) for s, size in zip(squares, sizes, strict=True)])
    variances, freedom = moderated(totals, np.array([np.sum(f) for f in freedoms], float))
    return [variance * size for variance, size in zip(variances, sizes, strict=True)], freedom


def _within(squares: Floats, freedoms: Floats) -> Floats:
    """How the variances of a curve's rates go relative to each other, (J,), 1 in the mean by degrees of freedom.

    One or two degrees of freedom a rate say next to nothing of it: each is pooled with its neighbours first.
    """
    beside = np.abs(np.subtract.outer(np.arange(len(squares)), np.arange(len(squares)))) <= NEIGHBOURS
    squares, freedoms = beside @ squares, beside @ freedoms
    return _relative(moderated(squares, freedoms)[0], freedoms)


def _relative(variances: Floats, freedoms: Floats) -> Floats:
    """Variances divided by their mean by degrees of freedom; all 1 where that is 0, or nothing is known."""
    mean = float(np.average(variances, weights=freedoms)) if freedoms.any() else 0.0
    return variances / mean if mean > 0 else np.ones_like(variances)


def _by_group(groups: Sequence[Any], squares: Floats, freedoms: Floats) -> tuple[Floats, Floats]:
    """Moderated variances of every curve and their degrees of freedom, (curves,) each."""
    names = list(dict.fromkeys(groups))
    of = np.array([names.index(group) for group in groups])
    variances, freedom = moderated(*(np.bincount(of, part).astype(float) for part in (squares, freedoms)))
    return variances[of], freedom[of]


def _levels(
    curves: Sequence[LrCurve], blocks: Sequence[Any], groups: Sequence[Any], places: Sequence[Any], rests: Floats
) -> tuple[list[Pool], bool]:
    """Every curve's pool of one seed's level, and whether curves are paired; `rests` (curves,) are variances."""
    found = {i: level for i, curve in enumerate(curves) if (level := _level(curve)) is not None}
    squares, freedoms = np.zeros(len(curves)), np.zeros(len(curves))
    several, equal = False, True
    for block in dict.fromkeys(blocks):
        mine = [i for i in found if blocks[i] == block]
        same = len({curves[i].seeds for i in mine}) == 1 and len({len(found[i]) for i in mine}) == 1
        several, equal = several or len(mine) > 1, equal and (same or len(mine) < 2)
        paired = same and len(mine) > 1
        shares = _shares(rests[mine]) if paired else np.zeros(len(mine))
        common = _middle(np.array([found[i] for i in mine]), shares) if paired else 0.0
        for i, share in zip(mine, shares, strict=True):
            squares[i], freedoms[i] = np.sum((found[i] - common) ** 2), (1 - share) * (len(found[i]) - 1)
    of_cells = pd.Series(rests).groupby([list(groups), list(places)], sort=False).transform("mean").to_numpy()
    relative = _along(of_cells, squares, freedoms)
    relative = relative * _relative(_by_group(places, squares / relative, freedoms)[0], freedoms)
    variances, freedom = _by_group(groups, squares / relative, freedoms)
    _, shared = np.unique(variances, return_inverse=True)
    known = zip(np.sqrt(variances * relative), freedom, shared, strict=True)
    return [Pool(float(sd), float(f), int(of)) for sd, f, of in known], several and equal


def _shares(rests: Floats) -> Floats:
    """How much each curve (n,) tells of what seeds have in common, 1 in all: the less, the larger its rests are."""
    weights = rests**-POWER if (rests > 0).all() else np.ones_like(rests)
    return np.asarray(weights / weights.sum())


def _middle(values: Floats, shares: Floats) -> Floats:
    """The mean of the middle half of curves' values (n, seeds) for every seed, (seeds,); their shares are (n,)."""
    order = np.argsort(values, axis=0)
    ends = np.cumsum(shares[order], axis=0)
    inside = np.clip(ends, OUTER, 1 - OUTER) - np.clip(ends - shares[order], OUTER, 1 - OUTER)
    return np.asarray(np.average(np.take_along_axis(values, order, axis=0), axis=0, weights=inside))


def _along(rests: Floats, squares: Floats, freedoms: Floats) -> Floats:
    """How levels' variances go with those of rests, (curves,): a power of these, fitted and drawn towards its half.

    Source: a trend in the prior of moderated variances, Law et al. 2014, doi 10.1186/gb-2014-15-2-r29.
    """
    if not (rests > 0).all():
        return np.ones_like(rests)
    known = (freedoms > 0) & (squares > 0)
    logs, weights = log_variances(squares[known], freedoms[known])
    x = np.log(rests / stats.gmean(rests))
    about = x[known] - np.average(x[known], weights=weights) if known.any() else x[known]
    power = (weights @ (about * logs) + POWER / SPREAD) / (weights @ about**2 + 1 / SPREAD)
    return np.asarray(np.exp(np.clip(power, 0, 1) * x))


def _level(curve: LrCurve) -> Floats | None:
    """How much every seed lies above the mean over seeds, averaged over the rates near the optimum; None for one."""
    losses = curve.losses[near(curve)]
    if len(losses) == 0 or losses.shape[1] < 2:
        return None
    return np.asarray((losses - losses.mean(axis=1, keepdims=True)).mean(axis=0))


def _rough(curves: Sequence[LrCurve], blocks: Sequence[Any]) -> Noise:
    """From the third differences around every curve's minimum, and around the lowest of every block's minima."""
    rest = _roughness((curve.x, curve.mean) for curve in curves)
    of_blocks = [[c for c, of in zip(curves, blocks, strict=True) if of == block] for block in dict.fromkeys(blocks)]
    level = _roughness((np.log2([c.at for c in mine]), np.array([c.mean.min() for c in mine])) for mine in of_blocks)
    # A mean over seeds has the roughness of the mean.
    rests = [np.full(len(curve.x), curve.n_seeds * rest.sd**2) for curve in curves]
    levels = [Pool(level.sd * curve.n_seeds**0.5, level.freedom) for curve in curves]
    known = rest.freedom > 0 or level.freedom > 0
    return _noise(curves, rests, np.full(len(curves), rest.freedom), levels, "roughness" if known else "none")


def _roughness(curves: Iterable[tuple[Floats, Floats]]) -> Pool:
    """Noise as the root mean square of third differences around each curve's minimum; curves are x and y, (J,) each."""
    found = [np.empty(0)]
    for x, y in curves:
        best = int(np.argmin(y))
        around = slice(max(0, best - WINDOW), best + WINDOW + 1)
        if len(y[around]) >= FOUR and np.isfinite(y[around]).all():
            found.append(_third_differences(x[around], y[around]))
    rough = np.concatenate(found)
    return Pool(float(np.sqrt(np.mean(rough**2))), float(rough.size)) if rough.size else Pool()


def _third_differences(x: Floats, y: Floats) -> Floats:
    """Divided differences of every four neighbours, (J − 3,), scaled so that those of noise have its variance.

    They are 0 on a parabola, also where points are not evenly spaced.
    """
    x, y = sliding_window_view(x, FOUR), sliding_window_view(y, FOUR)
    apart = x[:, :, None] - x[:, None, :] + np.eye(FOUR)
    weights = 1 / apart.prod(axis=2)
    return np.asarray((weights * y).sum(axis=1) / np.linalg.norm(weights, axis=1))

"""Seed noise of tuned values, and copies of the curves with fresh draws of it.

Near a cell's optimum a cost is taken apart into   mean over seeds  +  the seed's level  +  a rest at its learning rate.
Levels move whole curves and so the tuned values; rests move the optimum along its curve.

Where all cells have the same seeds, what a seed has in common in them (its initialization and order of data; the mean
of the middle half, as some arms are much noisier than others) is taken out of the levels: it cancels in every
difference between cells, as if runs were paired. What is left counts as independent from cell to cell. A median would
be one of the levels itself, and leave that cell without noise.

An arm's noise is pooled over its cells, and then moderated: drawn towards what is common to all arms, the more so the
less the arms differ in it (Smyth 2004, doi 10.2202/1544-6115.1027). Two or three seeds say little about the size of the
noise even so: every resample draws that as well, from its own distribution (σ²·df/χ²_df). The difference of two arms at
one rate then has the interval of Student's paired test.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.fits.lr_curve import WINDOW, LrCurve
from analysis.fits.moderation import Pool, moderated
from analysis.fits.profile import WALL
from analysis.studies.comparison.design import Cell
from analysis.tables.arrays import Floats

OUTER = 0.25  # of the levels of a seed, at either end, that do not count for what it has in common


def near(curve: LrCurve) -> NDArray[np.bool_]:
    """Which learning rates are near the optimum, at most `WINDOW` steps and `WALL` away, and have all seeds."""
    mean, steps = curve.mean, np.arange(len(curve.x))
    best = int(np.argmin(mean))
    whole = np.isfinite(curve.losses).all(axis=1)
    return np.asarray(whole & (abs(steps - best) <= WINDOW) & (mean <= mean[best] + WALL))


class Noise:
    """The noise of all cells. `known` says whether there is any measure of it, `paired` whether seeds are shared."""

    def __init__(self, cells: Iterable[Cell], rng: np.random.Generator, count: int) -> None:
        self._rng, self.count = rng, count
        cells = [cell for cell in cells if cell.trained]
        levels = {i: level for i, cell in enumerate(cells) if (level := _levels(cell.read)) is not None}
        self.paired = len(levels) > 1 and len({cells[i].read.seeds for i in levels}) == 1
        common = stats.trim_mean(list(levels.values()), OUTER, axis=0) if self.paired else 0.0
        share = (len(levels) - 1) / len(levels) if self.paired else 1.0
        squares, freedoms, rests, rest_freedoms = (np.zeros(len(cells)) for _ in range(4))
        for i, level in levels.items():
            squares[i], freedoms[i] = np.sum((level - common) ** 2), share * (len(level) - 1)
            rests[i], rest_freedoms[i] = _rests(cells[i].read)
        arms = np.array([cell.arm for cell in cells])
        self._levels = _pools(arms, squares, freedoms)
        self._rests = _pools(arms, rests, rest_freedoms)
        self.known = bool(freedoms.sum() > 0)
        scales: dict[Pool, Floats] = {}  # arms with one pool have one draw of its size
        for pool in (*self._levels.values(), *self._rests.values()):
            scales.setdefault(pool, pool.scales(count, rng))
        self._scales = scales

    def resample(self, cell: Cell) -> Floats:
        """Copies (count, rates) of the means of a trained cell's `read`, with fresh noise."""
        curve = cell.read
        level = self._scales[self._levels[cell.arm]] * self._rng.standard_normal(self.count)
        rest = self._scales[self._rests[cell.arm]][:, None] * self._rng.standard_normal((self.count, len(curve.x)))
        rest = rest / np.sqrt(curve.counts)
        around = near(curve)
        rest -= rest[:, around].mean(axis=1, keepdims=True) if around.any() else 0.0
        return curve.mean + level[:, None] / np.sqrt(curve.n_seeds) + rest


def _levels(curve: LrCurve) -> Floats | None:
    """How much every seed lies above the mean over seeds, averaged over the rates near the optimum; None for one."""
    costs = curve.losses[near(curve)]
    if len(costs) == 0 or costs.shape[1] < 2:
        return None
    return np.asarray((costs - costs.mean(axis=1, keepdims=True)).mean(axis=0))


def _rests(curve: LrCurve) -> tuple[float, float]:
    """Sum of squares of the rests, and their degrees of freedom."""
    costs = curve.losses[near(curve)]
    left = costs - costs.mean(axis=1, keepdims=True) - costs.mean(axis=0, keepdims=True) + costs.mean()
    return float(np.sum(left**2)), float((costs.shape[0] - 1) * (costs.shape[1] - 1))


def _pools(arms: NDArray[np.intp], squares: Floats, freedoms: Floats) -> dict[int, Pool]:
    """Every arm's pool, moderated."""
    names = np.unique(arms)
    sums = np.array([[part[arms == name].sum() for part in (squares, freedoms)] for name in names]).reshape(-1, 2)
    variances, freedom = moderated(sums[:, 0], sums[:, 1])
    return {int(name): Pool(float(np.sqrt(v)), float(f)) for name, v, f in zip(names, variances, freedom, strict=True)}

"""Seed noise, and copies of a table of cells with fresh draws of it.

A loss is taken apart into   mean over seeds  +  the seed's offset in its cell  +  a rest at its learning rate.
Offsets move batch sizes against each other, rests move learning rates; both are pooled over all cells, near each
cell's optimum. An offset that a seed has in all cells of a budget moves no optimum and is taken out. What a mean over
few learning rates keeps of the rests would count twice, and is taken off the offsets' variance.

With one seed there are no differences to pool. The noise is then read off the roughness of the curves: the third
difference of a smooth curve is small, that of noise of standard deviation σ has variance 20σ². What the curves bend
beyond a parabola counts as noise, too, so such intervals err on the wide side.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fits.cells import Budget, Cell, all_cells
from analysis.fits.lr_curve import WINDOW
from analysis.tables.arrays import Floats

THIRD_DIFFERENCE = np.array([-1.0, 3.0, -3.0, 1.0])


@dataclass(frozen=True)
class Noise:
    """Pools of single-seed offsets and rests, in nats. `source` is "seeds", "roughness" or "none"."""

    offsets: Floats
    rests: Floats
    source: str

    @property
    def level(self) -> float:
        """Standard deviation of one run's loss about its cell's expectation; 0 where nothing is known."""
        parts = [pool for pool in (self.offsets, self.rests) if pool.size]
        return float(np.sqrt(sum(np.mean(pool**2) for pool in parts))) if parts else 0.0


def measure_noise(budgets: Sequence[Budget], rng: np.random.Generator) -> Noise:
    """The noise of a table of cells, from its seeds or else from its roughness."""
    split = [_split(cell) for cell in all_cells(budgets)]
    rests = np.concatenate([np.empty(0), *(cell.curve.residuals() for cell in all_cells(budgets))])
    offsets = _offsets(budgets, split)
    if rests.size and offsets.size:
        shares = [1 / len(_near(cell)) for cell, parts in zip(all_cells(budgets), split, strict=True) if len(parts) > 1]
        return Noise(_without(offsets, np.mean(rests**2) * np.mean(shares)), rests, "seeds")
    rough = _roughness(cell.curve.mean for cell in all_cells(budgets))
    across = _roughness(np.array([cell.curve.mean.min() for cell in budget.cells]) for budget in budgets)
    if rough is None and across is None:
        return Noise(np.empty(0), np.empty(0), "none")
    seeds = max(cell.curve.n_seeds for cell in all_cells(budgets))
    draws = rng.standard_normal((2, 4096)) * np.sqrt(seeds)  # a mean over seeds has the roughness of the mean
    rests = (rough or 0.0) * draws[1]
    return Noise(_without((across or 0.0) * draws[0], np.mean(rests**2)), rests, "roughness")


def _without(pool: Floats, variance: float) -> Floats:
    """A pool with a smaller variance, or none."""
    own = np.mean(pool**2)
    return pool * np.sqrt(np.clip(1 - variance / own, 0, None)) if own > 0 else pool


def _near(cell: Cell) -> Floats:
    """Losses (rates, seeds) at the learning rates near the optimum at which no seed diverged."""
    best = int(np.argmin(cell.curve.mean))
    near = cell.curve.losses[max(0, best - WINDOW) : best + WINDOW + 1]
    return near[np.isfinite(near).all(axis=1)]


def _split(cell: Cell) -> Floats:
    """A seed's offset in the cell, (seeds,)."""
    near = _near(cell)
    return np.asarray((near - near.mean(axis=1, keepdims=True)).mean(axis=0)) if len(near) else np.empty(0)


def _offsets(budgets: Sequence[Budget], split: Sequence[Floats]) -> Floats:
    """All cells' offsets, without what a seed has in all cells of a budget, unbiased in variance."""
    pools, start = [np.empty(0)], 0
    for budget in budgets:
        mine = split[start : start + len(budget.cells)]
        start += len(budget.cells)
        seeds = max(len(offsets) for offsets in mine)
        table = np.array([offsets for offsets in mine if len(offsets) == seeds])
        if len(table) < 2 or seeds < 2:
            continue
        table = table - table.mean(axis=0, keepdims=True)
        pools.append(table.ravel() * np.sqrt(table.size / ((len(table) - 1) * (seeds - 1))))
    return np.concatenate(pools)


def _roughness(curves: Iterable[Floats]) -> float | None:
    """Root mean square of the third differences around each curve's minimum, as a standard deviation of noise."""
    found = []
    for curve in curves:
        best = int(np.argmin(curve))
        near = curve[max(0, best - WINDOW) : best + WINDOW + 1]
        if len(near) >= len(THIRD_DIFFERENCE) and np.isfinite(near).all():
            found.append(np.convolve(near, THIRD_DIFFERENCE, mode="valid"))
    if not found:
        return None
    return float(np.sqrt(np.mean(np.concatenate(found) ** 2) / np.sum(THIRD_DIFFERENCE**2)))


def resample(budget: Budget, noise: Noise, count: int, rng: np.random.Generator) -> list[Floats]:
    """`count` mean curves (count, J) of every cell of the budget, every run with its draws of the noise."""
    drawn = []
    for cell in budget.cells:
        present = ~np.isnan(cell.curve.losses)
        seeds = cell.curve.n_seeds
        offset = rng.choice(noise.offsets, size=(count, 1, seeds)) if noise.offsets.size else 0.0
        rest = rng.choice(noise.rests, size=(count, *present.shape)) if noise.rests.size else 0.0
        draws = (offset + rest) * present
        drawn.append(cell.curve.mean + draws.sum(axis=2) / present.sum(axis=1))
    return drawn

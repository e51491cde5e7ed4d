"""One loss curve over learning rates: mean over seeds, optimum, and what the seeds leave beside it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

from analysis.tables.arrays import Bools, Floats

ENOUGH = 0.5  # a rate at which a larger share of the runs diverged does not train
# Losses that leap by LEAP times what FEWEST rates or more below span, and by RISE of the lowest loss, are of runs that
# broke and ended all the same. Two octaves of the steepest valley that is read (`analysis.fits.valley`, b = 1.5, rates
# an octave apart) leap by 3.5.
LEAP, FEWEST, RISE = 5.0, 4, 0.25
ROUNDING = 1e-9


@dataclass(frozen=True)
class LrCurve:
    """Losses of one setting: x = log₂ lr (J,) ascending, losses (J, seeds) with inf for diverged and NaN for absent.

    `at` is the setting: a width, or a batch size in tokens. `seeds` are those of the columns.
    """

    at: float
    x: Floats
    losses: Floats
    seeds: tuple[int, ...] = ()

    @classmethod
    def of(cls, rows: pd.DataFrame, at: float) -> "LrCurve":
        """From the finished runs of one setting. Not every seed has to cover every learning rate."""
        losses = rows["val_loss"].where(rows["status"] == "ok", np.inf)
        grid = rows.assign(loss=losses).pivot(index="lr", columns="seed", values="loss").sort_index()
        seeds = tuple(int(seed) for seed in grid.columns)
        return cls(at, np.log2(grid.index.to_numpy(dtype=float)), grid.to_numpy(dtype=float), seeds)

    @cached_property
    def share_diverged(self) -> Floats:
        """Share of the runs at every learning rate that diverged, (J,)."""
        return np.asarray(np.isinf(self.losses).sum(axis=1) / (~np.isnan(self.losses)).sum(axis=1))

    @cached_property
    def finite(self) -> Bools:
        """Learning rates that train: at most half of their runs diverged, and those left did not break.

        One more seed that diverges cannot end a rate by itself.
        """
        return np.asarray((self.share_diverged <= ENOUGH) & ~self.broken)

    @cached_property
    def broken(self) -> Bools:
        """Learning rates whose runs end, but so far above all others that no valley has both, (J,)."""
        levels = np.where(self.share_diverged <= ENOUGH, self._parts[0], np.inf)
        ascending = np.sort(levels[np.isfinite(levels)])
        if len(ascending) <= FEWEST:
            return np.zeros(len(levels), dtype=bool)
        leaps, spans = np.diff(ascending)[FEWEST - 1 :], (ascending - ascending[0])[FEWEST - 1 : -1]
        leap = np.flatnonzero((leaps > LEAP * spans) & (leaps > RISE * abs(ascending[0])))
        limit = ascending[FEWEST - 1 + leap[0]] if len(leap) else np.inf
        return np.isfinite(levels) & (levels > limit)

    @property
    def n_diverged(self) -> int:
        """Runs that diverged, and those that broke."""
        return int(np.isinf(self.losses).sum() + np.isfinite(self.losses[self.broken]).sum())

    @cached_property
    def counts(self) -> Floats:
        """Runs at every learning rate that trained to their end, at least 1, (J,)."""
        return np.maximum(np.isfinite(self.losses).sum(axis=1), 1).astype(float)

    @cached_property
    def mean(self) -> Floats:
        """Mean over the seeds that trained, inf where more than half of them diverged or the rest broke.

        Where not every seed trained at every rate it is the rate's level in a sum of levels and seeds' offsets, by
        least squares: a mean over changing seeds would bend the curve.
        """
        return np.where(self.finite, self._parts[0], np.inf)

    @cached_property
    def best(self) -> int:
        """Index of the measured rate with the lowest mean."""
        return int(np.argmin(self.mean))

    @property
    def at_edge(self) -> bool:
        """Whether the best measured rate ends the grid."""
        return self.best in (0, len(self.x) - 1)

    @property
    def trains_beside(self) -> tuple[bool, bool]:
        """Whether there is a rate below, and above, the best measured one, and it trains."""
        padded = np.concatenate([[False], self.finite, [False]])
        return bool(padded[self.best]), bool(padded[self.best + 2])

    @property
    def resolved(self) -> bool:
        """Whether the best measured rate has neighbours to either side that train."""
        return all(self.trains_beside)

    @property
    def squares(self) -> Floats:
        """Sum of squares at every rate of what levels and offsets leave, (J,)."""
        return self._parts[1]

    @property
    def freedoms(self) -> Floats:
        """Degrees of freedom of `squares`, (J,); they need not be whole."""
        return self._parts[2]

    @cached_property
    def _parts(self) -> tuple[Floats, Floats, Floats]:
        """Levels, squares and degrees of freedom of loss = level(rate) + offset(seed) + rest, (J,) each."""
        trained = np.isfinite(self.losses)
        rate, seed = np.nonzero(trained)
        n_rates = len(self.losses)
        y = self.losses[trained]
        offsets = self._centring[seed]
        design = np.concatenate([np.eye(n_rates)[rate], offsets], axis=1)
        inverse = np.linalg.pinv(design)
        found = inverse @ y
        # Levels are those of the seeds that were run at every rate, if there are any: a seed that has come half way
        # must not move the curve.
        whole = ~np.isnan(self.losses).any(axis=0)
        centred = found[n_rates:] - found[n_rates:].mean()
        levels = found[:n_rates] + (centred[whole].mean() if whole.any() else 0.0)
        rest = y - design @ found
        left = 1 - np.einsum("ij,ji->i", design, inverse)
        squares, freedoms = (np.bincount(rate, of, n_rates) for of in (rest**2, left))
        real = freedoms > ROUNDING  # a run that its own level or offset fits says nothing
        return levels, np.where(real, squares, 0.0), np.where(real, freedoms, 0.0)

    @property
    def _centring(self) -> Floats:
        """What makes seeds' offsets sum to 0, (seeds, seeds).

        Where no chain of common rates joins two seeds, nothing compares their offsets: each group sums to 0 by itself.
        """
        together = np.isfinite(self.losses).astype(float)
        _, group = connected_components(together.T @ together, directed=False)
        same = (group[:, None] == group).astype(float)
        return np.eye(len(group)) - same / same.sum(axis=1, keepdims=True)

    @property
    def n_seeds(self) -> int:
        """Seeds that were run at some learning rate."""
        return self.losses.shape[1]

"""One loss curve over learning rates: mean over seeds, optimum, and resampled copies with fresh seed noise."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fits.parabola import minimum
from analysis.tables.arrays import Floats

WINDOW = 2  # learning rates to either side of the best one whose residuals count as seed noise


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
        """From the finished runs of one setting.

        Where some seeds cover every learning rate and others do not (an unfinished sweep), only the former count: a
        mean over changing seeds would bend the curve.
        """
        losses = rows["val_loss"].where(rows["status"] == "ok", np.inf)
        grid = rows.assign(loss=losses).pivot(index="lr", columns="seed", values="loss").sort_index()
        complete = ~grid.isna().any(axis=0)
        if complete.any():
            grid = grid.loc[:, complete]
        seeds = tuple(int(seed) for seed in grid.columns)
        return cls(at, np.log2(grid.index.to_numpy(dtype=float)), grid.to_numpy(dtype=float), seeds)

    @property
    def mean(self) -> Floats:
        """Mean over the seeds; inf where any diverged."""
        return np.nanmean(self.losses, axis=1)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Learning rates at which no seed diverged."""
        return np.isfinite(self.mean)

    @property
    def n_seeds(self) -> int:
        """Seeds that count."""
        return self.losses.shape[1]

    def optimum(self, losses: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """log₂ lr* of mean curves (..., J), and whether a parabola could resolve it.

        It cannot where the best point ends the grid or has a neighbour that diverged: then lr* is the grid point.
        """
        at, best = minimum(self.x, losses)
        walls = np.concatenate([[True], ~self.finite, [True]])  # beyond either end is unknown
        return at, ~(walls[best] | walls[best + 2])

    def residuals(self) -> Floats:
        """Seed noise around the optimum, scaled to be unbiased in variance.

        A seed's own offset in this setting is taken out with the mean over seeds: one that is better everywhere moves
        no optimum.
        """
        best = int(np.argmin(self.mean))
        near = self.losses[max(0, best - WINDOW) : best + WINDOW + 1]
        near = near[np.isfinite(near).all(axis=1)]
        rates, seeds = near.shape
        if rates < 2 or seeds < 2:
            return np.empty(0)
        left = near - near.mean(axis=1, keepdims=True) - near.mean(axis=0, keepdims=True) + near.mean()
        return left.ravel() * np.sqrt(rates * seeds / ((rates - 1) * (seeds - 1)))

    def resample(self, noise: Floats, count: int, rng: np.random.Generator) -> Floats:
        """`count` mean curves (count, J), every seed's loss with a draw from `noise`."""
        present = ~np.isnan(self.losses)
        draws = rng.choice(noise, size=(count, *self.losses.shape)) * present
        return self.mean + draws.sum(axis=2) / present.sum(axis=1)

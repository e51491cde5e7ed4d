"""The cells of all budgets with their curves and profiles, measured or resampled, and the surface read off them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from analysis.fits.cells import Budget
from analysis.fits.interpolation import curve_at
from analysis.fits.profile import Form, Profile, best_batch, drawn_profile, lr_along, profile
from analysis.fits.reading import Reading
from analysis.fits.valley import value_at
from analysis.laws.rules import Point, PowerLaw
from analysis.tables.arrays import Bools, Floats


@dataclass(frozen=True)
class Table:
    """Budgets with their curves as read, and profiles of these or of R drawn ones; a table as read has R = 1."""

    budgets: Sequence[Budget]
    readings: Sequence[Sequence[Reading]]
    profiles: Sequence[Profile]
    drawn: bool = False

    @classmethod
    def of(cls, budgets: Sequence[Budget], readings: Sequence[Sequence[Reading]], form: Form = "valley") -> Self:
        """As read; `readings` in the order of budgets and their cells."""
        return cls(budgets, readings, [profile(b, r, form) for b, r in zip(budgets, readings, strict=True)])

    def draws(self, form: Form = "valley") -> Self | None:
        """The same table of drawn curves; None without noise."""
        found = [drawn_profile(b, r, form) for b, r in zip(self.budgets, self.readings, strict=True)]
        known = [each for each in found if each is not None]
        return replace(self, profiles=known, drawn=True) if len(known) == len(found) else None

    @property
    def tokens(self) -> Floats:
        """The budgets T, (n,)."""
        return np.array([budget.tokens for budget in self.budgets])

    def best(self, index: int) -> tuple[Floats, Floats]:
        """log₂ BS* and log₂ γ* at a budget, (R,) each."""
        batch, _ = best_batch(self.profiles[index])
        return batch, lr_along(self.profiles[index], batch)[0]

    def inside(self, index: int) -> bool:
        """Whether the measured best batch of a budget lies inside its grid."""
        return bool(best_batch(self.profiles[index])[1][0])

    def point(self, index: int) -> Point:
        """A budget's optimum as a base point, fields (R,)."""
        batch, lr = self.best(index)
        seq_len = self.budgets[index].cells[0].seq_len
        return Point(self.budgets[index].tokens, 2**batch / seq_len, seq_len, 2**lr)

    def power_law(self, indices: Sequence[int]) -> PowerLaw:
        """The free power law through the optima of some budgets."""
        found = [self.best(i) for i in indices]
        batch, lr = (2 ** np.stack(part, axis=-1) for part in zip(*found, strict=True))
        return PowerLaw.fit(np.array([self.budgets[i].tokens for i in indices]), batch, lr)

    def loss(self, index: int, batch: Floats, lr: Floats) -> tuple[Floats, Bools]:
        """L(BS, γ) of the budget at log₂ BS and log₂ γ, (R,) each; and whether they lie outside what was measured."""
        budget, of = self.budgets[index], self.profiles[index]
        at = np.clip(batch, of.x[0], of.x[-1])
        outside = at != batch
        offset = lr - lr_along(of, at)[0]
        left = np.clip(np.searchsorted(of.x, at, side="right") - 1, 0, max(0, len(of.x) - 2))
        value, rows = curve_at(of.x, of.loss, at), np.arange(len(at))
        for index_left in np.unique(left):
            mine = rows[left == index_left]
            right = min(index_left + 1, len(of.x) - 1)
            gap = of.x[right] - of.x[index_left]
            share = (at[mine] - of.x[index_left]) / gap if gap else np.zeros(len(mine))
            for cell, weights in ((index_left, 1 - share), (right, share)):
                curve, using, weight = budget.cells[cell].curve, mine[weights > 0], weights[weights > 0]
                reading = self.readings[index][cell]
                wanted = of.lr[using, cell] + offset[using]
                rate = np.clip(wanted, curve.x[0], curve.x[-1])
                outside[using] |= rate != wanted
                draws = reading.valley.draws if self.drawn else reading.valley.mean[None]
                assert draws is not None, "a drawn table has draws of every curve"
                found = np.where(reading.walled(rate), np.inf, value_at(reading.valley.nodes, draws[using], rate))
                value[using] += weight * (found - of.loss[using, cell])
        return value, outside

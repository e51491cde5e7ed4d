"""Which momentum α is best at a cell, and whether that moves with the cell.

At cells that were trained with several momenta, each has its own profile over learning rates; the best α is the vertex
of the parabola in log₂ α, or the measured one where it ends the grid. Momenta that cannot be told apart are ties. The
best one moves if no momentum is among the ties of all n cells, found with an n-th of the error in each: otherwise some
cell would lose it by chance. Over two budgets or more the best ones, with the best rates there, have slopes that tell
two theories apart (`analysis.laws.momentum_slopes`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.fits.cells import Budget, Cell
from analysis.fits.intervals import CONFIDENCE, RESAMPLES, Estimate
from analysis.fits.lr_curve import LrCurve
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.fits.parabola import minimum
from analysis.fits.profile import Profile, drawn_profile, lr_along, profile, read_budgets, ties
from analysis.fits.reading import Reading
from analysis.fits.seeds import more_seeds
from analysis.laws.momentum_slopes import MomentumSlopes, Tuned, fit_momentum_slopes
from analysis.tables.arrays import Floats


@dataclass(frozen=True)
class MomentumOptimum:
    """The momenta tried at one cell, their profiled losses in nats, and which cannot be told apart from the best.

    `lr` is the best learning rate at the best momentum, straight between those of the momenta around it.
    """

    tokens: float
    batch_tokens: float
    momenta: tuple[float, ...]
    losses: tuple[float, ...]
    tied: tuple[bool, ...] | None
    best: Estimate
    at_edge: bool
    lr: Estimate
    lr_resolved: bool


@dataclass(frozen=True)
class Momenta:
    """All cells with several momenta, and what they say together: stays put, moves, or cannot tell.

    `slopes` is what they say of theory.
    """

    optima: tuple[MomentumOptimum, ...]
    verdict: Outcome
    slopes: MomentumSlopes
    lacks: Lacks = SETTLED


def fit_momenta(rows: pd.DataFrame, rng: np.random.Generator) -> Momenta | None:
    """From one optimizer's finished runs (`cells.table_of_cells`); None if no cell was tried with several momenta."""
    found = []
    for _, table in rows.groupby(["budget", "batch_size", "seq_len"], sort=True):
        cells = [_cell(group) for _, group in table.groupby("momentum", sort=True)]
        cells = [cell for cell in cells if cell.curve.finite.any() and len(cell.curve.x) > 1]
        if len(cells) > 1:
            found.append(Budget(cells[0].tokens, tuple(cells)))
    if not found:
        return None
    _, readings = read_budgets(found, RESAMPLES, rng)
    level = 1 - (1 - CONFIDENCE) / len(found)
    optima = [_optimum(cell, of_cell, level) for cell, of_cell in zip(found, readings, strict=True)]
    return _together(optima, found)


def _cell(rows: pd.DataFrame) -> Cell:
    first = rows.iloc[0]
    tokens, batch, seq = float(first["budget"]), float(first["batch_size"]), float(first["seq_len"])
    return Cell(tokens, batch, seq, LrCurve.of(rows, float(first["momentum"])))


@dataclass(frozen=True)
class _Found:
    """A cell's optimum, the momenta tied with it at a higher confidence, and the optimum in every resample."""

    optimum: MomentumOptimum
    wider: set[float]
    observed: Tuned
    drawn: Tuned | None


def _optimum(cell: Budget, readings: Sequence[Reading], level: float) -> _Found:
    """`level` is the confidence of the wider ties."""
    momenta = [each.curve.at for each in cell.cells]

    x = np.log2(momenta)
    observed, drawn = profile(cell, readings), drawn_profile(cell, readings)
    best = _tuned(x, observed)
    sample = None if drawn is None else _tuned(x, drawn)
    tied, wider = ties(observed, drawn), ties(observed, drawn, level)
    optimum = MomentumOptimum(
        tokens=cell.tokens,
        batch_tokens=cell.cells[0].batch_tokens,
        momenta=tuple(momenta),
        losses=tuple(map(float, observed.loss[0])),
        tied=None if tied is None else tuple(tied),
        best=Estimate.of(2 ** best.momentum[0, 0], None if sample is None else 2 ** sample.momentum[:, 0]),
        at_edge=not best.momentum_ok[0, 0],
        lr=Estimate.of(2 ** best.lr[0, 0], None if sample is None else 2 ** sample.lr[:, 0]),
        lr_resolved=bool(best.lr_ok[0, 0]),
    )
    tied_wider = {m for m, tie in zip(momenta, wider or [True] * len(momenta), strict=True) if tie}
    return _Found(optimum, tied_wider, best, sample)


def _tuned(x: Floats, of: Profile) -> Tuned:
    """The best momentum of a cell and the best rate there, (R, 1), of its profile over log₂ momenta x."""
    at, index = minimum(x, of.loss)
    lr, lr_ok = lr_along(replace(of, x=x), at)
    inside = (index > 0) & (index < len(x) - 1)
    return Tuned(at[:, None], lr[:, None], inside[:, None], lr_ok[:, None])


def _together(found: list[_Found], cells: list[Budget]) -> Momenta:
    optima, seeds = tuple(each.optimum for each in found), max(cell.n_seeds for cell in cells)
    verdict, lacks = _verdict(found), SETTLED
    if verdict.open:
        lacks = Lacks.of([Missing.PLACES]) if len(optima) < 2 else more_seeds(seeds)
    tokens, batches = np.array([[o.tokens, o.batch_tokens] for o in optima]).T
    drawn = [each.drawn for each in found if each.drawn is not None]
    sample = _joined(drawn) if len(drawn) == len(found) else None
    slopes = fit_momentum_slopes(tokens, batches, _joined([each.observed for each in found]), sample, seeds)
    return Momenta(optima, verdict, slopes, lacks)


def _joined(tuned: Sequence[Tuned]) -> Tuned:
    """Optima of several cells side by side."""
    return Tuned(
        momentum=np.concatenate([each.momentum for each in tuned], axis=1),
        lr=np.concatenate([each.lr for each in tuned], axis=1),
        momentum_ok=np.concatenate([each.momentum_ok for each in tuned], axis=1),
        lr_ok=np.concatenate([each.lr_ok for each in tuned], axis=1),
    )


def _verdict(found: list[_Found]) -> Outcome:
    """Put if one and the same momentum alone is best everywhere; it moves if none is among the best everywhere."""
    if len(found) < 2:
        return Outcome.CANNOT_TELL
    if not set.intersection(*(each.wider for each in found)):
        return Outcome.MOVES
    optima = [each.optimum for each in found]
    alone = {tuple(m for m, tie in zip(o.momenta, o.tied or (), strict=False) if tie) for o in optima}
    put = len(alone) == 1 and all(len(ties) == 1 for ties in alone)
    return Outcome.STAYS_PUT if put else Outcome.CANNOT_TELL

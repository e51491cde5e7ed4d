"""Which momentum α is best at a cell, and whether that moves with the cell.

At cells that were trained with several momenta, each has its own profile over learning rates; the best α is the vertex
of the parabola in log₂ α, or the measured one where it ends the grid. Momenta that cannot be told apart are ties. The
best one moves if no momentum is among the ties of all n cells, found with an n-th of the error in each: otherwise some
cell would lose it by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fits.cells import Budget, Cell
from analysis.fits.intervals import CONFIDENCE, RESAMPLES, Estimate
from analysis.fits.lr_curve import LrCurve
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.fits.parabola import minimum
from analysis.fits.profile import drawn_profile, profile, read_budgets, ties
from analysis.fits.reading import Reading
from analysis.fits.seeds import more_seeds


@dataclass(frozen=True)
class MomentumOptimum:
    """The momenta tried at one cell, their profiled losses in nats, and which cannot be told apart from the best."""

    tokens: float
    batch_tokens: float
    momenta: tuple[float, ...]
    losses: tuple[float, ...]
    tied: tuple[bool, ...] | None
    best: Estimate
    at_edge: bool


@dataclass(frozen=True)
class Momenta:
    """All cells with several momenta, and what they say together: stays put, moves, or cannot tell."""

    optima: tuple[MomentumOptimum, ...]
    verdict: Outcome
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


def _optimum(cell: Budget, readings: Sequence[Reading], level: float) -> tuple[MomentumOptimum, set[float]]:
    """The optimum, and the momenta that cannot be told apart from it at a higher confidence `level`."""
    momenta = [each.curve.at for each in cell.cells]

    x = np.log2(momenta)
    observed, drawn = profile(cell, readings), drawn_profile(cell, readings)
    at, best = minimum(x, observed.loss)
    tied, wider = ties(observed, drawn), ties(observed, drawn, level)
    optimum = MomentumOptimum(
        tokens=cell.tokens,
        batch_tokens=cell.cells[0].batch_tokens,
        momenta=tuple(momenta),
        losses=tuple(map(float, observed.loss[0])),
        tied=None if tied is None else tuple(tied),
        best=Estimate.of(2 ** at[0], None if drawn is None else 2 ** minimum(x, drawn.loss)[0]),
        at_edge=bool(best[0] in (0, len(momenta) - 1)),
    )
    return optimum, {m for m, tie in zip(momenta, wider or [True] * len(momenta), strict=True) if tie}


def _together(optima: list[tuple[MomentumOptimum, set[float]]], cells: list[Budget]) -> Momenta:
    verdict, lacks = _verdict(optima), SETTLED
    if verdict.open:
        seeds = max(cell.n_seeds for cell in cells)
        lacks = Lacks.of([Missing.PLACES]) if len(optima) < 2 else more_seeds(seeds)
    return Momenta(tuple(o for o, _ in optima), verdict, lacks)


def _verdict(optima: list[tuple[MomentumOptimum, set[float]]]) -> Outcome:
    """Put if one and the same momentum alone is best everywhere; it moves if none is among the best everywhere."""
    if len(optima) < 2:
        return Outcome.CANNOT_TELL
    if not set.intersection(*(wider for _, wider in optima)):
        return Outcome.MOVES
    alone = {tuple(m for m, tie in zip(o.momenta, o.tied or (), strict=False) if tie) for o, _ in optima}
    put = len(alone) == 1 and all(len(ties) == 1 for ties in alone)
    return Outcome.STAYS_PUT if put else Outcome.CANNOT_TELL

"""What keeps an optimum from being known: where its curve, or its budget's profile, ends or stops to train."""

import numpy as np

from analysis.fits.intervals import TAIL
from analysis.fits.lr_curve import LrCurve
from analysis.fits.outcomes import Missing
from analysis.fits.profile import Profile


def missing_rates(curve: LrCurve) -> tuple[Missing, ...]:
    """What is missing around the best measured rate of a curve; nothing where both its neighbours train.

    Where no rate trains it is rates beyond the grid: below all of them.
    """
    if not curve.finite.any() or curve.at_edge:
        return (Missing.RATES_BEYOND,)
    return () if curve.resolved else (Missing.RATES_CLOSER,)


def ends(curve: LrCurve, below: bool, above: bool) -> tuple[Missing, ...]:
    """What is missing where the optimum may lie below or above the rates that train."""
    trains = np.flatnonzero(curve.finite)
    open_ends = [*([trains[0] == 0] if below else []), *([trains[-1] == len(curve.x) - 1] if above else [])]
    return tuple(Missing.RATES_BEYOND if at_end else Missing.RATES_CLOSER for at_end in open_ends)


def missing_around(of: Profile) -> tuple[Missing, ...]:
    """What is missing around the lowest cell of a profile, measured or resampled: batch sizes, or rates of the cells.

    Of resamples only what is missing in more than 2.5% of them counts, if there is any such. With one batch size there
    is no best one to look for.
    """
    lowest, last = of.lowest, len(of.x) - 1
    around = np.clip(lowest[:, None] + np.array([-1, 0, 1]), 0, last)
    unresolved = np.take_along_axis(~of.resolved, around, axis=1)
    at_edge = unresolved if of.at_edge is None else np.take_along_axis(of.at_edge, around, axis=1)
    shares = {
        Missing.BATCHES: np.mean((lowest == 0) | (lowest == last)) if last > 0 else 0.0,
        Missing.RATES_BEYOND: np.mean(at_edge.any(axis=1)),
        Missing.RATES_CLOSER: np.mean((unresolved & ~at_edge).any(axis=1)),
    }
    often = tuple(kind for kind, share in shares.items() if share > TAIL)
    return often or tuple(kind for kind, share in shares.items() if share > 0)

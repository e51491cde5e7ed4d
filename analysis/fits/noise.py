"""The noise of seeds in the curves of a series, cell by cell: how well `analysis.fits.valley` knows the losses.

A cell is one learning rate of one curve. Losses of a curve are taken apart into a level of every rate, an offset of
every seed, which moves the whole curve and none of its optimum, and a rest. The rests' squares are the noise,

    within a curve      each rate pooled with its neighbours, and drawn towards what is common to the curve
    across the curves   each curve's overall size drawn towards that of the others

both by Smyth's moderated variances (`analysis.fits.moderation`): the more so the less they differ. So a wide network
may be quieter than a narrow one, and a rate beside the wall noisier than the best one, as far as the seeds show it. Two
seeds are enough to say something; with one there is no measure of noise.
"""

from collections.abc import Sequence

import numpy as np

from analysis.fits.lr_curve import LrCurve
from analysis.fits.moderation import moderated
from analysis.fits.valley import Points
from analysis.tables.arrays import Floats

NEIGHBOURS = 2  # rates to either side


def points_of(curves: Sequence[LrCurve]) -> list[Points]:
    """The measured points of curves that trained, with variances; None where no curve has two seeds to compare."""
    squares, freedoms = [curve.squares for curve in curves], [curve.freedoms for curve in curves]
    sizes = [_within(s, f) for s, f in zip(squares, freedoms, strict=True)]
    totals = np.array([np.sum(s / size) for s, size in zip(squares, sizes, strict=True)])
    known = np.array([np.sum(f) for f in freedoms])
    variances, freedom = moderated(totals, known)
    if not known.any():
        return [Points(curve.x[curve.finite], curve.mean[curve.finite], None) for curve in curves]
    return [
        Points(
            curve.x[curve.finite],
            curve.mean[curve.finite],
            (variance * size / curve.counts)[curve.finite],
            float(of_curve),
        )
        for curve, variance, size, of_curve in zip(curves, variances, sizes, freedom, strict=True)
    ]


def _within(squares: Floats, freedoms: Floats) -> Floats:
    """How the variances of a curve's rates go relative to each other, (J,), 1 in the mean by degrees of freedom.

    One or two degrees of freedom a rate say next to nothing of it: each is pooled with its neighbours first.
    """
    near = np.abs(np.subtract.outer(np.arange(len(squares)), np.arange(len(squares)))) <= NEIGHBOURS
    squares, freedoms = near @ squares, near @ freedoms
    variances, _ = moderated(squares, freedoms)
    mean = float(np.average(variances, weights=freedoms)) if freedoms.any() else 0.0
    return variances / mean if mean > 0 else np.ones_like(squares)

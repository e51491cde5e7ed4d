"""How far a regret can be trusted: the scatter of its paired differences over searches and over fresh seeds.

A cell's differences, zero-shot minus direct, one for each of K searches and n fresh seeds, are taken as

    difference = regret + luck of the search + what the seed does in all searches + what is left

The spread of the K means of the searches holds the luck and what is left. It does not hold what a seed does in all of
them, since all have the same fresh seeds: where the proxy's values lie on the same side of the target's in every
search, a seed moves all differences alike. At width 64 a too large rate of AdamW gave that part 0.009 nats, and what is
left 0.002; for Scion near its best rate it was 0 and 0.017. So

    standard error² = a/K + max(b/n − e/(Kn), 0)

with a the variance of the means of the searches, b that of the means of the seeds, and e that of what is left. Its
degrees of freedom are Satterthwaite's. With one search there is no a and no e: it is b/n, and holds no luck of it.

Every variance is drawn towards that of the method's other targets (`analysis.fits.moderation`; Smyth 2004, doi
10.2202/1544-6115.1027), as long as these have as many searches. Methods lend each other none, as they differ in noise
tenfold. What is exactly 0 is no measured variance but that of the same trials, and lends none either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.moderation import moderated
from analysis.tables.arrays import Floats


@dataclass(frozen=True)
class Noise:
    """What a cell's regret scatters by, nats.

    `error` is its standard error, known with so many `degrees` of freedom; None if unknown. `searches` is the standard
    deviation of a search's mean difference, None with one search, or where all found the same values at every target;
    `seeds` is that of a fresh seed's.
    """

    error: float | None = None
    degrees: float = 0.0
    searches: float | None = None
    seeds: float | None = None


@dataclass(frozen=True)
class _Variances:
    """Variances (3,) of the searches, of the seeds and of what is left, and their degrees of freedom (3,)."""

    values: Floats
    degrees: Floats


def noises(differences: Sequence[Floats], methods: Sequence[str]) -> list[Noise]:
    """The noise of every cell's regret.

    `differences` are the cells' (searches, seeds), nats, and `methods` the cells' methods.
    """
    groups = [(method, len(own)) for method, own in zip(methods, differences, strict=True)]
    found = [Noise()] * len(differences)
    for group in dict.fromkeys(groups):
        mine = [i for i, other in enumerate(groups) if other == group]
        for i, own in zip(mine, _drawn_together([differences[i] for i in mine]), strict=True):
            found[i] = _noise(own, *differences[i].shape)
    return found


def regret(differences: Floats, noise: Noise) -> Estimate | None:
    """The mean of a cell's differences (searches, seeds) with its interval; None if a run diverged.

    Exactly 0 where both ways are the same trials in every search.
    """
    if not np.isfinite(differences).all():
        return None
    if not differences.any():
        return Estimate(0.0, 0.0, 0.0)
    mean = float(differences.mean())
    if noise.error is None:
        return Estimate(mean)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, noise.degrees)) * noise.error
    return Estimate(mean, mean - half, mean + half)


def _drawn_together(differences: Sequence[Floats]) -> list[_Variances]:
    """Of cells of one method with the same number of searches."""
    own = [_measured(each) for each in differences]
    degrees = np.array([each.degrees for each in own])
    squares = np.array([each.values for each in own]) * degrees
    together = [moderated(squares[:, part], degrees[:, part]) for part in range(3)]
    values, freedoms = (np.array([both[i] for both in together]).T for i in (0, 1))
    return [_Variances(*each) for each in zip(values, freedoms, strict=True)]


def _measured(differences: Floats) -> _Variances:
    """Of one cell by itself; 0 degrees of freedom where it says nothing."""
    searches, seeds = differences.shape
    if not np.isfinite(differences).all():
        return _Variances(np.zeros(3), np.zeros(3))
    of_search, of_seed = differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - of_search[:, None] - of_seed + differences.mean()
    one, other = (searches - 1 if np.ptp(of_search) else 0), (seeds - 1 if np.ptp(of_seed) else 0)
    degrees = np.array([one, other, one * other], float)
    squares = [float((part**2).sum()) for part in (of_search - of_search.mean(), of_seed - of_seed.mean(), rest)]
    return _Variances(np.array(squares) * (degrees > 0) / np.maximum(degrees, 1), degrees)


def _noise(own: _Variances, searches: int, seeds: int) -> Noise:
    """Without degrees of freedom for the seeds there is none."""
    luck, common, rest = own.values / (searches, seeds, searches * seeds)
    if not own.degrees[1]:
        return Noise()
    shared = max(common - rest, 0.0)
    terms = np.array([luck, common, rest]) if shared else np.array([luck, 0.0, 0.0])
    spread = float((terms**2 / np.maximum(own.degrees, 1)).sum())
    variance = luck + shared
    return Noise(
        error=float(np.sqrt(variance)),
        degrees=max(1.0, float(variance**2 / spread)),  # a difference of variances may leave less than any of them has
        searches=float(np.sqrt(own.values[0])) if own.degrees[0] else None,
        seeds=float(np.sqrt(own.values[1])),
    )

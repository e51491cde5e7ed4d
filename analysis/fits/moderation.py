"""Variances of groups of which each is known by a few degrees of freedom only: drawn towards what all have in common.

Source: Smyth 2004, doi 10.2202/1544-6115.1027. Runs of one rate, curve, arm or cell may be noisier than others; how
much each borrows from the others follows from how unequal they are.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from analysis.tables.arrays import Floats

SMALLEST = 1e-5  # of the median variance: one of 0 is luck


@dataclass(frozen=True)
class Pool:
    """Standard deviation of one seed's draw, in the unit of what is drawn, and the degrees of freedom it is known with.

    Both are 0 where it is not known. Pools of one `source` are known by the same runs, and off by one factor.
    """

    sd: float = 0.0
    freedom: float = 0.0
    source: int = 0

    def factors(self, count: int, rng: np.random.Generator) -> Floats:
        """What the standard deviation may be times its value, (count,): the root of df/χ²_df."""
        if self.freedom <= 0:
            return np.zeros(count)
        return np.sqrt(self.freedom / rng.chisquare(self.freedom, count))


def log_variances(squares: Floats, freedoms: Floats) -> tuple[Floats, Floats]:
    """Logarithms of groups' variances (groups,), right in the mean, and their weights (groups,) in a regression.

    `squares` and `freedoms` (groups,) are above 0. A group's own scatter is ψ'(d/2); groups are taken to differ by a
    variance of 1 besides.
    """
    logs = np.log(squares / freedoms) - digamma(freedoms / 2) + np.log(freedoms / 2)
    return np.asarray(logs), np.asarray(1 / (polygamma(1, freedoms / 2) + 1))


def moderated(squares: Floats, freedoms: Floats) -> tuple[Floats, Floats]:
    """Variances (groups,) and degrees of freedom (groups,) that Student's t of a group has with its variance.

    `squares` (groups,) are sums of squares about the groups' means, and `freedoms` (groups,) their degrees of freedom,
    0 where a group says nothing of itself. Smyth's moderated variances: groups are taken to have variances from a
    scaled inverse χ² distribution, whose scale s₀² and degrees of freedom d₀ are fitted to the logarithms of the
    groups' own; then (d₀ s₀² + d s²)/(d₀ + d).
    """
    known = freedoms > 0
    if not known.any():
        return np.zeros(len(squares)), np.zeros(len(squares))
    d, total = freedoms[known], float(freedoms.sum())
    pooled, own = squares.sum() / total, squares[known] / d
    everyone = np.full(len(squares), pooled), np.full(len(squares), total)
    if pooled == 0 or len(d) < 2:
        return everyone
    own = np.maximum(own, SMALLEST * (np.median(own) or pooled))
    logs, _ = log_variances(own * d, d)
    spread = float(np.var(logs, ddof=1) - np.mean(polygamma(1, d / 2)))
    if spread <= polygamma(1, total):  # nothing that sampling alone would not give: the groups are one
        return everyone
    d0 = 2 * float(brentq(lambda half: polygamma(1, half) - spread, 1e-6, total))
    prior = np.exp(np.mean(logs) + digamma(d0 / 2) - np.log(d0 / 2))
    variances = np.full(len(squares), prior)
    variances[known] = (d0 * prior + squares[known]) / (d0 + d)
    return variances, np.minimum(d0 + freedoms, total)

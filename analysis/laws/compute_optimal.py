"""Which size of network, for how many tokens, is best for a number of floating-point operations.

    C = 6 N T                    forward and backward operations, Kaplan et al., arXiv 2001.08361, section 2.1
    N*(C) = G (C/6)^a,  T*(C) = (C/6)^(1−a)/G,   a = β/(α+β),  G = (αA/βB)^(1/(α+β))

minimize L(N, T) = E + A N^-α + B T^-β at a fixed C (Hoffmann et al., arXiv 2203.15556, equation 4).
"""

from dataclasses import dataclass

import numpy as np

from analysis.fits.intervals import Estimate
from analysis.laws.points import OPERATIONS
from analysis.laws.scaling_laws import CHINCHILLA, ScalingLaw
from analysis.tables.arrays import Floats
from scionlab.errors import UserError


@dataclass(frozen=True)
class Allocation:
    """The best network for `flops` operations: parameters N, tokens T, and the loss there in nats per token."""

    flops: float
    n_params: Estimate
    tokens: Estimate
    loss: Estimate


def allocate(law: ScalingLaw, flops: float) -> Allocation:
    """The best allocation by a law L(N, T) with both terms, with percentiles of its resamples.

    UserError for another law, for one without both terms, and for operations that are not positive and finite.
    """
    if law.form != CHINCHILLA or len(law.terms) < len(CHINCHILLA.terms):
        raise UserError(f"scaling law {law.form.name!r}: has no term of N and T each, so it allocates nothing")
    if not (np.isfinite(flops) and flops > 0):
        raise UserError(f"flops: {flops!r} is not allowed; it must be positive and finite")
    value = _best(np.array([[law.parameters[name].value for name in ("E", "A", "B", "a", "b")]]), flops)
    drawn = None if law.resampled is None else _best(law.resampled, flops)
    of = (Estimate.of(value[i, 0], None if drawn is None else drawn[i]) for i in range(3))
    return Allocation(flops, *of)


def _best(parameters: Floats, flops: float) -> Floats:
    """N, T and the loss, (3, R), by laws (R, 5): E, A, B, α, β."""
    floor, of_size, of_tokens, alpha, beta = parameters.T
    product = flops / OPERATIONS
    factor = (alpha * of_size / (beta * of_tokens)) ** (1 / (alpha + beta))
    n_params = factor * product ** (beta / (alpha + beta))
    tokens = product / n_params
    return np.stack([n_params, tokens, floor + of_size * n_params**-alpha + of_tokens * tokens**-beta])

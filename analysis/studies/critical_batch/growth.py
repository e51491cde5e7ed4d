"""How critical batch sizes grow: power laws of the number of parameters, and of the tokens to the target.

Where every size has one target, as in published tables, N and T go together, and each law is of one alone. Where sizes
have several targets, N and T are told apart, if the points allow it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fits.intervals import Estimate
from analysis.fits.log_line import LogLine, log_line
from analysis.fits.outcomes import Outcome
from analysis.laws.scaling_laws import COLLINEAR
from analysis.studies.critical_batch.target import CRITICAL, EXCEEDS, Target
from analysis.tables.arrays import Floats

REFERENCE = {"N": 1e6, "T": 1e9}  # parameters and tokens at which a law's value is given


@dataclass(frozen=True)
class Growth:
    """A definition's batch size as a power of one quantity: the `exponent` of `over`, N or T, and the batch size in
    tokens at its reference (a million parameters, a billion tokens).

    `beside`: the other quantity, which the law holds fixed; empty where there is none. `points` went into it.
    """

    definition: str
    over: str
    beside: str
    exponent: Estimate
    at_reference: Estimate
    points: int

    def at(self, value: Floats) -> Floats:
        """The batch size in tokens at values of `over`, of a law without another quantity beside it."""
        return np.asarray(self.at_reference.value * (value / REFERENCE[self.over]) ** self.exponent.value)


def growths(targets: Sequence[Target]) -> list[Growth]:
    """The laws of one method's or source's targets that are found, for both definitions."""
    return [law for definition in (CRITICAL, EXCEEDS) for law in _of(targets, definition)]


def _of(targets: Sequence[Target], definition: str) -> list[Growth]:
    known = [target for target in targets if target.verdict == Outcome.FOUND and target.batch(definition) is not None]
    sizes = list(dict.fromkeys(target.n_params for target in known))
    lowest = [min((t for t in known if t.n_params == size), key=lambda t: t.at.fit.target) for size in sizes]
    several = len(known) > len(sizes)
    found = [_law(lowest, definition, ["N"])] if len(sizes) > 1 else []
    if len(sizes) > 1 and not several:
        found.append(_law(known, definition, ["T"]))
    elif len(sizes) > 1 and _apart(known):
        found.append(_law(known, definition, ["N", "T"], independent=False))
    elif len(sizes) == 1 and several:
        found.append(_law(known, definition, ["T"], independent=False))
    return [growth for growths in found for growth in growths]


def _apart(targets: Sequence[Target]) -> bool:
    """Whether N and T do not grow together."""
    logs = np.log([(target.quantity("N"), target.quantity("T")) for target in targets])
    return len(targets) > 2 and abs(float(np.corrcoef(logs.T)[0, 1])) <= COLLINEAR


def _law(targets: Sequence[Target], definition: str, over: Sequence[str], independent: bool = True) -> list[Growth]:
    x = [np.array([target.quantity(name) for target in targets]) for name in over]
    y = np.array([target.value(definition) for target in targets])
    draws = [target.drawn(definition) for target in targets]
    known = [each for each in draws if each is not None]
    count = min((len(each) for each in known), default=0)
    drawn = np.stack([each[:count] for each in known], axis=1) if known and len(known) == len(targets) else None
    line = log_line(x, y, drawn, [REFERENCE[name] for name in over], independent)
    return [] if line is None else [_growth(line, i, definition, over) for i in range(len(over))]


def _growth(line: LogLine, i: int, definition: str, over: Sequence[str]) -> Growth:
    beside = "".join(name for name in over if name != over[i])
    return Growth(definition, over[i], beside, line.exponents[i], line.at_reference, line.n_points)

"""What the exponents of a method's norm allow to say, and what is missing where that is nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.fits.intervals import Estimate
from analysis.fits.outcomes import Lacks, Missing, Outcome, all_of
from analysis.fits.seeds import more_seeds

if TYPE_CHECKING:
    from analysis.studies.norm_transfer.fit import NormOptimum

TOLERANCE = 0.25  # half of the smallest exponent that theory has for a norm that is not transferred
FEWEST = 3  # resolved optima that a verdict needs


def verdict(exponents: Sequence[Estimate | None], optima: Sequence["NormOptimum"]) -> Outcome:
    """What the intervals of the exponents in width and budget allow to say; an axis with one place needs none."""
    used = [optimum for optimum in optima if optimum.resolved]
    known = [exponent for exponent in exponents if exponent is not None]
    judged = [judge(exponent) for exponent in known]
    if len(used) < FEWEST:
        return Outcome.CANNOT_TELL
    if Outcome.DID_NOT_HOLD in judged:
        return Outcome.DID_NOT_HOLD
    inside = len(known) == _asked(optima) > 0 and all(one == Outcome.HELD for one in judged)
    return Outcome.HELD if inside and not any(optimum.cut_off for optimum in used) else Outcome.CANNOT_TELL


def judge(exponent: Estimate) -> Outcome:
    """What the interval of one exponent allows to say."""
    if exponent.low is None or exponent.high is None:
        return Outcome.CANNOT_TELL
    if exponent.low > TOLERANCE or exponent.high < -TOLERANCE:
        return Outcome.DID_NOT_HOLD
    return Outcome.HELD if max(-exponent.low, exponent.high) <= TOLERANCE else Outcome.CANNOT_TELL


def _asked(optima: Sequence["NormOptimum"]) -> int:
    """Along how many axes there are several places."""
    return sum(len(places) > 1 for places in ({o.width for o in optima}, {o.tokens for o in optima}))


def lacks_of(exponents: Sequence[Estimate | None], optima: Sequence["NormOptimum"], misfit: float | None) -> Lacks:
    """What a method lacks of which one cannot tell.

    Optima that miss the plane widen the intervals by as much as more seeds would narrow them.
    """
    used, known = [o for o in optima if o.resolved], [e for e in exponents if e is not None]
    lacks = [o.lacks for o in used if o.cut_off]
    if len(used) < FEWEST or len(known) < _asked(optima):
        unresolved = [o.lacks for o in optima if not o.resolved]
        lacks += unresolved if len(optima) >= FEWEST and unresolved else [*unresolved, Lacks.of([Missing.PLACES])]
    for exponent in known if len(used) >= FEWEST else ():
        if misfit is not None and misfit > 1 and judge(exponent).open:
            lacks.append(Lacks.of([Missing.PLACES]))
        elif judge(exponent).open:
            lacks.append(more_seeds(max(o.n_seeds for o in used), exponent, judge))
    return all_of(lacks)

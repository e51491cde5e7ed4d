"""One size's tokens to one target, and its critical batch size by each definition."""

from dataclasses import dataclass

from analysis.fits.intervals import Estimate
from analysis.fits.outcomes import SETTLED, Lacks, Outcome
from analysis.laws.critical_batch import AtTarget
from analysis.laws.linear_regime import Exceeds
from analysis.tables.arrays import Floats

CRITICAL, EXCEEDS = "B_crit", "B_excess"


@dataclass(frozen=True)
class Target:
    """A size, None where runs do not say it, its fit at a target loss and where tokens exceed the linear regime."""

    n_params: float | None
    at: AtTarget
    exceeds: Exceeds
    verdict: Outcome
    lacks: Lacks = SETTLED

    def batch(self, definition: str) -> Estimate | None:
        """The critical batch size in tokens by a definition; None where there is none."""
        return self.at.fit.batch_crit if definition == CRITICAL else self.exceeds.law

    def value(self, definition: str) -> float:
        """Its value, which there is."""
        batch = self.batch(definition)
        assert batch is not None, "only batch sizes that are known make a law"
        return batch.value

    def drawn(self, definition: str) -> Floats | None:
        """Its draws (R,)."""
        if definition == CRITICAL:
            return None if self.at.drawn is None else self.at.drawn[0]
        return self.exceeds.drawn

    def quantity(self, name: str) -> float:
        """N, 1 where it is not known, or T, the fewest tokens that the target needs."""
        if name == "N":
            return 1.0 if self.n_params is None else self.n_params
        assert self.at.fit.tokens_min is not None, "only fitted targets make a law"
        return self.at.fit.tokens_min.value

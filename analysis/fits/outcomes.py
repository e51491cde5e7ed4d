"""The words for what a study finds, and for what keeps one of them open.

An outcome is decided beside the numbers it rests on, in a study's fit, together with what it lacks: `Lacks` is part of
the fit's records, and no part of its tables. What to do about it is said in one place, `analysis.fits.advice`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

ENOUGH = 4  # as many times the present seeds are the most that are asked for, and at least MODEST
MODEST = 8
MOST = 1024  # seeds up to which is looked for a number that would do


class Outcome(StrEnum):
    """A word, whether it leaves its question open, and a sentence on what it means."""

    open: bool
    meaning: str

    def __new__(cls, word: str, meaning: str, open: bool = False) -> "Outcome":
        """The text itself, with what is known of it."""
        member = str.__new__(cls, word)
        member._value_, member.meaning, member.open = word, meaning, open
        return member

    CANNOT_TELL = "cannot tell", "The data allow neither of the verdicts that were possible.", True
    NOT_RESOLVED = (
        "not resolved",
        "A best learning rate is at its grid's end, beside divergence, or none trains.",
        True,
    )
    TIED = "not told apart", "The interval of the difference from the first holds 0.", True
    LEFT_OPEN = "open", "What was not tried beyond a grid's end might turn the finding round.", True

    STAYS_PUT = "stays put", "The best value is the same everywhere, within the tolerance."
    DRIFTS_UP = "drifts up", "The best learning rate grows along the axis by more than the tolerance."
    DRIFTS_DOWN = "drifts down", "The best learning rate falls along the axis by more than the tolerance."
    MOVES = "moves", "No one value is among the best everywhere."

    HELD = "held", "The claim or bound holds, by the whole interval or in every run."
    DID_NOT_HOLD = "did not hold", "The claim or bound is violated, by the whole interval or in some run."
    NO_BOUND = "no bound", "Theory sets no bound here."

    BEST = "best", "The first of those compared."
    WORSE = "worse", "It is behind what it is compared with, by the whole interval."
    BETTER = "better", "It is ahead of what it is compared with, by the whole interval."
    REFERENCE = "reference", "What the others are compared with."
    DIVERGED = "diverged", "Its runs diverge, so there is no loss to compare."

    FOUND = "found", "The best setting lies inside the grid."
    DETERMINED = "determined", "The points determine the law's parameters."
    INSIDE = "inside", "The interval meets what the rule implies, and excludes its rivals."
    OUTSIDE = "outside", "The interval does not meet what the rule implies."

    NEEDED = "needed", "Without this term the law misses the optima by more than they scatter."
    NOT_NEEDED = "not needed", "Over what was measured the whole interval of the term lies within the tolerance."

    PASSES = "passes", "Every slope lies within the tolerance."
    FAILS = "fails", "Some slope lies beyond the tolerance."
    WITHIN = "within", "The whole interval lies within the tolerance."
    BEYOND = "beyond", "The whole interval lies beyond the tolerance."

    REACHES = "reaches the rate", "The gradient falls at least as fast as theory promises."
    SLOWER = "slower than the rate", "The gradient falls more slowly than theory promises."
    STALLS = "stalls", "Over the last horizons the gradient neither falls nor rises."
    FALLS = "goes on falling", "Over the last horizons the gradient still falls."
    RISES = "rises", "What should fall, or stay, rises."
    DESCENDS = "descends", "The loss never rises along a run without noise."
    NO_THEOREM = "no theorem", "Theory promises no rate here."

    HEAVY = "heavy tail", "The whole interval of the tail index lies below 2: the noise has no variance."
    FINITE = "finite variance", "The whole interval of the tail index lies above 2, or the noise is bounded."
    NEAR_TWO = "about 2", "The interval of the tail index holds 2: it may have a variance or not."

    TRANSFERS = "transfers", "The proxy's values cost less than the margin at the target."
    LOSES = "loses", "The proxy's values cost more than the margin at the target."

    SHRINKS = "shrinks", "The advantage moves towards none as networks grow, by the whole interval."
    GROWS = "grows", "The advantage moves away from none as networks grow, by the whole interval."


class Missing(StrEnum):
    """What would settle an open outcome."""

    SEEDS = "seeds"
    RATES_BEYOND = "rates beyond"
    RATES_CLOSER = "rates closer"
    VALUES_BEYOND = "values beyond"
    STABLE_RATES = "stable rates"
    BUDGETS = "budgets"
    BATCHES = "batches"
    PLACES = "places"
    SIZES = "sizes"
    LONGER = "longer runs"
    RUNS = "runs"
    TRIALS = "trials"


@dataclass(frozen=True)
class Seeds:
    """The seeds that a setting has, and those it would need at the present value; None where `MOST` would not do."""

    present: int
    needed: int | None

    @property
    def most(self) -> int:
        """The most that is asked for."""
        return max(MODEST, ENOUGH * self.present)

    @property
    def within_reach(self) -> bool:
        """Whether so many are asked for."""
        return self.needed is not None and self.needed <= self.most


@dataclass(frozen=True)
class Lacks:
    """What an open outcome lacks; nothing for a settled one. `seeds` are known where seeds are missing."""

    missing: tuple[Missing, ...] = ()
    seeds: Seeds | None = None

    @classmethod
    def of(cls, missing: Sequence[Missing], seeds: Seeds | None = None) -> "Lacks":
        """Every thing once, in the order of `Missing`; with seeds if these are told."""
        named = {*missing, *([Missing.SEEDS] if seeds else [])}
        return cls(tuple(kind for kind in Missing if kind in named), seeds)

    def __or__(self, other: "Lacks") -> "Lacks":
        """What either lacks; of seeds the larger need."""
        return all_of((self, other))


SETTLED = Lacks()


@dataclass(frozen=True)
class Judgement:
    """The outcome `of` an arm, a series or a claim, and what it lacks."""

    of: str
    outcome: Outcome
    lacks: Lacks = SETTLED

    @property
    def missing(self) -> tuple[Missing, ...]:
        """What would settle it; empty where it is settled."""
        return self.lacks.missing


def all_of(lacks: Sequence[Lacks]) -> Lacks:
    """What any of several lacks; of seeds the larger need."""
    seeds = [each.seeds for each in lacks if each.seeds is not None]
    most = max(seeds, key=lambda each: MOST + 1 if each.needed is None else each.needed, default=None)
    return Lacks.of([kind for each in lacks for kind in each.missing], most)


def record(of: Any) -> dict[str, Any]:
    """A result's fields for its tables and its JSON, at any depth, but for what it lacks: that is said once for all."""
    return asdict(of, dict_factory=lambda pairs: {name: value for name, value in pairs if name != "lacks"})

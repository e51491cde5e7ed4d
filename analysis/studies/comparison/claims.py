"""Claims judged by intervals.

    better      cost of `of` − cost of `than` < 0
    no-worse    the same < margin
    flatter     (cost at the last place − lowest cost) of `of`, minus the same of `than`, < 0
    grows       slope of log₂ (best place) on log₂ (key) > 0
    falls       the same < 0

A claim held if the whole interval lies on its side, did not hold if it lies on the other; else, or where there is no
interval, one cannot tell. Nor can one where an end of a grid leaves open what lies beyond, unless that could only
strengthen the verdict: an arm that already is better stays so, however low it may still go.

The claims of a page are judged together: with m of them each interval is at 1 − 5%/m (Bonferroni), so that of claims
that are all false one is called held in at most one of twenty sweeps.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.fits.parabola import minimum, slope
from analysis.fits.seeds import more_seeds
from analysis.studies.comparison.design import Design, sign
from analysis.studies.comparison.settings import Claim
from analysis.studies.comparison.tuned import DIVERGED, EDGE, OTHER_EDGE, Quantity, Tuned
from analysis.tables.keys import plain, spoken

BEYOND = "beyond"  # what is open of a best place at its grid's end
DOUBTS = {
    EDGE: Missing.RATES_BEYOND,
    OTHER_EDGE: Missing.VALUES_BEYOND,
    DIVERGED: Missing.RATES_BEYOND,
    BEYOND: Missing.PLACES,
}
NAMES = {
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "train_loss": "training loss",
    "gap": "gap between validation and training loss",
    "log2_loss": "log₂ of the validation loss",
}
# With a blank before them; other metrics have that of the losses.
UNITS = {"val_accuracy": "", "log2_loss": " octaves"}


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict, the number it rests on, and both in a sentence."""

    kind: str
    claim: str
    verdict: Outcome
    text: str
    estimate: Estimate | None
    lacks: Lacks = SETTLED


@dataclass(frozen=True)
class Results:
    """All tuned cells of a design; `unit` is what its metric is measured in, with a blank before it."""

    design: Design
    tuned: Mapping[tuple[int, int], Tuned]
    unit: str = ""

    @property
    def level(self) -> float:
        """The confidence of every interval of a claim."""
        return together(len(self.design.settings.claims))

    @property
    def n_seeds(self) -> int:
        """The most seeds that a cell has."""
        return max(tuned.cell.read.n_seeds for tuned in self.tuned.values())

    @property
    def metric(self) -> str:
        """The metric in words."""
        return NAMES[self.design.settings.metric]

    @property
    def sign(self) -> float:
        """What turns its cost back into the metric."""
        return sign(self.design.settings.metric)

    def places(self, arm: int) -> list[int]:
        """The places at which an arm was run."""
        return sorted(place for of, place in self.tuned if of == arm)

    def name(self, arm: int, place: int) -> str:
        """An arm at a place, in words."""
        return " at ".join(filter(None, (self.design.arms[arm].name, self.design.at(place))))

    def cost(self, arm: int, place: int) -> Quantity:
        """A cell's tuned cost."""
        return self.tuned[arm, place].doubting(self.name(arm, place))

    def best_place(self, arm: int) -> int:
        """The place of the lowest cost; the first where all diverge."""
        return min(self.places(arm), key=lambda place: self.tuned[arm, place].cost.value)

    def best(self, arm: int) -> Quantity:
        """The cost at the best place, chosen anew in every resample."""
        costs = [self.cost(arm, place) for place in self.places(arm)]
        samples = [cost.sample for cost in costs if cost.sample is not None]
        lowest = self.cost(arm, self.best_place(arm))
        return replace(lowest, sample=np.min(samples, axis=0) if len(samples) == len(costs) else None)

    def rise(self, arm: int, place: int) -> Quantity:
        """The cost at a place minus that at the best one."""
        return self.cost(arm, place) - self.best(arm)

    def shown(self, quantity: Quantity, form: str) -> str:
        """A quantity in the metric, with its interval and unit."""
        if not np.isfinite(quantity.value):
            return "diverged"
        return quantity.estimate(self.sign, self.level).text(form) + self.unit


def together(claims: int) -> float:
    """The confidence of each interval of so many claims, for all of them to have `CONFIDENCE` together (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, claims)


def in_words(claims: int) -> str:
    """How several claims are judged; empty for one or none."""
    if claims < 2:
        return ""
    return f"{claims} claims are judged together: each interval is at 1 − {1 - CONFIDENCE:.0%}/{claims}"


def below(quantity: Quantity, results: Results, limit: float = 0.0) -> tuple[Outcome, Lacks]:
    """Whether a quantity lies below a limit, by its interval of the claims' confidence, and what that lacks."""

    def judge(known: Estimate, may_fall: bool = False, may_rise: bool = False) -> Outcome:
        if known.low is None or known.high is None:
            return Outcome.CANNOT_TELL
        if known.high < limit and not may_rise:
            return Outcome.HELD
        return Outcome.DID_NOT_HOLD if known.low > limit and not may_fall else Outcome.CANNOT_TELL

    known = quantity.estimate(level=results.level)
    outcome = judge(known, quantity.may_fall, quantity.may_rise)
    if not outcome.open:
        return outcome, SETTLED
    doubts = missing_by(quantity.doubts)
    if not judge(known).open or (np.isnan(known.value) and doubts.missing):
        return outcome, doubts
    return outcome, doubts | more_seeds(results.n_seeds, known, judge)


def judge(claim: Claim, results: Results) -> Judged:
    """The verdict on a claim."""
    return JUDGES[claim.kind](claim, results)


def _arms(claim: Claim, results: Results) -> tuple[int, int] | None:
    of, than = (results.design.arm(str(name)) for name in (claim.of, claim.than))
    return None if of is None or than is None else (of, than)


def missing_by(doubts: Iterable[tuple[str, str]]) -> Lacks:
    """What would settle doubts, which are pairs of their kind and of whose they are."""
    return Lacks.of([DOUBTS[kind] for kind, _ in doubts])


def _missing(claim: Claim, what: str, why: str, missing: Missing = Missing.PLACES) -> Judged:
    return Judged(claim.kind, claim.text or what, Outcome.CANNOT_TELL, why, None, Lacks.of([missing]))


def _not_run(claim: Claim, what: str, results: Results) -> Judged:
    lost = [str(name) for name in (claim.of, claim.than) if results.design.arm(str(name)) is None]
    return _missing(claim, what, f"There are no runs of {' and '.join(lost)}.", Missing.RUNS)


def _judged(
    claim: Claim, what: str, verdict: tuple[Outcome, Lacks], text: str, difference: Quantity, results: Results
) -> Judged:
    outcome, lacks = verdict
    known = difference.estimate(results.sign, results.level) if np.isfinite(difference.value) else None
    return Judged(claim.kind, claim.text or what, outcome, _doubted(text, difference, outcome, results), known, lacks)


def _doubted(text: str, quantity: Quantity, verdict: Outcome, results: Results) -> str:
    """The sentence, and after it what keeps it from saying more."""
    parts = [text]
    for kind, of in _grouped(quantity.doubts if verdict.open else ()).items():
        parts.append(
            {
                EDGE: f"The best learning rate of {of} ends its grid, so there may be better ones.",
                OTHER_EDGE: f"The best {results.design.tuned} of {of} ends its grid, so there may be better ones.",
                DIVERGED: f"Every learning rate of {of} diverges.",
                BEYOND: f"The best {results.design.across} of {of} may lie beyond its grid.",
            }[kind]
        )
    if quantity.sample is None:
        one = results.n_seeds == 1
        parts.append("One seed: there is no measure of seed noise." if one else "Seed noise is not known.")
    return " ".join(parts)


def _grouped(doubts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names by kind, as a list in words."""
    found: dict[str, list[str]] = {}
    for kind, name in doubts:
        found.setdefault(kind, []).append(name)
    return {kind: " and ".join(filter(None, [", ".join(of[:-1]), of[-1]])) for kind, of in found.items()}


def _ends(claim: Claim, results: Results) -> Judged:
    """better and no-worse."""
    margin = claim.margin if claim.kind == "no-worse" else 0.0
    how = "better" if claim.kind == "better" else f"less than {margin:g}{results.unit} worse"
    what = f"{claim.of} ends {how} than {claim.than}"
    arms = _arms(claim, results)
    if arms is None:
        return _not_run(claim, what, results)
    if claim.at is None:
        places = [results.best_place(arm) for arm in arms]
        of, than = (results.best(arm) for arm in arms)
    else:
        found = results.design.find_place(claim.at)
        at = f"{results.design.across} {plain(claim.at)}"
        what += f" at {at}"
        if found is None or any(found not in results.places(arm) for arm in arms):
            return _missing(claim, what, f"There are no runs of both at {at}.")
        places = [found, found]
        of, than = (results.cost(arm, found) for arm in arms)
    difference = of - than
    verdict = below(difference, results, margin)
    names = [results.name(arm, place) for arm, place in zip(arms, places, strict=True)]
    text = (
        f"The {results.metric} is {results.shown(of, '.3f')} with {names[0]} and {results.shown(than, '.3f')} with "
        f"{names[1]}: {_difference(difference, results)}."
    )
    return _judged(claim, what, verdict, text, difference, results)


def _flatter(claim: Claim, results: Results) -> Judged:
    across = results.design.across
    what = f"towards large {across} {claim.of} loses less than {claim.than}"
    arms = _arms(claim, results)
    if arms is None:
        return _not_run(claim, what, results)
    shared = sorted(set(results.places(arms[0])) & set(results.places(arms[1])))
    if len(shared) < 2:
        return _missing(claim, what, f"They share fewer than two values of {across}.")
    last = shared[-1]
    rises = [results.rise(arm, last) for arm in arms]
    difference = rises[0] - rises[1]
    verdict = below(difference, results)
    parts = []
    for arm, rise in zip(arms, rises, strict=True):
        start = results.design.place(results.best_place(arm))
        parts.append(f"{results.design.arms[arm].name} {results.shown(rise, '+.3f')} (from {start})")
    text = (
        f"Change of the {results.metric} from the best {across} to {results.design.place(last)}: {', '.join(parts)}; "
        f"{_difference(difference, results)}."
    )
    return _judged(claim, what, verdict, text, difference, results)


def _goes(claim: Claim, results: Results) -> Judged:
    """grows and falls."""
    design, key = results.design, str(claim.along)
    what = f"the best {design.across} {claim.kind} with the {spoken(key)}"
    family = _family(claim, design, key)
    if len(family) < 2:
        return _missing(claim, what, f"There are fewer than two values of {spoken(key)} to compare.")
    tops = [_best_place(results, arm) for arm in family]
    at = np.log2([float(design.arms[arm].values[key]) for arm in family])
    weights = at - at.mean()
    samples = [top.sample for top in tops]
    sample = None
    if all(drawn is not None for drawn in samples):
        sample = slope(at, np.stack([drawn for drawn in samples if drawn is not None], axis=-1))
    drift = Quantity(
        float(slope(at, np.array([top.value for top in tops]))),
        sample,
        may_fall=any(_moves(top, -w) for top, w in zip(tops, weights, strict=True)),
        may_rise=any(_moves(top, w) for top, w in zip(tops, weights, strict=True)),
        doubts=tuple(doubt for top in tops for doubt in top.doubts),
    )
    # A claim that something lies above 0 is one that its negative lies below.
    negative = None if sample is None else -sample
    turned = replace(drift, value=-drift.value, sample=negative, may_fall=drift.may_rise, may_rise=drift.may_fall)
    verdict, lacks = below(turned if claim.kind == "grows" else drift, results)
    first, last = (
        f"{2 ** tops[i].value:.3g} at {spoken(key)} {plain(design.arms[family[i]].values[key])}" for i in (0, -1)
    )
    estimate = drift.estimate(level=results.level)
    pace = f"{estimate.text('+.2f')} octaves per octave of {spoken(key)}"
    text = f"The best {design.across} goes from {first} to {last}: {pace}."
    return Judged(claim.kind, claim.text or what, verdict, _doubted(text, drift, verdict, results), estimate, lacks)


def _family(claim: Claim, design: Design, key: str) -> list[int]:
    """The arms that a growth is claimed of, in the order of the key's values."""
    arms = [i for i, arm in enumerate(design.arms) if key in arm.values]
    if isinstance(claim.of, tuple):
        named = {design.arm(name) for name in claim.of}
        arms = [i for i in arms if i in named]
    elif claim.of is not None:
        one = design.arm(claim.of)
        arms = [i for i in arms if one is not None and design.arms[i].others(key) == design.arms[one].others(key)]
    return sorted(arms, key=lambda i: float(design.arms[i].values[key]))


def _best_place(results: Results, arm: int) -> Quantity:
    """log₂ of the place where the parabola through the lowest cost and its neighbours is lowest."""
    places = results.places(arm)
    x = np.log2([float(results.design.places[place]) for place in places])
    costs = [results.tuned[arm, place].cost for place in places]
    at, best = minimum(x, np.array([cost.value for cost in costs]))
    samples = [cost.sample for cost in costs if cost.sample is not None]
    drawn, low, high = None, best == 0, best == len(x) - 1
    if len(samples) == len(costs):
        drawn, ends = minimum(x, np.stack(samples, axis=-1))
        tail = (1 - results.level) / 2
        low, high = (bool(end or np.mean(ends == i) > tail) for end, i in ((low, 0), (high, len(x) - 1)))
    name = results.design.arms[arm].name
    doubts = ((BEYOND, name),) if low or high else ()
    return Quantity(float(at), drawn, may_fall=bool(low), may_rise=bool(high), doubts=doubts)


def _moves(top: Quantity, weight: float) -> bool:
    """Whether weight · top may rise."""
    return (weight > 0 and top.may_rise) or (weight < 0 and top.may_fall)


def _difference(difference: Quantity, results: Results) -> str:
    if np.isnan(difference.value):
        return "no number"
    if np.isinf(difference.value):
        return "one of them diverges"
    return "a difference of " + results.shown(difference, "+.3f")


JUDGES: dict[str, Callable[[Claim, Results], Judged]] = {
    "better": _ends,
    "no-worse": _ends,
    "flatter": _flatter,
    "grows": _goes,
    "falls": _goes,
}

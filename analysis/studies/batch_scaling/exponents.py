"""Power laws in the token budget, with what the rule implies for each reading beside it.

    BS*(T), BS°(T) ∝ T^q                 rule: q from 4/7 (a smooth surface's lowest point) to 2/3 (a maximum's)
    γ*(T) along each ∝ T^p               rule: p = q − 1
    γ*(BS, T) = c BS^a T^b               rule: a = 1, b = −1
    BS₂(T) ∝ T^q, γ* ∝ T^(aq + b) there  rule: q = 2/3, p = −1/3

by least squares in logarithms over the budgets (for the plane: over the cells near each budget's best), once for the
measured curves and once for every resample; the corner BS₂ is that of `analysis.studies.batch_scaling.surface`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.fits.intervals import TAIL, Estimate, verdict
from analysis.fits.open_ends import missing_around
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome, all_of
from analysis.fits.parabola import slope
from analysis.fits.profile import Profile, Shape, best_batch, largest_batch, left_to_gain, lr_along
from analysis.fits.seeds import more_seeds
from analysis.studies.batch_scaling.surface import FLOOR, Surface
from analysis.tables.arrays import Bools, Floats

# The plane is fitted to cells whose loss lies within this many nats of their budget's lowest.
NEAR_BEST = 0.1

RULES = {"batch": 2 / 3, "lr": -1 / 3, "plane_batch": 1.0, "plane_budget": -1.0}
# Exponents an interval must exclude before "inside" says anything: no dependence, and for the batch also growth with
# the budget (a constant number of steps); and those of `RIVALS` that the rule does not imply, for rates along BS* and
# BS° minus 1.
ALTERNATIVES = {"batch": (0.0, 1.0), "lr": (0.0,), "plane_batch": (0.0,), "plane_budget": (0.0,)}

# What the rule implies for the batch of a reading that is not the corner; the learning rate's is that minus 1. The
# lowest loss of the three regimes moves as T^(6q/7) on any smooth maximum, and the end of a stretch as T^q. A loss that
# lies a share of what is left to gain above the lowest moves between the two.
BEST, LARGEST = "best batch", "largest without loss"
IMPLIED: dict[str, tuple[float, float]] = {BEST: (4 / 7, 2 / 3), LARGEST: (4 / 7, 2 / 3)}
AT_EDGES = "best learning rates around a best batch lie at their grid's edge"
NOT_DETERMINED = "the losses leave open whether the corner lies among the batch sizes measured, or E above 0"
NO_FLOOR = "no floor of the loss was fitted, so the tolerance depends on the batch sizes measured"
DOUBTS = {"": SETTLED, AT_EDGES: Lacks.of([Missing.RATES_BEYOND]), NO_FLOOR: Lacks.of([Missing.BUDGETS])}
# What reading the best batch off octaves errs by where the law is known, which no interval of noise holds.
OCTAVES = 0.03
# Published exponents of the batch in the budget: arXiv 2603.21191, 2503.04715, 2510.03871, 2505.13738.
RIVALS = (2 / 3, 0.571, 0.45, 0.383)


@dataclass(frozen=True)
class Exponent:
    """One exponent: what of, its estimate, the rule's value, and the verdict on it.

    `implied` is the range that the rule implies for this reading. `contains` and `excludes` are the published exponents
    of the batch in its interval and outside it, None for other exponents and without an interval.
    """

    name: str
    kind: str
    estimate: Estimate | None
    rule: float
    verdict: Outcome
    n_points: int
    note: str
    implied: tuple[float, float]
    contains: tuple[float, ...] | None = None
    excludes: tuple[float, ...] | None = None
    lacks: Lacks = SETTLED

    def with_seeds(self, present: int) -> "Exponent":
        """With the seeds it lacks beside the `present` ones, if the width of its interval keeps it open."""
        if self.estimate is None or not self._judge(self.estimate).open:
            return self
        return replace(self, lacks=self.lacks | more_seeds(present, self.estimate, self._judge))

    def _judge(self, estimate: Estimate) -> Outcome:
        return _outcome(self.name, self.kind, estimate)


@dataclass(frozen=True)
class Path:
    """Batch sizes chosen at each of n budgets in R resamples, and the best learning rates there (both log₂, (R, n)).

    `lacks` is what each budget lacks where they are not known.
    """

    batch: Floats
    batch_ok: Bools
    lr: Floats
    lr_ok: Bools
    lacks: tuple[Lacks, ...] = ()

    def at(self, budgets: Bools) -> "Path":
        """Only some of the budgets, without what they lack."""
        return Path(self.batch[:, budgets], self.batch_ok[:, budgets], self.lr[:, budgets], self.lr_ok[:, budgets])


def best_path(profiles: Sequence[Profile], shape: Shape = "five") -> Path:
    """Along BS*."""
    return _path(profiles, [best_batch(p, shape) for p in profiles])


def largest_path(profiles: Sequence[Profile], share: float, floor: float | None = None) -> Path:
    """Along BS°: within `share` of what is left to gain above the `floor` (`analysis.fits.profile.left_to_gain`)."""
    return _path(profiles, [largest_batch(p, share * left_to_gain(p, floor)) for p in profiles])


def _path(profiles: Sequence[Profile], chosen: Sequence[tuple[Floats, Bools]]) -> Path:
    batch, ok = (np.stack(part, axis=1) for part in zip(*chosen, strict=True))
    rates = [lr_along(p, at) for p, (at, _) in zip(profiles, chosen, strict=True)]
    lr, lr_ok = (np.stack(part, axis=1) for part in zip(*rates, strict=True))
    # Where the lowest cell has all around it, it is the rise towards large batches that was not seen.
    lacks = (Lacks.of(missing_around(p) or [Missing.BATCHES]) for p in profiles)
    return Path(batch, ok, lr, lr_ok, tuple(lacks))


def fit_path(name: str, tokens: Floats, observed: Path, drawn: Path | None, doubt: str = "") -> list[Exponent]:
    """The exponents of the batch and of the learning rate along a path, over the budgets at which each is resolved.

    `doubt` is why there can be no verdict, "" if there can.
    """
    lacks = observed.lacks, None if drawn is None else drawn.lacks
    sampled = None if drawn is None else (drawn.batch, drawn.batch_ok)
    found = _fit(f"batch size, {name}", "batch", tokens, observed.batch, observed.batch_ok, sampled, doubt, lacks)
    sampled = None if drawn is None else (drawn.lr, drawn.lr_ok & drawn.batch_ok)
    ok = observed.lr_ok & observed.batch_ok
    return [found, _fit(f"learning rate, {name}", "lr", tokens, observed.lr, ok, sampled, doubt, lacks)]


def _fit(
    name: str,
    kind: str,
    tokens: Floats,
    y: Floats,
    ok: Bools,
    drawn: tuple[Floats, Bools] | None,
    doubt: str,
    lacks: tuple[Sequence[Lacks], Sequence[Lacks] | None],
) -> Exponent:
    keep = ok[0]
    x = np.log2(tokens[keep])
    left_out = [f"{t:,.0f}" for t in tokens[~keep]]
    edge = "at a grid's edge" + (" or beside a divergence" if kind == "lr" else "")
    note = f"without {', '.join(left_out)} tokens: {edge}" if left_out else ""
    if len(x) < 2:
        implied, lost = _implied(name, kind), all_of(_of(lacks[0], ~keep)) if left_out else Lacks.of([Missing.BUDGETS])
        note = note or "one budget"
        return Exponent(name, kind, None, RULES[kind], Outcome.CANNOT_TELL, len(x), note, implied, lacks=lost)
    sample, cut_off = None, False
    if drawn is not None:
        sample = slope(x, drawn[0][:, keep])
        cut_off = bool((1 - drawn[1][:, keep].mean(axis=0)).max() > TAIL)
    if cut_off:
        note = "; ".join(filter(None, [note, "an interval ends where the grid does"]))
    estimate = Estimate.of(float(slope(x, y[:, keep])[0]), sample)
    note = "; ".join(filter(None, [note, doubt]))
    found = _judged(name, kind, estimate, len(x), note, cut_off or bool(doubt))
    beyond = [] if drawn is None or not cut_off else _of(lacks[1] or (), _open(drawn[1], keep))
    return replace(found, lacks=all_of([DOUBTS[doubt], *beyond])) if found.verdict.open else found


def _open(ok: Bools, keep: Bools) -> Bools:
    """Which of the kept budgets are not known in more than 2.5% of the resamples, (n,)."""
    return keep & (1 - ok.mean(axis=0) > TAIL)


def _of(lacks: Sequence[Lacks], chosen: Bools) -> list[Lacks]:
    return [each for each, wanted in zip(lacks, chosen, strict=False) if wanted]


@dataclass(frozen=True)
class Plane:
    """a and b of γ*(BS, T) = c BS^a T^b over `n_cells` cells: measured (2,), and in every resample (2, R)."""

    found: Floats
    sample: Floats | None
    n_cells: int

    def exponents(self) -> list[Exponent]:
        """Both, with their verdicts."""
        names = (("learning rate against batch size", "plane_batch"), ("learning rate against budget", "plane_budget"))
        return [
            _judged(
                name, kind, Estimate.of(self.found[i], None if self.sample is None else self.sample[i]), self.n_cells
            )
            for i, (name, kind) in enumerate(names)
        ]


def fit_plane(
    tokens: Floats, observed: Sequence[Profile], drawn: Sequence[Profile] | None, near: float = NEAR_BEST
) -> Plane | None:
    """Over the resolved cells within `near` nats of their budget's lowest; None if they do not span a plane."""
    chosen = [p.resolved[0] & (p.loss[0] <= p.loss[0].min() + near) for p in observed]
    log_t = np.concatenate([np.full(keep.sum(), np.log2(t)) for t, keep in zip(tokens, chosen, strict=True)])
    log_b = np.concatenate([p.x[keep] for p, keep in zip(observed, chosen, strict=True)])
    design = np.stack([log_b, log_t, np.ones_like(log_b)], axis=1)
    if len(log_b) < 4 or np.linalg.matrix_rank(design) < 3:
        return None

    def solve(profiles: Sequence[Profile]) -> Floats:
        rates = np.concatenate([p.lr[:, keep] for p, keep in zip(profiles, chosen, strict=True)], axis=1)
        return np.asarray(np.linalg.lstsq(design, rates.T, rcond=None)[0][:2])

    return Plane(solve(observed)[:, 0], None if drawn is None else solve(drawn), len(log_b))


def fit_corner(
    surface: Surface, sample: Floats | None, plane: Plane | None, n_cells: int, doubt: str = "", n_seeds: int = 1
) -> list[Exponent]:
    """The corner's own exponent, and that of the best learning rate along it, from the plane.

    `doubt` is why there can be no verdict, "" if there can. Where the surface misses the cells, which widens the
    intervals by as much as more seeds would narrow them, budgets are missing in place of seeds.
    """
    note, cut_off = doubt, surface.at_bound or surface.cut_off or bool(doubt)
    if surface.at_bound:
        note = "the floor E is 0" if surface.floor < FLOOR else "the corner lies outside the batch sizes measured"
    elif surface.cut_off:
        note = "; ".join(filter(None, [NOT_DETERMINED, doubt]))
    found = [_judged("batch size, corner of the surface", "batch", surface.exponent, n_cells, note, cut_off)]
    lacks = DOUBTS[doubt]
    if surface.at_bound:
        lacks = lacks | Lacks.of([Missing.BUDGETS if surface.floor < FLOOR else Missing.BATCHES])
    elif surface.cut_off:
        lacks = lacks | Lacks.of([Missing.BUDGETS, Missing.BATCHES])
    if plane is not None:
        (a, b), lr = plane.found, None
        if sample is not None and plane.sample is not None:
            drawn_a, drawn_b = plane.sample[:, : len(sample)]
            lr = drawn_a * sample + drawn_b
        estimate = Estimate.of(a * surface.exponent.value + b, lr)
        found.append(_judged("learning rate, corner of the surface", "lr", estimate, n_cells, note, cut_off))
    if surface.misfit is not None and surface.misfit > 1:
        lacks, n_seeds = lacks | Lacks.of([Missing.BUDGETS]), 0
    found = [replace(each, lacks=lacks) if each.verdict.open else each for each in found]
    return [each.with_seeds(n_seeds) for each in found] if n_seeds else found


def _judged(name: str, kind: str, estimate: Estimate, n_points: int, note: str = "", cut_off: bool = False) -> Exponent:
    judged = _outcome(name, kind, estimate, cut_off)
    contains = excludes = None
    if kind == "batch" and estimate.low is not None and estimate.high is not None:
        contains = tuple(rival for rival in RIVALS if estimate.low <= rival <= estimate.high)
        excludes = tuple(rival for rival in RIVALS if rival not in contains)
    implied = _implied(name, kind)
    return Exponent(name, kind, estimate, RULES[kind], judged, n_points, note, implied, contains, excludes)


def _outcome(name: str, kind: str, estimate: Estimate, cut_off: bool = False) -> Outcome:
    implied = _implied(name, kind)
    slack = OCTAVES if implied[0] < implied[1] else 0.0
    met = (implied[0] - slack, implied[1] + slack)
    published = RIVALS if kind == "batch" else [rival - 1 for rival in RIVALS] if slack else []
    rivals = [rival for rival in published if not met[0] <= rival <= met[1]]
    judged = verdict(estimate, met, [*ALTERNATIVES[kind], *rivals], cut_off)
    if judged == Outcome.INSIDE and slack and not met[0] <= estimate.value <= met[1]:
        return Outcome.CANNOT_TELL  # the interval touches the range with its end only
    return judged


def both(first: Outcome, second: Outcome) -> Outcome:
    """What the outcomes of two exponents say of the rule that implies them both: inside only if both are."""
    if first == second:
        return first
    return Outcome.OUTSIDE if Outcome.OUTSIDE in (first, second) else Outcome.CANNOT_TELL


def _implied(name: str, kind: str) -> tuple[float, float]:
    """What the rule implies for a reading by its name; the rule's own value where that is not another."""
    reading = name.partition(", ")[2]
    if reading not in IMPLIED:
        return RULES[kind], RULES[kind]
    low, high = IMPLIED[reading]
    return (low, high) if kind == "batch" else (low - 1, high - 1)

"""The whole comparison of a sweep's arms."""

from collections.abc import Sequence

import numpy as np

from analysis.fits.intervals import RESAMPLES, Estimate
from analysis.fits.outcomes import SETTLED, Lacks, Outcome
from analysis.fits.seeds import more_seeds
from analysis.fits.simultaneous import simultaneous
from analysis.studies.comparison.claims import UNITS, Results, judge, missing_by
from analysis.studies.comparison.design import Cell, Design, arrange, cells_of
from analysis.studies.comparison.result import CellResult, Comparison, Rank, Ranking
from analysis.studies.comparison.settings import ComparisonSettings
from analysis.studies.comparison.tuned import Quantity, Tuned, tune
from analysis.tables.keys import spoken
from analysis.tables.sweep import SweepTables
from analysis.tables.units import nats
from scionlab.errors import UserError


def fit_comparison(tables: SweepTables, seed: int = 0) -> Comparison:
    """Tune every arm at every place, rank the arms and judge the claims; `seed` is the bootstrap's.

    UserError for settings that do not fit the runs, and for runs of an arm that differ in more than place, learning
    rate and seed. Rows with status `error` do not count.
    """
    settings = ComparisonSettings.parse(tables.settings)
    design, placed = arrange(tables.runs, settings, list(tables.sweep.get("trial_ids", ())))
    _check_numbers(design)
    found = tune(cells_of(placed, design), RESAMPLES, np.random.default_rng(seed))
    tuned = {(of.cell.arm, of.cell.place): of for of in found.tuned}
    unit = UNITS.get(settings.metric, nats(tables.runs))
    results = Results(design, tuned, unit)
    return Comparison(
        design=design,
        metric=results.metric,
        unit=unit,
        cells=tuple(_cell(tuned[key], results) for key in sorted(tuned)),
        rankings=tuple(_rankings(results)),
        claims=tuple(judge(claim, results) for claim in settings.claims),
        paired=found.noise.paired,
        noise_known=found.noise.levels_known,
    )


def _check_numbers(design: Design) -> None:
    """Claims of a growth need numbers above 0 to grow; those of large places need numbers."""
    for claim in design.settings.claims:
        if claim.kind not in ("flatter", "grows", "falls"):
            continue
        if not design.numeric:
            shown = ", ".join(map(str, design.places))
            raise UserError(f"across: {design.across!r} is not of numbers ({shown}); a claim {claim.kind!r} needs them")
        if claim.kind in ("grows", "falls"):
            _check_growth(design, str(claim.along))


def _check_growth(design: Design, key: str) -> None:
    for name, values in (
        (design.across, design.places),
        (spoken(key), [arm.values[key] for arm in design.arms if key in arm.values]),
    ):
        if not all(isinstance(v, int | float | np.number) and v > 0 for v in values):
            shown = ", ".join(map(str, values))
            raise UserError(f"claims: {name!r} is not of numbers above 0 ({shown}); a claim 'grows' needs them")


def _cell(of: Tuned, results: Results) -> CellResult:
    cell: Cell = of.cell
    arm = results.design.arms[cell.arm]
    value = lr = None
    if of.log2_lr is not None:
        value = of.cost.estimate(results.sign)
        at = Estimate.of(of.log2_lr, of.log2_lrs if of.state == "inside" else None)
        lr = Estimate(2**at.value, *(None if end is None else 2**end for end in (at.low, at.high)))
    return CellResult(
        arm=arm.name,
        optimizer=arm.optimizer,
        place=results.design.places[cell.place],
        value=value,
        lr=lr,
        rate=None if of.best is None else 2**of.best,
        state=of.state,
        n_rates=len(cell.curve.x),
        n_seeds=cell.curve.n_seeds,
        n_diverged=cell.curve.n_diverged,
        choice=cell.choice,
    )


def _rankings(results: Results) -> list[Ranking]:
    """At each arm's own best place; where places are numbers, also at the last one that several arms share."""
    design, arms = results.design, range(len(results.design.arms))
    own = [(arm, results.best_place(arm), results.best(arm)) for arm in arms]
    found = [_ranking(f"each at its best {design.across}" if design.across else "", own, results)]
    shared = [place for place in range(len(design.places)) if sum((arm, place) in results.tuned for arm in arms) > 1]
    if design.across and design.numeric and len(design.places) > 1 and shared:
        last = shared[-1]
        there = [(arm, last, results.cost(arm, last)) for arm in arms if (arm, last) in results.tuned]
        found.append(_ranking(f"at {design.at(last)}", there, results))
    return found


def _ranking(at: str, entries: Sequence[tuple[int, int, Quantity]], results: Results) -> Ranking:
    ordered = sorted(entries, key=lambda entry: entry[2].value)
    first = ordered[0][2]
    width = _width([cost for _, _, cost in ordered])
    ranks = []
    for i, (arm, place, cost) in enumerate(ordered):
        tuned = results.tuned[arm, place]
        finite = bool(np.isfinite(cost.value))
        difference = _difference(cost, first, width) if finite and i else None
        verdict = _verdict(cost, first, difference, i)
        ranks.append(
            Rank(
                arm=results.design.arms[arm].name,
                place=results.design.place(place) if results.design.across else "",
                value=cost.estimate(results.sign) if finite else None,
                lr=None if tuned.log2_lr is None else float(2**tuned.log2_lr),
                difference=None if difference is None else difference.times(results.sign),
                verdict=verdict,
                lacks=_lacks(cost, first, difference, results) if verdict.open else SETTLED,
            )
        )
    return Ranking(at, tuple(ranks))


def _width(costs: Sequence[Quantity]) -> float | None:
    """The width of differences of these arms (`analysis.fits.simultaneous`); None without resamples of two arms."""
    samples = [cost.centred - cost.value for cost in costs if cost.centred is not None and np.isfinite(cost.value)]
    return simultaneous(np.stack(samples, axis=1)) if samples else None


def _difference(cost: Quantity, first: Quantity, width: float | None) -> Estimate:
    """An arm's cost minus the first's, with its simultaneous interval."""
    difference = cost - first
    sample = difference.centred
    if width is None or sample is None or not np.isfinite(sample).all():
        return Estimate(difference.value)
    half = width * float(np.median(np.abs(sample - difference.value)))
    return Estimate(difference.value, difference.value - half, difference.value + half)


def _verdict(cost: Quantity, first: Quantity, difference: Estimate | None, index: int) -> Outcome:
    """What the first arm's lead over one allows to say of that one."""
    if not np.isfinite(cost.value):
        return Outcome.DIVERGED
    if index == 0:
        return Outcome.BEST
    if difference is None or _tied(difference):
        return Outcome.TIED
    return Outcome.LEFT_OPEN if cost.may_fall or first.may_rise else Outcome.WORSE


def _tied(difference: Estimate) -> bool:
    """Whether an arm's cost is not told apart from the first's."""
    return difference.low is None or difference.low <= 0


def _lacks(cost: Quantity, first: Quantity, difference: Estimate | None, results: Results) -> Lacks:
    """What an arm lacks that may be as good as the first: values beyond its grid, or seeds to tell it apart."""
    doubts = missing_by((*cost.doubts, *(first.doubts if first.may_rise else ())))
    if difference is None or not _tied(difference):
        return doubts
    return doubts | more_seeds(results.n_seeds, difference, lambda d: Outcome.TIED if _tied(d) else Outcome.WORSE)

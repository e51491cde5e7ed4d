"""Rules against each other on a budget they have not seen.

Each rule is anchored at the optimum of the nearest smaller budget, or fitted to all others (the free power law), and
predicts (BS, γ) at the held-out budget. Its regret is the loss there minus that of the best measured cell, read off the
measured surface

    L(BS, γ) = P(BS) + excess(BS, log₂ γ − log₂ γ*(BS))

with P interpolated (monotone cubic) in log₂ BS, and the excess over the best rate interpolated straight between the two
neighbouring cells at equal distance from their own best rates. A cell's excess is that of the profile's parabola up to
the neighbours of its best measured rate, so that the best rate itself costs nothing, and monotone cubic beyond. Nothing
is extrapolated: a prediction outside the measured batch sizes or learning rates is read at the nearest measured one,
and flagged; its regret is then a bound from below in practice. Intervals come from resampling the seed noise of all
budgets, so they contain the anchor's error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fits.cells import Budget
from analysis.fits.intervals import TAIL, Estimate
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.fits.seeds import more_seeds
from analysis.laws.rules import Point, Rule
from analysis.studies.batch_scaling.table import Table
from analysis.tables.arrays import Bools, Floats


@dataclass(frozen=True)
class Score:
    """A rule's prediction for a held-out budget and what it costs, in nats. `outside`: beyond what was measured."""

    rule: str
    title: str
    batch_tokens: Estimate
    lr: Estimate
    regret: Estimate
    outside: bool


@dataclass(frozen=True)
class Contest:
    """The scores at one held-out budget, the lowest regret first, and the winner if the intervals allow to name one.

    `anchor` is the budget the anchored rules started from. `outcome` is "best" where there is a winner.
    """

    tokens: float
    anchor: float
    scores: tuple[Score, ...]
    winner: str | None
    why: str
    outcome: Outcome
    lacks: Lacks = SETTLED


def contest(observed: Table, drawn: Table | None, held_out: int, rules: Sequence[Rule]) -> Contest | None:
    """Score `rules` and the free power law at budget `held_out`; None with fewer than two budgets."""
    others = [i for i in range(len(observed.budgets)) if i != held_out]
    if not others or one_setting(observed.budgets[held_out]):  # where one was tried, every rule's regret would be 0
        return None
    # A best batch at its grid's edge is no optimum to start from, if there is any other.
    others = [i for i in others if observed.inside(i)] or others
    anchor = max((i for i in others if i < held_out), default=min(others))
    lowest = int(observed.profiles[held_out].lowest[0])  # the same cell in every resample

    def read(table: Table) -> list[RuleReading]:
        fitted = [table.power_law(others)] if len(others) > 1 else []
        return read_rules(table, held_out, lowest, table.point(anchor), [*rules, *fitted])

    measured = read(observed)
    sampled = None if drawn is None else read(drawn)
    scores = []
    for i, reading in enumerate(measured):
        draws = None if sampled is None else sampled[i]
        scores.append(
            Score(
                rule=reading.rule.name,
                title=reading.rule.title,
                batch_tokens=Estimate.of(reading.setting[0][0], None if draws is None else draws.setting[0]),
                lr=Estimate.of(reading.setting[1][0], None if draws is None else draws.setting[1]),
                regret=Estimate.of(reading.regret[0], None if draws is None else draws.regret),
                outside=bool(reading.outside[0]),
            )
        )
    order = sorted(range(len(scores)), key=lambda i: scores[i].regret.value)
    tokens = [budget.tokens for budget in observed.budgets]
    ordered = tuple(scores[i] for i in order)
    outcome, why = _winner(ordered, None if sampled is None else [sampled[i].regret for i in order])
    return Contest(
        tokens=tokens[held_out],
        anchor=tokens[anchor],
        scores=ordered,
        winner=None if outcome.open else ordered[0].rule,
        why=why,
        outcome=outcome,
        lacks=_lacks(outcome, ordered[0], observed, held_out),
    )


def one_setting(budget: Budget) -> bool:
    """Whether one batch and rate was all that was tried."""
    return len(budget.cells) == 1 and int(budget.cells[0].curve.finite.sum()) == 1


@dataclass(frozen=True)
class RuleReading:
    """A rule's (BS, γ) for a held-out budget, and its regret there, (R,) each."""

    rule: Rule
    setting: tuple[Floats, Floats]
    regret: Floats
    outside: Bools


def read_rules(table: Table, held_out: int, lowest: int, base: Point, rules: Sequence[Rule]) -> list[RuleReading]:
    """What rules predict for one budget of a table from a base point, and their regrets against its cell `lowest`.

    The fields of `base` have as many resamples as the table, wherever it comes from.
    """
    readings = []
    for rule in rules:
        setting = rule.predict(base, table.budgets[held_out].tokens)
        shape = np.shape(base.lr)  # a rule that does not use the base says one thing to all resamples
        batch, lr = np.broadcast_to(setting.batch_tokens, shape), np.broadcast_to(setting.lr, shape)
        loss, outside = table.loss(held_out, np.log2(batch), np.log2(lr))
        readings.append(RuleReading(rule, (batch, lr), loss - table.profiles[held_out].loss[:, lowest], outside))
    return readings


def beyond(table: Table, held_out: int, batch_tokens: float) -> Missing:
    """What a prediction that lies outside a budget's grid lacks there."""
    x = table.profiles[held_out].x
    return Missing.RATES_BEYOND if x[0] <= np.log2(batch_tokens) <= x[-1] else Missing.BATCHES


def _lacks(outcome: Outcome, first: Score, table: Table, held_out: int) -> Lacks:
    """What keeps the rule with the lowest regret from being the best, if anything does."""
    if outcome == Outcome.LEFT_OPEN:
        return Lacks.of([beyond(table, held_out, first.batch_tokens.value)])
    return more_seeds(table.budgets[held_out].n_seeds) if outcome.open else SETTLED


def _winner(scores: Sequence[Score], sampled: Sequence[Floats] | None) -> tuple[Outcome, str]:
    """The first rule, if its regret is below every other's in the resamples."""
    first = scores[0]
    if sampled is None:
        return Outcome.CANNOT_TELL, "there is no measure of noise"
    if first.outside:
        why = f"the prediction with the lowest regret, that of {first.rule}, lies outside what was measured"
        return Outcome.LEFT_OPEN, why
    others = zip(scores[1:], sampled[1:], strict=True)
    rivals = [score.rule for score, draws in others if not _above(draws, sampled[0])]
    if rivals:
        return Outcome.TIED, f"{first.rule} has the lowest regret, but cannot be told apart from {', '.join(rivals)}"
    return Outcome.BEST, f"the regret of {first.rule} is below that of every other"


def _above(draws: Floats, first: Floats) -> bool:
    """Whether one rule's regret exceeds another's in the resamples; two infinite ones are equal."""
    with np.errstate(invalid="ignore"):
        difference = np.nan_to_num(draws - first, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return bool(np.quantile(difference, TAIL, method="closest_observation") > 0)

"""Rules against each other on a network size, and budgets, that they have not seen.

Each rule is anchored at an optimum of the next smaller size N₀, at its largest budget below the held-out one, and
predicts (BS, γ) at (N₁, T₁). Budgets without a smaller one there do not count, unless none has. Rules that know N get
both sizes; of the others it is their part in T alone that is scored. The free power law is that of the smaller size's
budgets. Regrets are read off the larger size's surface (`regret`), and a rule's is the mean over its budgets. Rules are
told apart all at once (`analysis.fits.simultaneous`). Rules that move momentum, weight decay or β₂ are not scored: what
they say is not what was trained, where only batch and rate were swept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from analysis.fits.intervals import Estimate
from analysis.fits.outcomes import SETTLED, Lacks, Outcome
from analysis.fits.seeds import more_seeds
from analysis.fits.simultaneous import tied
from analysis.laws.rules import RIVALS, RULES, Rule
from analysis.studies.batch_scaling.regret import RuleReading, beyond, one_setting, read_rules
from analysis.studies.batch_scaling.table import Table
from analysis.tables.arrays import Bools, Floats

SAME = 0.95  # of a budget: from there on another one is the same, and says nothing of how a rule goes with T


@dataclass(frozen=True)
class Size:
    """The cells of one network size, as read and drawn; `drawn` is None without noise."""

    n_params: float
    observed: Table
    drawn: Table | None


@dataclass(frozen=True)
class SizeScore:
    """A rule's regret at a size in nats: its mean over budgets, and each budget's.

    `knows_size`: its prediction depends on N. `outside`: at how many budgets it lies beyond what was measured, where
    the regret is a bound from below. `tied`: it cannot be told apart from the lowest; None without noise.
    """

    rule: str
    title: str
    knows_size: bool
    regret: Estimate
    regrets: tuple[float, ...]
    outside: int
    tied: bool | None


@dataclass(frozen=True)
class SizeContest:
    """The scores at one network size, the lowest regret first, from optima of `anchor_params`.

    `tokens` are the held-out budgets, `anchors` those they were predicted from. `not_scored` are the rules that move
    more than was swept.
    """

    n_params: float
    anchor_params: float
    tokens: tuple[float, ...]
    anchors: tuple[float, ...]
    scores: tuple[SizeScore, ...]
    not_scored: tuple[str, ...]
    winner: str | None
    why: str
    outcome: Outcome
    lacks: Lacks = SETTLED


def contests_of_sizes(sizes: Sequence[Size], rules: Sequence[Rule] | None = None) -> tuple[SizeContest, ...]:
    """Every size but the smallest held out once, the largest last.

    `rules` are `RULES` and `RIVALS` by default.
    """
    given = [*(RULES | RIVALS).values()] if rules is None else list(rules)
    ordered = sorted(sizes, key=lambda size: size.n_params)
    found = [_contest(*pair, given) for pair in pairwise(ordered)]
    return tuple(each for each in found if each is not None)


def _contest(small: Size, large: Size, rules: Sequence[Rule]) -> SizeContest | None:
    tokens = large.observed.tokens
    every = [i for i, budget in enumerate(large.observed.budgets) if not one_setting(budget)]
    if not every:
        return None
    found = [_anchor(small.observed, float(tokens[i])) for i in every]
    longer = [at for at, anchor in enumerate(found) if small.observed.tokens[anchor] < SAME * tokens[every[at]]]
    kept = longer or range(len(every))
    held_out, anchors = [every[at] for at in kept], [found[at] for at in kept]
    sized = [rule.for_size(large.n_params) for rule in rules]
    fair = [rule for rule in sized if not rule.moves]
    measured = _read(small, large, held_out, anchors, fair, drawn=False)
    sampled = None
    if small.drawn is not None and large.drawn is not None:
        sampled = _regrets(_read(small, large, held_out, anchors, fair, drawn=True))
    return _scored(small, large, held_out, anchors, measured, sampled, [rule.name for rule in sized if rule.moves])


def _anchor(table: Table, tokens: float) -> int:
    """The budget that a prediction for `tokens` starts from: one with its best batch inside, if there is any."""
    every = range(len(table.budgets))
    known = [i for i in every if table.inside(i)] or list(every)
    return max((i for i in known if table.tokens[i] < SAME * tokens), default=known[0])


def _read(
    small: Size, large: Size, held_out: Sequence[int], anchors: Sequence[int], rules: Sequence[Rule], drawn: bool
) -> list[list[RuleReading]]:
    """For every held-out budget a reading of every rule, the power law of the smaller size last."""
    before, after = (small.drawn, large.drawn) if drawn else (small.observed, large.observed)
    assert before is not None
    assert after is not None
    known = [i for i in range(len(before.budgets)) if small.observed.inside(i)]
    fitted = [before.power_law(known)] if len(known) > 1 else []
    found = []
    for index, anchor in zip(held_out, anchors, strict=True):
        base = replace(before.point(anchor), n_params=small.n_params)
        lowest = int(large.observed.profiles[index].lowest[0])
        found.append(read_rules(after, index, lowest, base, [*rules, *fitted]))
    return found


def _regrets(readings: Sequence[Sequence[RuleReading]]) -> Floats:
    """Mean over budgets, (R, rules)."""
    return np.mean([np.stack([each.regret for each in budget], axis=-1) for budget in readings], axis=0)


def _scored(
    small: Size,
    large: Size,
    held_out: Sequence[int],
    anchors: Sequence[int],
    measured: Sequence[Sequence[RuleReading]],
    sampled: Floats | None,
    not_scored: Sequence[str],
) -> SizeContest:
    values = _regrets(measured)[0]
    ties = None if sampled is None else _tied(values, sampled)
    rules = [reading.rule for reading in measured[0]]
    scores = [
        SizeScore(
            rule=rule.name,
            title=rule.title,
            knows_size=rule.knows_size,
            regret=Estimate.of(values[i], None if sampled is None else sampled[:, i]),
            regrets=tuple(float(budget[i].regret[0]) for budget in measured),
            outside=sum(bool(budget[i].outside[0]) for budget in measured),
            tied=None if ties is None else bool(ties[i]),
        )
        for i, rule in enumerate(rules)
    ]
    order = np.argsort(values, kind="stable")
    ordered = tuple(scores[i] for i in order)
    outcome, why = _outcome(ordered)
    lacks = more_seeds(max(large.observed.budgets[i].n_seeds for i in held_out)) if outcome.open else SETTLED
    if outcome == Outcome.LEFT_OPEN:
        first = [(i, budget[order[0]]) for i, budget in zip(held_out, measured, strict=True)]
        lacks = Lacks.of([beyond(large.observed, i, float(r.setting[0][0])) for i, r in first if r.outside[0]])
    return SizeContest(
        n_params=large.n_params,
        anchor_params=small.n_params,
        tokens=tuple(float(large.observed.tokens[i]) for i in held_out),
        anchors=tuple(float(small.observed.tokens[i]) for i in anchors),
        scores=ordered,
        not_scored=tuple(not_scored),
        winner=None if outcome.open else ordered[0].rule,
        why=why,
        outcome=outcome,
        lacks=lacks,
    )


def _tied(values: Floats, drawn: Floats) -> Bools:
    """Which rules cannot be told apart from the lowest: infinite regrets can, sometimes infinite ones cannot."""
    steady = np.isfinite(values) & np.isfinite(drawn).all(axis=0)
    found = np.isfinite(values) & ~steady
    if steady.any():
        found[steady] = tied(values[steady], drawn[:, steady])
    return np.asarray(found)


def _outcome(scores: Sequence[SizeScore]) -> tuple[Outcome, str]:
    first = scores[0]
    if first.tied is None:
        return Outcome.CANNOT_TELL, "there is no measure of noise"
    if first.outside:
        return (
            Outcome.LEFT_OPEN,
            f"the predictions of {first.rule}, with the lowest regret, lie outside what was measured",
        )
    rivals = [score.rule for score in scores[1:] if score.tied]
    if rivals:
        return Outcome.TIED, f"{first.rule} has the lowest regret, but cannot be told apart from {', '.join(rivals)}"
    return Outcome.BEST, f"the regret of {first.rule} is below that of every other"

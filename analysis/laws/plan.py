"""A plan: from a tuned base run to a large one, by every rule, exact and as one would type it in.

For a rule that predicts B₁S₁ tokens a step at the budget T₁ (`analysis.laws.rules`)

    sequence length   S₁ = S₀: all growth goes into B. Or grown: S doubles with every factor 4 of B₁S₁/B₀S₀, which
                      splits the growth evenly between B and S, S in powers of two
    batch size        B₁ = B₁S₁/S₁, rounded to a power of two (the nearest in logarithm) or to a multiple, or down to
                      one; one that does not change is not rounded if it is whole
    learning rate     the rule's own at the *rounded* batch, such as lr₀·(B₁S₁/B₀S₀)/r for BST; where a rule's learning
                      rate does not depend on the batch, rounding does not move it
    α, λ, β₂          likewise where a rule moves them, else the base's; a weight α above 1 is 1
    steps             K = T₁/(B₁S₁), to the nearest whole one

With fitted runs (`analysis.laws.evidence`) the free power law is one of the rules, and has percentile intervals from
its resamples: they measure the noise of the fit, not whether a law holds beyond the measured budgets. With a joint
law of sizes and budgets (`analysis.laws.joint_evidence`) that is one, with intervals of the law and of a new optimum.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.fits.intervals import interval
from analysis.laws import doubts
from analysis.laws.evidence import Evidence
from analysis.laws.joint_evidence import JointEvidence
from analysis.laws.proposals import Choice, Interval, Plan, Proposal
from analysis.laws.rules import JointRule, Need, Point, PowerLaw, Rule
from analysis.tables.arrays import Floats
from scionlab.errors import UserError, option

ROUNDING = 1e-9  # rounded down, a batch this far below a multiple is that multiple: 8^(2/3) is computed as 3.9999…


@dataclass(frozen=True)
class Target:
    """What is asked for: a budget, and how to type the answer in.

    `tokens`    the budget T₁
    `n_params`  parameters of the large network without embedding, for rules that depend on them; by default not known
    `multiple`  sequences: batch sizes are rounded to multiples of it; to powers of two if it is None, the default
    `grow_seq`  whether growth is split between batch size and sequence length; by default the batch takes all
    `down`      whether batch sizes are rounded down; by default they go to the nearest
    `seq_len_alone`  S₁ in tokens where there is no base to take it from, 2048 by default
    `further`   depth and width of the large network by name, where they are known
    """

    tokens: float
    multiple: int | None = None
    grow_seq: bool = False
    down: bool = False
    n_params: float | None = None
    seq_len_alone: float = 2048.0
    further: Mapping[str, float] = field(default_factory=dict)

    @property
    def resources(self) -> dict[str, float]:
        """What is known of the large run's size and budget, by the names of a joint law's resources."""
        size = {} if self.n_params is None else {"n_params": self.n_params}
        return {**size, "tokens": self.tokens, **self.further}

    def rounded(self, batch_size: float) -> int:
        """The nearest allowed batch size, or with `down` the next below; never under one sequence or one multiple."""
        if self.multiple is None:
            return int(2 ** max(0, self._whole(math.log2(batch_size))))
        return self.multiple * max(1, self._whole(batch_size / self.multiple))

    def _whole(self, value: float) -> int:
        return math.floor(value + ROUNDING) if self.down else round(value)

    def seq_len(self, base: Point, growth: float) -> float:
        """S₁ for a batch that grows by `growth` in tokens; it never shrinks."""
        doublings = max(0, math.floor(math.log2(growth) / 2)) if self.grow_seq else 0
        return float(base.seq_len) * 2**doublings


def make_plan(
    base: Point | None,
    target: Target,
    rules: Sequence[Rule],
    evidence: Evidence | None = None,
    joint: JointEvidence | None = None,
    origin: str = "",
) -> Plan:
    """What every rule advises, in the order of `rules`; without a `base` these must be absolute.

    `evidence` and `joint` are the fits behind the power law and the joint law; `origin` says what the base is. A rule
    that needs more than base and target say is left out, with a warning. UserError where one gives no finite numbers,
    or none is left.
    """
    n_params, tokens = target.n_params, target.tokens
    start = base or nowhere(tokens, target.seq_len_alone)
    sized = [rule.for_size(n_params) for rule in rules]
    left_out = {rule.name: rule.lacking(start, n_params) for rule in sized}
    usable = [rule for rule in sized if not left_out[rule.name]]
    needs = [f"{name} is left out: it needs {_options(lacks)}" for name, lacks in left_out.items() if lacks]
    if needs and not usable:
        raise UserError(f"rules: {'; '.join(needs)}")
    proposals = tuple(_propose(rule, start, target, evidence, base is not None) for rule in usable)
    optimizer = evidence.optimizer if evidence else joint.source if joint else None
    asked = joint if any(isinstance(rule, JointRule) for rule in usable) else None
    of_rules = [text for p in proposals for text in doubts.of_proposal(p, tokens, optimizer)]
    of_joint = [] if asked is None else doubts.of_joint(asked, target.resources)
    return Plan(
        tokens=tokens,
        base=base,
        proposals=proposals,
        warnings=(
            *(doubts.distance(base, tokens, evidence) if evidence or not asked else ()),
            *of_joint,
            *doubts.of_unused(asked, target.further),
            *doubts.of_size(base, n_params, usable),
            *of_rules,
            *needs,
        ),
        optimizer=optimizer,
        n_params=n_params,
        further=target.further,
        origin=origin,
        lead=_lead(usable, target, base, evidence, asked),
        joint=asked,
    )


def nowhere(tokens: float, seq_len: float) -> Point:
    """What absolute rules are given for a base: nothing of it is read but the sequence length."""
    return Point(tokens, math.nan, seq_len, math.nan, momentum=None)


def _lead(
    rules: Sequence[Rule], target: Target, base: Point | None, evidence: Evidence | None, joint: JointEvidence | None
) -> str | None:
    """The fitted rule that is not far outside of what it was fitted to: the joint law, else the power law."""
    names = {type(rule): rule.name for rule in rules}
    if joint is not None and not doubts.is_far(joint, target.resources):
        return names[JointRule]
    if evidence is None or base is None or PowerLaw not in names:
        return None
    if target.n_params is not None and (base.n_params is None or doubts.of_size(base, target.n_params, list(rules))):
        return None  # it is of one size, and not known to be of this
    low, high = evidence.tokens
    return names[PowerLaw] if low / doubts.FAR <= target.tokens <= high * doubts.FAR else None


def _options(needs: Sequence[Need]) -> str:
    return " and ".join(option(need) for need in needs)


def _propose(rule: Rule, base: Point, target: Target, evidence: Evidence | None, real: bool) -> Proposal:
    """By one rule; a base that is not `real` has nothing to grow from."""
    setting = rule.predict(base, target.tokens)
    batch_tokens, lr = float(setting.batch_tokens), float(setting.lr)
    growth = float(batch_tokens / base.batch_tokens) if real else None
    if not all(0 < value < math.inf for value in (batch_tokens, lr)):
        raise UserError(
            f"tokens: {target.tokens:g} is out of reach of rule {rule.name!r}, which gives {batch_tokens:g} tokens a "
            f"step at lr {lr:g}; choose a budget and constants nearer to the base"
        )
    seq_len = target.seq_len(base, growth or 1.0)
    # A whole batch that does not change is one the user trains with already: rounding it would be a change.
    same = growth is not None and math.isclose(growth, 1, rel_tol=1e-9) and float(base.batch_size).is_integer()
    batch_size = float(base.batch_size) if same else target.rounded(batch_tokens / seq_len)
    there = rule.at(base, target.tokens, batch_size * seq_len)
    steps = max(1, round(target.tokens / (batch_size * seq_len)))
    law, new = _intervals(rule, base, target.tokens, seq_len, evidence)
    return Proposal(
        rule=rule,
        growth=growth,
        exact=Choice.of(setting, batch_tokens / seq_len, seq_len, target.tokens / batch_tokens),
        rounded=Choice.of(there, batch_size, seq_len, steps),
        interval=law,
        new_optimum=new,
        cut_off=there.momentum is not None and float(there.momentum) > 1,
    )


def _intervals(
    rule: Rule, base: Point, tokens: float, seq_len: float, evidence: Evidence | None
) -> tuple[Interval | None, Interval | None]:
    """Of the law, and of a new optimum; the joint law has both, the power law the first, the other rules none."""
    if isinstance(rule, JointRule):
        return _joint_intervals(rule, tokens, seq_len)
    if evidence is None or evidence.resampled is None or rule is not evidence.power_law:
        return None, None
    drawn = evidence.resampled.predict(base, tokens)
    batch_low, batch_high = interval(np.asarray(drawn.batch_tokens / seq_len))
    lr_low, lr_high = interval(np.asarray(drawn.lr))
    if batch_low is None or batch_high is None or lr_low is None or lr_high is None:
        return None, None
    return Interval(batch_low, batch_high, lr_low, lr_high), None


def _joint_intervals(rule: JointRule, tokens: float, seq_len: float) -> tuple[Interval | None, Interval | None]:
    units = {"batch_size": ("batch_tokens", seq_len), "lr": ("lr", 1.0)}
    units |= {same: (same, 1.0) for same in ("momentum", "weight_decay")}
    law: dict[str, float] = {}
    new: dict[str, float] = {}
    for name, (quantity, unit) in units.items():
        found = rule.prediction(quantity, tokens)
        if found is None or found.low is None:
            continue
        law |= _ends(name, found.low, found.high, unit)
        new |= _ends(name, found.new_low, found.new_high, unit)
    return (Interval(**law), Interval(**new)) if law else (None, None)


def _ends(name: str, low: Floats | None, high: Floats | None, unit: float) -> dict[str, float]:
    """The two ends by the fields of `Interval`; `unit` is what one of the field's units has."""
    return {f"{name}_{end}": float(value) / unit for end, value in (("low", low), ("high", high)) if value is not None}

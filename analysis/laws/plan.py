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
its resamples: they measure the noise of the fit, not whether a law holds beyond the measured budgets.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.intervals import CONFIDENCE, interval
from analysis.laws.evidence import Evidence
from analysis.laws.rules import Need, Point, Rule, Setting
from scionlab.errors import UserError

ROUNDING = 1e-9  # rounded down, a batch this far below a multiple is that multiple: 8^(2/3) is computed as 3.9999…
UNKNOWN = "–"
FAR = 10  # a budget this many times beyond the measured ones is called far


@dataclass(frozen=True)
class Choice:
    """Hyperparameters of the large run; `steps` may be a fraction, and None is what is not known of the base."""

    batch_size: float
    seq_len: float
    lr: float
    momentum: float | None
    steps: float
    weight_decay: float | None = None
    beta2: float | None = None

    @classmethod
    def of(cls, setting: Setting, batch_size: float, seq_len: float, steps: float) -> "Choice":
        """What a rule says, with the batch as it is typed in."""
        momentum, decay, beta2 = (
            None if value is None else float(value) for value in (setting.momentum, setting.weight_decay, setting.beta2)
        )
        alpha = None if momentum is None else min(1.0, momentum)
        return cls(batch_size, seq_len, float(setting.lr), alpha, steps, decay, beta2)

    @property
    def batch_tokens(self) -> float:
        """B·S, tokens a step."""
        return self.batch_size * self.seq_len

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return _whole({**asdict(self), "batch_tokens": self.batch_tokens})


@dataclass(frozen=True)
class Interval:
    """Of a rule's exact batch size and learning rate."""

    batch_size_low: float
    batch_size_high: float
    lr_low: float
    lr_high: float

    def text(self) -> str:
        """As a clause."""
        return (
            f"batch size {_size(self.batch_size_low)} to {_size(self.batch_size_high)}, "
            f"lr {self.lr_low:.2e} to {self.lr_high:.2e}"
        )


@dataclass(frozen=True)
class Proposal:
    """What a rule advises; `growth` is the exact B₁S₁/B₀S₀, `interval` None where there is nothing to resample.

    `cut_off`: the rule's α is above 1, and 1 was taken.
    """

    rule: Rule
    growth: float
    exact: Choice
    rounded: Choice
    interval: Interval | None
    cut_off: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rule": self.rule.name,
            "title": self.rule.title,
            "source": self.rule.source,
            "note": self.rule.note,
            "certainty": self.rule.certainty,
            "growth": self.growth,
            "exact": self.exact.as_dict(),
            "rounded": self.rounded.as_dict(),
            "interval": asdict(self.interval) if self.interval else None,
        }


@dataclass(frozen=True)
class Plan:
    """All proposals for a budget of `tokens` from `base`, and sentences on what to distrust."""

    tokens: float
    base: Point
    proposals: tuple[Proposal, ...]
    warnings: tuple[str, ...]
    optimizer: str | None = None

    def frame(self) -> pd.DataFrame:
        """One row per rule, as text for a terminal; λ and β₂ where some rule knows them."""
        table = pd.DataFrame(
            {
                "rule": p.rule.name,
                "growth": f"×{p.growth:.2f}",
                "batch size": f"{p.rounded.batch_size:,.12g}",
                "exact": _size(p.exact.batch_size),
                "seq_len": f"{p.rounded.seq_len:,.12g}",
                "lr": f"{p.rounded.lr:.2e}",
                "exact lr": f"{p.exact.lr:.2e}",
                "momentum": _known(p.rounded.momentum),
                "λ": _known(p.rounded.weight_decay),
                "β₂": _known(p.rounded.beta2),
                "steps": f"{p.rounded.steps:,.0f}",
            }
            for p in self.proposals
        )
        return table.drop(columns=[name for name in ("λ", "β₂") if (table[name] == UNKNOWN).all()])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        base = {**asdict(self.base), "batch_tokens": self.base.batch_tokens, "steps": self.base.steps}
        budgets = _whole({"tokens": self.tokens, "growth_of_tokens": self.tokens / self.base.tokens})
        return {
            **budgets,
            "optimizer": self.optimizer,
            "base": _whole(base),
            "confidence": CONFIDENCE,
            "rules": [p.as_dict() for p in self.proposals],
            "warnings": list(self.warnings),
        }


def _whole(fields: dict[str, Any]) -> dict[str, Any]:
    """Whole numbers without a decimal point, as configuration files want them."""
    return {k: int(v) if isinstance(v, float) and v.is_integer() and k != "lr" else v for k, v in fields.items()}


def _known(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:g}"


def _size(batch_size: float) -> str:
    """An exact batch size to a tenth of a sequence, or to three digits where that is nothing."""
    return f"{batch_size:,.1f}" if batch_size >= 10 else f"{batch_size:.3g}"


@dataclass(frozen=True)
class Target:
    """What is asked for: a budget, and how to type the answer in.

    `tokens`    the budget T₁
    `n_params`  parameters of the large network without embedding, for rules that depend on them; by default not known
    `multiple`  sequences: batch sizes are rounded to multiples of it; to powers of two if it is None, the default
    `grow_seq`  whether growth is split between batch size and sequence length; by default the batch takes all
    `down`      whether batch sizes are rounded down; by default they go to the nearest
    """

    tokens: float
    multiple: int | None = None
    grow_seq: bool = False
    down: bool = False
    n_params: float | None = None

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


def make_plan(base: Point, target: Target, rules: Sequence[Rule], evidence: Evidence | None = None) -> Plan:
    """What every rule advises, in the order of `rules`.

    A rule that needs more than base and target say is left out, with a warning. UserError where one gives no finite
    numbers, or none is left.
    """
    sized = [rule.for_size(target.n_params) for rule in rules]
    left_out = {rule.name: rule.lacking(base, target.n_params) for rule in sized}
    usable = [rule for rule in sized if not left_out[rule.name]]
    needs = [f"{name} is left out: it needs {_options(lacks)}" for name, lacks in left_out.items() if lacks]
    if needs and not usable:
        raise UserError(f"rules: {'; '.join(needs)}")
    proposals = tuple(_propose(rule, base, target, evidence) for rule in usable)
    doubts = [text for p in proposals for text in _doubts(p, target, evidence)]
    return Plan(
        tokens=target.tokens,
        base=base,
        proposals=proposals,
        warnings=(*_distance(base, target, evidence), *doubts, *needs),
        optimizer=evidence.optimizer if evidence else None,
    )


def _options(needs: Sequence[Need]) -> str:
    return " and ".join(f"--{need}" for need in needs)


def _propose(rule: Rule, base: Point, target: Target, evidence: Evidence | None) -> Proposal:
    setting = rule.predict(base, target.tokens)
    batch_tokens, lr = float(setting.batch_tokens), float(setting.lr)
    growth = float(batch_tokens / base.batch_tokens)
    if not all(0 < value < math.inf for value in (growth, lr)):
        raise UserError(
            f"tokens: {target.tokens:g} is out of reach of rule {rule.name!r}, which gives {batch_tokens:g} tokens a "
            f"step at lr {lr:g}; choose a budget and constants nearer to the base"
        )
    seq_len = target.seq_len(base, growth)
    # A whole batch that does not change is one the user trains with already: rounding it would be a change.
    same = math.isclose(growth, 1, rel_tol=1e-9) and float(base.batch_size).is_integer()
    batch_size = float(base.batch_size) if same else target.rounded(batch_tokens / seq_len)
    there = rule.at(base, target.tokens, batch_size * seq_len)
    steps = max(1, round(target.tokens / (batch_size * seq_len)))
    return Proposal(
        rule=rule,
        growth=growth,
        exact=Choice.of(setting, batch_tokens / seq_len, seq_len, target.tokens / batch_tokens),
        rounded=Choice.of(there, batch_size, seq_len, steps),
        interval=_interval(rule, base, target.tokens, seq_len, evidence),
        cut_off=there.momentum is not None and float(there.momentum) > 1,
    )


def _interval(rule: Rule, base: Point, tokens: float, seq_len: float, evidence: Evidence | None) -> Interval | None:
    """The power law's; the other rules have no resamples."""
    if evidence is None or evidence.resampled is None or rule is not evidence.power_law:
        return None
    drawn = evidence.resampled.predict(base, tokens)
    batch_low, batch_high = interval(np.asarray(drawn.batch_tokens / seq_len))
    lr_low, lr_high = interval(np.asarray(drawn.lr))
    if batch_low is None or batch_high is None or lr_low is None or lr_high is None:
        return None
    return Interval(batch_low, batch_high, lr_low, lr_high)


def _distance(base: Point, target: Target, evidence: Evidence | None) -> list[str]:
    """What to distrust in the base point and in the way from it to the plan."""
    tokens, texts = target.tokens, []
    low, high = evidence.tokens if evidence else (float(base.tokens), float(base.tokens))
    if tokens > FAR * high:
        texts.append(f"{tokens:.4g} tokens are {tokens / high:.0f} times the largest budget measured ({high:.4g})")
    if tokens < low / FAR:
        texts.append(
            f"{tokens:.4g} tokens are {low / tokens:.0f} times less than the smallest budget measured ({low:.4g})"
        )
    if evidence is None:
        return texts
    name = repr(evidence.optimizer)
    if evidence.at_edge:
        texts.append(f"the base point of {name} lies at the edge of its grid: the best batch size or lr may lie beyond")
    elif not evidence.resolved:
        texts.append(f"the base point of {name} is not resolved by its grid")
    if evidence.power_law is None:
        texts.append(f"the fit of {name} has no free power law: that needs optima at two or more budgets")
    return texts


def _doubts(proposal: Proposal, target: Target, evidence: Evidence | None) -> list[str]:
    """What to distrust in one proposal."""
    name, tokens, texts = proposal.rule.name, target.tokens, []
    if proposal.exact.batch_size < 1:
        texts.append(f"{name}: the batch is {proposal.exact.batch_size:.3g} of a sequence; at least one was taken")
    if proposal.rounded.batch_tokens > tokens:
        step = proposal.rounded.batch_tokens
        texts.append(f"{name}: one step of {step:.4g} tokens is more than the whole budget of {tokens:.4g}")
    if proposal.cut_off:
        texts.append(f"{name}: its momentum is above 1, the weight of a gradient without memory; 1 was taken")
    adam = evidence is not None and evidence.optimizer.startswith("adam")
    if name.startswith("steplaw") and not adam:
        texts.append(f"{name} was measured for AdamW: for another optimizer it is a comparison, not advice")
    return texts

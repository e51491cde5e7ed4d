"""What a plan is: what every rule advises, exact and as typed in, and how far the rules are apart."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import pandas as pd

from analysis.fits.intervals import CONFIDENCE
from analysis.laws.joint import FURTHER
from analysis.laws.joint_evidence import JointEvidence
from analysis.laws.launch_sheet import UNKNOWN, launch_sheet
from analysis.laws.rules import Point, Rule, Setting

NAMES = {
    "batch_size": "batch size",
    "batch_tokens": "tokens a step",
    "lr": "lr",
    "momentum": "momentum",
    "weight_decay": "weight decay",
}


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
    """Of a rule's exact batch size, learning rate and, where it has a law of them, momentum and weight decay.

    None is what the rule has no interval of.
    """

    batch_size_low: float | None = None
    batch_size_high: float | None = None
    lr_low: float | None = None
    lr_high: float | None = None
    momentum_low: float | None = None
    momentum_high: float | None = None
    weight_decay_low: float | None = None
    weight_decay_high: float | None = None

    def ends(self) -> dict[str, str]:
        """What is known as texts, "low to high", by the fields of `Choice`."""
        forms = {
            "batch_size": _size,
            "lr": "{:.2e}".format,
            "momentum": "{:.3g}".format,
            "weight_decay": "{:.3g}".format,
        }
        found = {}
        for name, form in forms.items():
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if low is not None and high is not None:
                found[name] = f"{form(low)} to {form(high)}"
        return found

    def text(self) -> str:
        """As a clause."""
        return ", ".join(f"{NAMES[name]} {ends}" for name, ends in self.ends().items())


@dataclass(frozen=True)
class Proposal:
    """What a rule advises; `growth` is the exact B₁S₁/B₀S₀, None without a base.

    `interval` is that of the rule's law, `new_optimum` that of an optimum which scatters about it as those it was
    fitted to; None where there is nothing to resample. `cut_off`: the rule's α is above 1, and 1 was taken.
    """

    rule: Rule
    growth: float | None
    exact: Choice
    rounded: Choice
    interval: Interval | None
    cut_off: bool = False
    new_optimum: Interval | None = None

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
            "new_optimum": asdict(self.new_optimum) if self.new_optimum else None,
        }


@dataclass(frozen=True)
class Spread:
    """The smallest and largest exact value of `quantity` (batch_tokens or lr) of all rules, and whose they are."""

    quantity: str
    low: float
    high: float
    lowest: str
    highest: str

    @classmethod
    def of(cls, quantity: str, proposals: Sequence[Proposal]) -> Self:
        """Over one proposal or more."""
        found = {proposal.rule.name: float(getattr(proposal.exact, quantity)) for proposal in proposals}
        lowest, highest = min(found, key=lambda name: found[name]), max(found, key=lambda name: found[name])
        return cls(quantity, found[lowest], found[highest], lowest, highest)

    @property
    def factor(self) -> float:
        """The largest over the smallest."""
        return self.high / self.low

    def text(self) -> str:
        """As a clause."""
        form = "{:.3g}" if self.quantity == "batch_tokens" else "{:.2e}"
        return (
            f"{NAMES[self.quantity]} from {form.format(self.low)} ({self.lowest}) to {form.format(self.high)} "
            f"({self.highest}), ×{self.factor:.1f}"
        )


@dataclass(frozen=True)
class Plan:
    """All proposals for a budget of `tokens` from `base`, and sentences on what to distrust.

    `base` is None where no rule needs one, `n_params` where the size is not known; `further` has depth and width where
    they are. `origin` says what the base is, `lead` names the fitted rule that the measured range speaks for, `joint`
    is the fit behind the joint law.
    """

    tokens: float
    base: Point | None
    proposals: tuple[Proposal, ...]
    warnings: tuple[str, ...]
    optimizer: str | None = None
    n_params: float | None = None
    further: Mapping[str, float] = field(default_factory=dict)
    origin: str = ""
    lead: str | None = None
    joint: JointEvidence | None = None

    @property
    def asked(self) -> str:
        """The large run in words: its size, depth and width where they are known, and its budget."""
        size = "" if self.n_params is None else f"{self.n_params:.4g} parameters, "
        shape = "".join(f"{name} {value:.4g}, " for name, value in self.further.items())
        return f"{size}{shape}{self.tokens:.4g} tokens"

    @property
    def spread(self) -> tuple[Spread, ...]:
        """How far the rules are apart, in tokens a step and in learning rate."""
        return tuple(Spread.of(quantity, self.proposals) for quantity in ("batch_tokens", "lr"))

    def spread_text(self) -> str:
        """The same as a sentence."""
        return f"spread of {len(self.proposals)} rules: " + "; ".join(each.text() for each in self.spread)

    def frame(self) -> pd.DataFrame:
        """One row per rule, as text for a terminal; λ, β₂ and growth where some rule knows them."""
        table = pd.DataFrame(
            {
                "rule": p.rule.name,
                "growth": UNKNOWN if p.growth is None else f"×{p.growth:.2f}",
                "batch size": f"{p.rounded.batch_size:,.12g}",
                "exact": _size(p.exact.batch_size),
                "seq_len": f"{p.rounded.seq_len:,.12g}",
                "lr": f"{p.rounded.lr:.2e}",
                "exact lr": f"{p.exact.lr:.2e}",
                "momentum": known(p.rounded.momentum),
                "λ": known(p.rounded.weight_decay),
                "β₂": known(p.rounded.beta2),
                "steps": f"{p.rounded.steps:,.0f}",
            }
            for p in self.proposals
        )
        return table.drop(columns=[name for name in ("growth", "λ", "β₂") if (table[name] == UNKNOWN).all()])

    def sheet(self) -> str:
        """What a launch needs, as Markdown."""
        return launch_sheet(self)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        base = None
        if self.base is not None:
            base = {**asdict(self.base), "batch_tokens": self.base.batch_tokens, "steps": self.base.steps}
        growth = None if self.base is None else self.tokens / self.base.tokens
        return {
            **_whole({"tokens": self.tokens, "growth_of_tokens": growth, "n_params": self.n_params}),
            **{name: _whole(self.further).get(name) for name in FURTHER},
            "optimizer": self.optimizer,
            "base": None if base is None else _whole(base),
            "origin": self.origin,
            "confidence": CONFIDENCE,
            "rules": [p.as_dict() for p in self.proposals],
            "spread": [{**asdict(each), "factor": each.factor} for each in self.spread],
            "lead": self.lead,
            "joint": None if self.joint is None else self.joint.about(),
            "warnings": list(self.warnings),
        }


def _whole(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Whole numbers without a decimal point, as configuration files want them."""
    return {k: int(v) if isinstance(v, float) and v.is_integer() and k != "lr" else v for k, v in fields.items()}


def known(value: float | None) -> str:
    """A number as text, or a dash."""
    return UNKNOWN if value is None else f"{value:g}"


def _size(batch_size: float) -> str:
    """An exact batch size to a tenth of a sequence, or to three digits where that is nothing."""
    return f"{batch_size:,.1f}" if batch_size >= 10 else f"{batch_size:.3g}"

"""The batch-scaling fit as frozen values, their JSON and their tables."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import pandas as pd

from analysis.fits.intervals import CONFIDENCE, RESAMPLES, Estimate
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Outcome, record
from analysis.fits.profile import TOLERANCE
from analysis.laws.constants import Constants
from analysis.laws.critical_batch import CriticalBatch
from analysis.laws.scaling_laws import ScalingLaw
from analysis.studies.batch_scaling.exponents import Exponent
from analysis.studies.batch_scaling.momentum import Momenta
from analysis.studies.batch_scaling.regret import Contest
from analysis.studies.batch_scaling.sizes import SizeContest, SizeScore
from analysis.studies.batch_scaling.surface import Surface


@dataclass(frozen=True)
class CellOptimum:
    """Best learning rate at one (T, B, S) and the loss there, in nats. `tied`: not told apart from the best cell."""

    tokens: float
    batch_size: float
    seq_len: float
    batch_tokens: float
    lr: Estimate
    loss: Estimate
    at_edge: bool
    resolved: bool
    tied: bool | None
    n_seeds: int
    n_diverged: int


@dataclass(frozen=True)
class BudgetOptimum:
    """Best batch and largest batch without loss of one budget, in tokens a step, and the best learning rate at each.

    `tolerance` is what the largest batch may cost, in nats. `seq_len` is the sequence length of the smallest batch.
    `tied` are the batches, and `tied_lrs` the measured rates at the best one, that resamples cannot tell from the best;
    None without noise.
    """

    tokens: float
    batch: Estimate
    batch_at_edge: bool
    lr: Estimate
    lr_resolved: bool
    largest: Estimate
    largest_at_edge: bool
    tolerance: float
    lr_largest: Estimate
    lr_largest_resolved: bool
    loss: float
    tied: tuple[float, ...] | None
    seq_len: float
    tied_lrs: tuple[float, ...] | None
    lacks: Lacks = SETTLED

    @property
    def verdict(self) -> Outcome:
        """Whether best batch and rate are known; what is not, is `lacks`."""
        return Outcome.FOUND if self.lr_resolved and not self.batch_at_edge else Outcome.CANNOT_TELL


@dataclass(frozen=True)
class Sensitivity:
    """Exponents of batch and learning rate when one choice of the fit is made otherwise."""

    choice: str
    batch: Estimate | None
    lr: Estimate | None


@dataclass(frozen=True)
class PowerLawFit:
    """BS* and γ* as lines in log₂ through the budgets, at the base budget."""

    batch_exponent: float
    lr_exponent: float
    log2_batch_at_base: float
    log2_lr_at_base: float


@dataclass(frozen=True)
class PlanBase:
    """What `scionlab plan --results` needs: the largest budget's optimum and the free power law with its resamples.

    `samples` holds (batch exponent, log₂ batch, lr exponent, log₂ lr) at the base budget.
    """

    base: dict[str, float | None]
    at_edge: bool
    resolved: bool
    tokens_min: float
    tokens_max: float
    samples: tuple[tuple[float, float, float, float], ...]
    power_law: PowerLawFit | None


@dataclass(frozen=True)
class OptimizerScaling:
    """Everything found about one optimizer. `noise_source`: "seeds", "roughness" or "none"; `noise` in nats."""

    optimizer: str
    momentum: float | None
    noise: float
    noise_source: str
    n_seeds: int
    cells: tuple[CellOptimum, ...]
    budgets: tuple[BudgetOptimum, ...]
    exponents: tuple[Exponent, ...]
    surfaces: tuple[Surface, ...]
    sensitivity: tuple[Sensitivity, ...]
    momenta: Momenta | None
    forward: Contest | None
    contests: tuple[Contest, ...]
    constants: Constants | None
    critical: CriticalBatch | None
    plan: PlanBase | None

    def exponent(self, name: str) -> Exponent | None:
        """The exponent of that name, if it was fitted."""
        return next((e for e in self.exponents if e.name == name), None)

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """The exponents, or of one budget its setting, then the contest of rules, the momentum and its theory."""
        found = [Judgement(e.name, e.verdict, e.lacks) for e in self.exponents if len(self.budgets) != 1]
        found += [Judgement("best setting", b.verdict, b.lacks) for b in self.budgets if len(self.budgets) == 1]
        if self.forward:
            found.append(Judgement("rules", self.forward.outcome, self.forward.lacks))
        if self.momenta:
            found.append(Judgement("momentum", self.momenta.verdict, self.momenta.lacks))
            found.append(Judgement("momentum and theory", self.momenta.slopes.outcome, self.momenta.slopes.lacks))
        return tuple(replace(judgement, of=f"{self.optimizer}, {judgement.of}") for judgement in found)


@dataclass(frozen=True)
class OptimizerLaw:
    """A scaling law over all network sizes of one optimizer."""

    optimizer: str
    law: ScalingLaw


@dataclass(frozen=True)
class OptimizerSizes:
    """Rules of one optimizer at a network size that they have not seen."""

    optimizer: str
    contest: SizeContest


@dataclass(frozen=True)
class BatchScaling:
    """The fit of one table of runs; `sizes` where an optimizer's networks have several."""

    optimizers: tuple[OptimizerScaling, ...]
    laws: tuple[OptimizerLaw, ...]
    sizes: tuple[OptimizerSizes, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "without_loss_within_share": TOLERANCE,
            "optimizers": [_with_law_of_kappa(found) for found in self.optimizers],
            "laws": [{"optimizer": each.optimizer, **each.law.as_dict()} for each in self.laws],
            "sizes": [{"optimizer": each.optimizer, **record(each.contest)} for each in self.sizes],
        }

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables, by the name of their CSV."""
        of = self.optimizers
        contests = [(o, c) for o in of for c in o.contests]
        return {
            "batch_scaling_cells": _frame((o, cell) for o in of for cell in o.cells),
            "batch_scaling_budgets": _frame((o, budget) for o in of for budget in o.budgets),
            "batch_scaling_exponents": _frame((o, exponent) for o in of for exponent in o.exponents),
            "batch_scaling_surfaces": _frame((o, surface) for o in of for surface in o.surfaces),
            "batch_scaling_sensitivity": _frame((o, line) for o in of for line in o.sensitivity),
            "batch_scaling_momentum": _frame((o, m) for o in of if o.momenta for m in o.momenta.optima),
            "batch_scaling_momentum_slopes": _frame((o, o.momenta.slopes) for o in of if o.momenta),
            "batch_scaling_critical": _named((o.optimizer, o.critical.frame()) for o in of if o.critical),
            "batch_scaling_laws": _named((each.optimizer, each.law.frame()) for each in self.laws),
            "batch_scaling_rules": _frame(((o, s) for o, c in contests for s in c.scores), rule_budgets(contests)),
            "batch_scaling_sizes": pd.DataFrame(row for each in self.sizes for row in _size_rows(each)),
        }

    def judgements(self) -> tuple[Judgement, ...]:
        """Those of every optimizer, then of rules at the sizes held out."""
        found = [judgement for scaling in self.optimizers for judgement in scaling.judgements]
        for each in self.sizes:
            of = f"{each.optimizer}, rules at {each.contest.n_params:,.0f} parameters"
            found.append(Judgement(of, each.contest.outcome, each.contest.lacks))
        return tuple(found)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """Titled tables of texts for a terminal."""
        found = []
        for scaling in self.optimizers:
            if scaling.budgets:
                found.append((f"{scaling.optimizer}: best settings", pd.DataFrame(map(optimum_row, scaling.budgets))))
            if len(scaling.budgets) != 1:  # of one budget there is no exponent
                found.append((f"{scaling.optimizer}: exponents", _exponent_texts(scaling.exponents)))
            if scaling.forward:
                title = f"{scaling.optimizer}: rules at {scaling.forward.tokens:,.0f} tokens ({scaling.forward.why})"
                found.append((title, _score_texts(scaling.forward)))
        for each in self.sizes:
            title = f"{each.optimizer}: rules at {each.contest.n_params:,.0f} parameters ({each.contest.why})"
            found.append((title, pd.DataFrame(map(size_row, each.contest.scores))))
        if not self.optimizers:  # nothing but laws was asked for
            found += [
                (f"{of.optimizer}: {of.law.form.name} law ({of.law.status})", _law_texts(of.law)) for of in self.laws
            ]
        return found


def _with_law_of_kappa(found: OptimizerScaling) -> dict[str, Any]:
    """As a dictionary, with κ(B) ∝ B^exponent in the words of `scionlab plan`."""
    fields = record(found)
    if found.constants and found.constants.kappa_batch_exponent is not None:
        fields["constants"] |= {
            "kappa_batch_exponent": found.constants.kappa_batch_exponent,
            "kappa_batch_shift": 0.0,
        }
    return fields


def rule_budgets(contests: Iterable[tuple[OptimizerScaling, Contest]]) -> list[dict[str, float]]:
    """The held-out budget of every score."""
    return [{"held_out_tokens": c.tokens} for _, c in contests for _ in c.scores]


def flat(record: Any) -> dict[str, Any]:
    """A dataclass as one row: an Estimate becomes three columns, a tuple a text."""
    row: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Estimate):
            row |= value.columns(field.name)
        elif isinstance(value, tuple):
            row[field.name] = " ".join(f"{item:g}" for item in value)
        elif not is_dataclass(value):
            row[field.name] = value
    return row


def _frame(
    records: Iterable[tuple[OptimizerScaling, Any]], extra: list[dict[str, float]] | None = None
) -> pd.DataFrame:
    rows: Iterator[dict[str, Any]] = ({"optimizer": o.optimizer, **flat(record)} for o, record in records)
    return pd.DataFrame(row | (extra[i] if extra else {}) for i, row in enumerate(rows))


def _named(frames: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Tables one below the other, with their optimizer."""
    named = [frame.assign(optimizer=name) for name, frame in frames if not frame.empty]
    return pd.concat(named, ignore_index=True) if named else pd.DataFrame()


def implied_text(exponent: Exponent, form: str) -> str:
    """What the rule implies for an exponent: a value or a range."""
    low, high = (f"{end:+{form}}" for end in exponent.implied)
    return low if low == high else f"{low} to {high}"


def published_text(exponents: tuple[float, ...] | None) -> str:
    """Published exponents of the batch; – where none is compared."""
    return "–" if exponents is None else ", ".join(f"{each:.3g}" for each in exponents) or "none"


def optimum_row(b: BudgetOptimum) -> dict[str, str]:
    """A budget's best batch and rate with their intervals and ties; batches in sequences of `seq_len` tokens."""
    return {
        "tokens": f"{b.tokens:.4g}",
        "best batch": b.batch.times(1 / b.seq_len).text(".4g") + (" (grid's edge)" if b.batch_at_edge else ""),
        "in tokens": f"{b.batch.value:,.0f}",
        "tied batches": ", ".join(f"{t / b.seq_len:g}" for t in b.tied or ()),
        "best lr": b.lr.text(".3g") + ("" if b.lr_resolved else " (grid's edge)"),
        "tied lrs": ", ".join(f"{lr:.3g}" for lr in b.tied_lrs or ()),
    }


def size_row(score: SizeScore) -> dict[str, str]:
    """A rule's mean regret at a size that was held out, as texts."""
    return {
        "rule": score.rule,
        "says": score.title,
        "knows N": "yes" if score.knows_size else "",
        "mean regret": ("≥ " if score.outside else "") + score.regret.text(".4f"),
        "not told apart": "–" if score.tied is None else "yes" if score.tied else "",
    }


def _size_rows(each: OptimizerSizes) -> list[dict[str, Any]]:
    """Every score with the size and budgets that it is of."""
    contest = each.contest
    sizes = {"n_params": contest.n_params, "anchor_params": contest.anchor_params}
    tokens = " ".join(f"{budget:g}" for budget in contest.tokens)
    return [{"optimizer": each.optimizer, **sizes, "held_out_tokens": tokens, **flat(s)} for s in contest.scores]


def _exponent_texts(exponents: Iterable[Exponent]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "exponent of": e.name,
            "estimate": e.estimate.text("+.2f") if e.estimate else "–",
            "rule implies": implied_text(e, ".2f"),
            "contains": published_text(e.contains),
            "excludes": published_text(e.excludes),
            "verdict": e.verdict,
            "note": e.note,
        }
        for e in exponents
    )


def _law_texts(law: ScalingLaw) -> pd.DataFrame:
    rows = [{"parameter": name, "estimate": value.text(".4g")} for name, value in law.parameters.items()]
    return pd.DataFrame([*rows, *({"parameter": "note", "estimate": text} for text in law.warnings)])


def _score_texts(contest: Contest) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rule": s.rule,
            "tokens a step": f"{s.batch_tokens.value:,.0f}",
            "learning rate": f"{s.lr.value:.2e}",
            "regret": s.regret.text(".3f"),
            "outside the grid": "yes" if s.outside else "",
        }
        for s in contest.scores
    )

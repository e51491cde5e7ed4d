"""Ratios of tokens to equal losses as one frozen result, and its tables."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.intervals import CONFIDENCE, Estimate, columns_of
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Outcome, record
from analysis.studies.token_efficiency.curves import MethodCurve
from analysis.studies.token_efficiency.settings import TokenEfficiencySettings

LAW = "law"


def ratio_text(ratio: Estimate | None) -> str:
    """Such as ×1.30 [1.20, 1.50]."""
    return "–" if ratio is None else f"×{ratio.text('.2f')}"


@dataclass(frozen=True)
class Ratio:
    """Tokens of the reference over those of a method at one size and loss; None where no loss is reached by both.

    `tokens` are the reference's there, between its budgets. `between` and `law` are the ratio by both readings, with
    intervals that hold for all ratios of the table together. `why` says what keeps it open.
    """

    method: str
    n_params: float | None
    loss: float | None
    tokens: float | None = None
    between: Estimate | None = None
    law: Estimate | None = None
    verdict: Outcome = Outcome.CANNOT_TELL
    why: str = ""
    lacks: Lacks = SETTLED


@dataclass(frozen=True)
class SizeLaw:
    """ratio ∝ N^exponent at the lowest loss of every size; `last` is its value at `n_params`, the largest of them."""

    method: str
    exponent: Estimate
    last: Estimate
    n_params: float
    points: int
    verdict: Outcome = Outcome.CANNOT_TELL
    lacks: Lacks = SETTLED

    @property
    def gone_at(self) -> float | None:
        """N at which an advantage that shrinks is none, if the law goes on."""
        if self.verdict != Outcome.SHRINKS:
            return None
        return float(np.exp(np.log(self.n_params) - np.log(self.last.value) / self.exponent.value))


@dataclass(frozen=True)
class TokenEfficiency:
    """The fit of one table of runs."""

    settings: TokenEfficiencySettings
    reference: str
    curves: tuple[MethodCurve, ...]
    ratios: tuple[Ratio, ...]
    sizes: tuple[SizeLaw, ...]

    def chosen(self, ratio: Ratio) -> Estimate | None:
        """By the reading that verdicts go by."""
        return ratio.law if self.settings.curve == LAW else ratio.between

    def name(self, of: Ratio) -> str:
        """What a ratio is of."""
        size = "" if of.n_params is None else f", {of.n_params:,.0f} parameters"
        return f"{of.method} against {self.reference}{size}" + ("" if of.loss is None else f", loss {of.loss:.4g}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "confidence": CONFIDENCE,
            **self.settings.model_dump(),
            "reference": self.reference,
            "ratios": [record(ratio) for ratio in self.ratios],
            "sizes": [record(law) | {"gone_at": law.gone_at} for law in self.sizes],
            "laws": [_law(curve) for curve in self.curves if curve.law is not None],
        }

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""
        return {
            "token_efficiency": pd.DataFrame(_flat(ratio) for ratio in self.ratios),
            "token_efficiency_sizes": pd.DataFrame(_flat_size(law) for law in self.sizes),
            "token_efficiency_curves": pd.DataFrame(row for curve in self.curves for row in points(curve)),
        }

    def judgements(self) -> Sequence[Judgement]:
        """One per ratio, and one per law over sizes."""
        ratios = [Judgement(self.name(ratio), ratio.verdict, ratio.lacks) for ratio in self.ratios]
        sizes = [Judgement(self.over_sizes(law), law.verdict, law.lacks) for law in self.sizes]
        return [*ratios, *sizes]

    def over_sizes(self, law: SizeLaw) -> str:
        """What a law over sizes is of."""
        return f"{law.method} against {self.reference}, over sizes"

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """A row per ratio, and one per law over sizes, as text."""
        tables = []
        if self.ratios:
            title = f"Tokens of {self.reference} over those of the method at equal loss"
            tables.append((title, pd.DataFrame(ratio_texts(self, ratio) for ratio in self.ratios)))
        if self.sizes:
            tables.append(("Ratio ∝ N^", pd.DataFrame(size_texts(law) for law in self.sizes)))
        return tables


def points(of: MethodCurve) -> list[dict[str, Any]]:
    """A method's losses at one size, a row per budget."""
    rows = zip(of.curve.tokens, of.curve.loss, of.untuned, strict=True)
    return [
        {"method": of.method, "n_params": of.n_params, "tokens": float(t), "loss": float(loss), "tuned": not missing}
        for t, loss, missing in rows
    ]


def ratio_texts(of: TokenEfficiency, ratio: Ratio) -> dict[str, str]:
    """A ratio as a row of texts."""
    return {
        "method": ratio.method,
        "N": "–" if ratio.n_params is None else f"{ratio.n_params:.4g}",
        "loss": "–" if ratio.loss is None else f"{ratio.loss:.4g}",
        f"T of {of.reference}": "–" if ratio.tokens is None else f"{ratio.tokens:.3g}",
        "between budgets": ratio_text(ratio.between),
        "by the law": ratio_text(ratio.law),
        "verdict": ratio.verdict,
        "why": ratio.why or "–",
    }


def size_texts(law: SizeLaw) -> dict[str, str]:
    """A law over sizes as a row of texts."""
    return {
        "method": law.method,
        "exponent": law.exponent.text("+.3f"),
        f"at N = {law.n_params:.3g}": ratio_text(law.last),
        "×1 at N": "–" if law.gone_at is None else f"{law.gone_at:.2g}",
        "sizes": str(law.points),
        "verdict": law.verdict,
    }


def _law(of: MethodCurve) -> dict[str, Any]:
    assert of.law is not None, "only curves with a law are listed"
    parameters = {name: asdict(value) for name, value in of.law.estimates.items()}
    return {"method": of.method, "n_params": of.n_params, "held": of.law.held, **parameters}


def _flat(ratio: Ratio) -> dict[str, Any]:
    about = {"method": ratio.method, "n_params": ratio.n_params, "loss": ratio.loss, "tokens": ratio.tokens}
    numbers = columns_of("ratio", ratio.between) | columns_of("ratio_law", ratio.law)
    return {**about, **numbers, "verdict": ratio.verdict, "why": ratio.why}


def _flat_size(law: SizeLaw) -> dict[str, Any]:
    numbers = law.exponent.columns("exponent") | law.last.columns("last")
    about = {"n_params": law.n_params, "points": law.points, "gone_at": law.gone_at, "verdict": law.verdict}
    return {"method": law.method, **numbers, **about}

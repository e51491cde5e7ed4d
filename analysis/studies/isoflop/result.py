"""Best network sizes by budget of operations, and how they grow, by several approaches."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.intervals import Estimate
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Outcome
from analysis.studies.isoflop.valleys import Budget, Lowest

AROUND = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the best size, of a sweep of equal operations


@dataclass(frozen=True)
class Growth:
    """How the best size and its tokens grow with operations, by one approach: exponents, and log N* at C = 1.

    `budgets` were used, of `measured` ones. `bias` is the exponent of size that the approach finds in the law's own
    losses at the measured points, minus the law's. All None for an approach that knows no budgets; the bias also
    without a law that the points determine.
    """

    approach: str
    size: Estimate
    tokens: Estimate
    intercept: float
    budgets: int | None = None
    measured: int | None = None
    bias: float | None = None

    def best(self, flops: float) -> float:
        """N* at a number of operations."""
        return float(np.exp(self.intercept + self.size.value * np.log(flops)))


@dataclass(frozen=True)
class Design:
    """A sweep of equal operations: sizes around the best one, and the tokens of each."""

    flops: float
    n_params: tuple[float, ...]
    tokens: tuple[float, ...]


@dataclass(frozen=True)
class SourceValleys:
    """One method's or source's budgets with their lowest points by the chosen `curve`, and the growth by each approach.

    `why_no_law` is empty where the points determine a law.
    """

    name: str
    curve: str
    budgets: tuple[Budget, ...]
    lowest: tuple[Lowest, ...]
    growths: tuple[Growth, ...]
    why_no_law: str
    designs: tuple[Design, ...]
    left_out: dict[str, int]
    verdict: Outcome
    lacks: Lacks = SETTLED

    @property
    def chosen(self) -> Growth | None:
        """The growth by the chosen curve; None for fewer than two budgets that count."""
        return next((growth for growth in self.growths if growth.approach == approach(self.curve)), None)

    @property
    def spread(self) -> float:
        """The largest by the smallest number of operations in a budget, of the worst one."""
        return max(budget.spread for budget in self.budgets)


def approach(curve: str) -> str:
    """Its name."""
    return f"2: {curve}"


@dataclass(frozen=True)
class Isoflop:
    """All sources of a table of runs."""

    sources: tuple[SourceValleys, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"sources": [_source(each) for each in self.sources]}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""
        return {
            "isoflop": pd.DataFrame({"source": s.name} | _flat(g) for s in self.sources for g in s.growths),
            "isoflop_budgets": pd.DataFrame({"source": s.name} | asdict(b) for s in self.sources for b in s.lowest),
            "isoflop_design": pd.DataFrame(
                {"source": s.name, "flops": d.flops, "n_params": n, "tokens": t}
                for s in self.sources
                for d in s.designs
                for n, t in zip(d.n_params, d.tokens, strict=True)
            ),
        }

    def judgements(self) -> Sequence[Judgement]:
        """One per source."""
        return tuple(Judgement(each.name, each.verdict, each.lacks) for each in self.sources)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """A row per source and approach, and the designs, as text."""
        rows = [growth_texts(each, growth) for each in self.sources for growth in each.growths]
        designs = [design_texts(each.name, design) for each in self.sources for design in each.designs]
        tables = [("Best size and its tokens against operations C", pd.DataFrame(rows))] if rows else []
        return tables + ([("Sweeps of equal operations to train next", pd.DataFrame(designs))] if designs else [])


def growth_texts(each: SourceValleys, growth: Growth) -> dict[str, str]:
    """An approach as a row of texts."""
    return {
        "source": each.name,
        "approach": growth.approach,
        "N* ∝ C^": growth.size.text(".3f"),
        "T* ∝ C^": growth.tokens.text(".3f"),
        "budgets": "–" if growth.budgets is None else f"{growth.budgets} of {growth.measured}",
        "bias": "–" if growth.bias is None else f"{growth.bias:+.3f}",
    }


def design_texts(name: str, design: Design) -> dict[str, str]:
    """A design as a row of texts."""
    return {
        "source": name,
        "C": f"{design.flops:.3g}",
        "sizes": str(len(design.n_params)),
        "N": f"{design.n_params[0]:.2g} to {design.n_params[-1]:.2g}",
        "T": f"{design.tokens[0]:.2g} to {design.tokens[-1]:.2g}",
    }


def _source(each: SourceValleys) -> dict[str, Any]:
    return {
        "source": each.name,
        "verdict": each.verdict,
        "curve": each.curve,
        "spread_of_a_budget": each.spread,
        "approaches": [asdict(growth) for growth in each.growths],
        "no_law": each.why_no_law or None,
        "budgets": [asdict(lowest) for lowest in each.lowest],
        "designs": [asdict(design) for design in each.designs],
        "left_out": each.left_out,
    }


def _flat(growth: Growth) -> dict[str, Any]:
    exponents = growth.size.columns("size") | growth.tokens.columns("tokens")
    about = {"budgets": growth.budgets, "measured": growth.measured, "bias": growth.bias}
    return {"approach": growth.approach, **exponents, **about}

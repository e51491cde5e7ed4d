"""The comparison as one frozen result, and its tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.intervals import CONFIDENCE, RESAMPLES, Estimate
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Outcome, record
from analysis.studies.comparison.claims import Judged, in_words, together
from analysis.studies.comparison.design import Design


@dataclass(frozen=True)
class CellResult:
    """One arm at one place: the tuned value, None if every rate diverged, and where it lies.

    `choice` are the best values of what else is tuned, by key. `rate` is the best learning rate of the grid; `state`
    says how far it was tuned (`analysis.studies.comparison.tuned`).
    """

    arm: str
    optimizer: str
    place: Any
    value: Estimate | None
    lr: Estimate | None
    rate: float | None
    state: str
    n_rates: int
    n_seeds: int
    n_diverged: int
    choice: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rank:
    """An arm's rank. `difference` is from the first, None for that one and where it diverged. `place` may be empty."""

    arm: str
    place: str
    value: Estimate | None
    lr: float | None
    difference: Estimate | None
    verdict: Outcome
    lacks: Lacks = SETTLED


@dataclass(frozen=True)
class Ranking:
    """Arms from the best on, each at its own best place or all `at` one."""

    at: str
    ranks: tuple[Rank, ...]

    @property
    def title(self) -> str:
        """What it is called."""
        return f"ranking, {self.at}" if self.at else "ranking"


@dataclass(frozen=True)
class Comparison:
    """The fit of one table of runs. `paired`: what seeds have in common in all cells is taken out of the noise."""

    design: Design
    metric: str
    unit: str
    cells: tuple[CellResult, ...]
    rankings: tuple[Ranking, ...]
    claims: tuple[Judged, ...]
    paired: bool
    noise_known: bool

    def frame(self) -> pd.DataFrame:
        """One row per arm and place."""
        across = self.design.settings.across
        rows = []
        for cell in self.cells:
            where = {} if across is None else {across: cell.place}
            about = {
                "state": cell.state,
                "n_rates": cell.n_rates,
                "n_seeds": cell.n_seeds,
                "n_diverged": cell.n_diverged,
            }
            value, lr = _fields(self.design.settings.metric, cell.value), _fields("lr", cell.lr)
            rows.append({"arm": cell.arm, "optimizer": cell.optimizer, **where, **value, **lr, **cell.choice, **about})
        return pd.DataFrame(rows)

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the names of their CSVs."""
        level = {"confidence": together(len(self.claims))}
        claims = [
            {"claim": c.claim, "kind": c.kind, "verdict": c.verdict, **_fields("estimate", c.estimate), **level}
            for c in self.claims
        ]
        ranks = [
            {"at": ranking.at, "arm": rank.arm, "place": rank.place}
            | _fields(self.design.settings.metric, rank.value)
            | _fields("difference", rank.difference)
            | {"verdict": rank.verdict}
            for ranking in self.rankings
            for rank in ranking.ranks
        ]
        return {
            "comparison": self.frame(),
            "comparison_ranking": pd.DataFrame(ranks),
            "comparison_claims": pd.DataFrame(claims),
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "metric": self.design.settings.metric,
            "across": self.design.settings.across,
            "paired": self.paired,
            "claims_confidence": together(len(self.claims)),
            "claims": [record(claim) for claim in self.claims],
            "rankings": [record(ranking) for ranking in self.rankings],
            "cells": [record(cell) for cell in self.cells],
        }

    def judgements(self) -> tuple[Judgement, ...]:
        """One per claim, and one per arm of every ranking."""
        ranks = [
            Judgement(f"{rank.arm}, {ranking.title}", rank.verdict, rank.lacks)
            for ranking in self.rankings
            for rank in ranking.ranks
        ]
        return (*(Judgement(c.claim, c.verdict, c.lacks) for c in self.claims), *ranks)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """Claims and rankings as texts for a terminal."""
        found = []
        if self.claims:
            rows = [{"claim": c.claim, "verdict": c.verdict, "numbers": c.text} for c in self.claims]
            judged = in_words(len(self.claims))
            found.append((f"Claims ({judged})" if judged else "Claims", pd.DataFrame(rows)))
        for ranking in self.rankings:
            title = f"Arms by {self.metric}{self.unit and f' ({self.unit.strip()})'}, {ranking.at or 'tuned'}"
            found.append((title, pd.DataFrame(rank_texts(rank, self) for rank in ranking.ranks)))
        return found


def rank_texts(rank: Rank, fit: Comparison) -> dict[str, str]:
    """A rank as a row of texts."""
    where = {fit.design.across: rank.place} if rank.place else {}
    return {
        "arm": rank.arm,
        fit.metric: rank.value.text(".3f") if rank.value else "diverged",
        **where,
        "log2 lr": "–" if rank.lr is None else f"{np.log2(rank.lr):.1f}",
        "from the first": rank.difference.text("+.3f") if rank.difference else "–",
        "verdict": rank.verdict,
    }


def _fields(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    return (estimate or Estimate(np.nan)).columns(name)

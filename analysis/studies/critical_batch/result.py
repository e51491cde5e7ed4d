"""Critical batch sizes of a table of runs as one frozen result, and its tables."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.fits.intervals import CONFIDENCE, Estimate, columns_of
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Missing, Outcome
from analysis.studies.critical_batch.growth import REFERENCE, Growth
from analysis.studies.critical_batch.settings import CriticalBatchSettings
from analysis.studies.critical_batch.target import CRITICAL, Target


@dataclass(frozen=True)
class Source:
    """One method or source. `goals`: its table is of tokens to a target. `seq_len`: tokens a sequence; None if several.

    `notes` say what was left out, and what the fits do not know.
    """

    name: str
    goals: bool
    seq_len: float | None
    targets: tuple[Target, ...]
    growths: tuple[Growth, ...]
    notes: tuple[str, ...]

    @property
    def unit(self) -> str:
        """What batch sizes are shown in."""
        return "tokens" if self.seq_len in (None, 1.0) else f"sequences of {self.seq_len:g}"

    def shown(self, batch: Estimate | None, form: str = ",.0f") -> str:
        """A batch size in that unit, with its interval."""
        return "–" if batch is None else batch.times(1 / (self.seq_len or 1.0)).text(form)

    @property
    def law(self) -> Growth | None:
        """B_crit over N: of one target a size, or beside T."""
        laws = [g for g in self.growths if (g.definition, g.over) == (CRITICAL, "N")]
        return laws[0] if laws else None


@dataclass(frozen=True)
class CriticalBatches:
    """All methods or sources of a table, and what the study was told."""

    settings: CriticalBatchSettings
    sources: tuple[Source, ...]

    @property
    def share(self) -> str:
        """The second definition by its share, such as B_20%."""
        return f"B_{100 * self.settings.share:g}%"

    def definition(self, name: str) -> str:
        """A definition as it is shown."""
        return name if name == CRITICAL else self.share

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = self.settings.model_dump()
        return {"confidence": CONFIDENCE, **told, "sources": [_source(each) for each in self.sources]}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""
        reached = [
            {"source": s.name, "n_params": t.n_params} | asdict(row)
            for s in self.sources
            for t in s.targets
            for row in t.at.reached
        ]
        return {
            "critical_batch": pd.DataFrame({"source": s.name} | _flat(t) for s in self.sources for t in s.targets),
            "critical_batch_tokens": pd.DataFrame(reached),
            "critical_batch_growth": pd.DataFrame(
                {"source": s.name} | _growth(g) for s in self.sources for g in s.growths
            ),
        }

    def judgements(self) -> Sequence[Judgement]:
        """One per size and target, and one per source of several sizes, on the law over them."""
        found = []
        for source in self.sources:
            found += [Judgement(f"{source.name}, {name(t)}", t.verdict, t.lacks) for t in source.targets]
            if len({t.n_params for t in source.targets}) > 1:
                found.append(_of_law(source))
        return tuple(found)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """A row per size and target, and one per power law, as text."""
        rows = [target_texts(self, s, t) for s in self.sources for t in s.targets]
        laws = [growth_texts(self, s, g) for s in self.sources for g in s.growths]
        tables = [("Critical batch sizes", pd.DataFrame(rows))]
        return tables + ([("Power laws of critical batch sizes", pd.DataFrame(laws))] if laws else [])


def _of_law(source: Source) -> Judgement:
    known = source.law is not None and source.law.exponent.low is not None
    outcome = Outcome.DETERMINED if known else Outcome.CANNOT_TELL
    return Judgement(f"{source.name}, B_crit over N", outcome, SETTLED if known else Lacks.of([Missing.SIZES]))


def name(target: Target) -> str:
    """A size and target in words."""
    size = "" if target.n_params is None else f"{target.n_params:,.0f} parameters, "
    return f"{size}loss {target.at.fit.target:g}"


def target_texts(of: CriticalBatches, source: Source, target: Target) -> dict[str, str]:
    """A size and target as a row of texts."""
    fit, above = target.at.fit, target.exceeds
    return {
        "source": source.name,
        "N": "–" if target.n_params is None else f"{target.n_params:.4g}",
        "loss": f"{fit.target:g}",
        "batches": str(fit.n_batches),
        "T_min": "–" if fit.tokens_min is None else fit.tokens_min.text(".3g"),
        "B_crit": source.shown(fit.batch_crit),
        of.share: source.shown(above.law),
        f"{of.share}, read": source.shown(above.read),
        "in": source.unit,
        "status": fit.status + (", cut off" if fit.cut_off else ""),
    }


def growth_texts(of: CriticalBatches, source: Source, growth: Growth) -> dict[str, str]:
    """A power law as a row of texts."""
    beside = f" at fixed {growth.beside}" if growth.beside else ""
    return {
        "source": source.name,
        "law": f"{of.definition(growth.definition)} ∝ {growth.over}^{beside}",
        "exponent": growth.exponent.text(".3f"),
        f"at N = {REFERENCE['N']:g}, T = {REFERENCE['T']:g}": source.shown(growth.at_reference, ",.4g"),
        "in": source.unit,
        "points": str(growth.points),
    }


def _source(each: Source) -> dict[str, Any]:
    return {
        "source": each.name,
        "tokens_to_a_target": each.goals,
        "seq_len": each.seq_len,
        "targets": [_target(target) for target in each.targets],
        "growth": [asdict(growth) for growth in each.growths],
        "notes": list(each.notes),
    }


def _target(target: Target) -> dict[str, Any]:
    above = target.exceeds
    return {
        "n_params": target.n_params,
        "verdict": target.verdict,
        **asdict(target.at.fit),
        "excess": None if above.law is None else asdict(above.law),
        "excess_read": None if above.read is None else asdict(above.read),
        "excess_why_not": above.why or None,
    }


def _flat(target: Target) -> dict[str, Any]:
    """Batch sizes and tokens are in tokens."""
    fit, above = target.at.fit, target.exceeds
    row: dict[str, Any] = {"n_params": target.n_params, "target": fit.target, "status": fit.status}
    for column, estimate in (
        ("batch_crit", fit.batch_crit),
        ("batch_excess", above.law),
        ("batch_excess_read", above.read),
        ("tokens_min", fit.tokens_min),
    ):
        row |= columns_of(column, estimate)
    return row | {"rms": fit.rms, "cut_off": fit.cut_off, "n_batches": fit.n_batches, "verdict": target.verdict}


def _growth(growth: Growth) -> dict[str, Any]:
    about = {"definition": growth.definition, "over": growth.over, "beside": growth.beside}
    numbers = growth.exponent.columns("exponent") | growth.at_reference.columns("at_reference")
    return {**about, **numbers, "points": growth.points}

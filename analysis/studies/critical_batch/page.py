"""The page on critical batch sizes."""

from typing import Any

import pandas as pd

from analysis.report.texts import by_source, sizes, spans
from analysis.studies.critical_batch.result import (
    CriticalBatches,
    Source,
    growth_texts,
    name,
    target_texts,
)
from analysis.studies.critical_batch.target import CRITICAL, Target
from analysis.tables.sweep import SweepTables

VARYING = ("width", "depth", "tokens", "lr", "batch_size")
DIVERGED = "They come to no target."


def context(tables: SweepTables, fit: CriticalBatches) -> dict[str, Any]:
    """The template's own names."""
    pairs = [(source, target) for source in fit.sources for target in source.targets]
    return {
        "share": fit.share,
        "linear": f"{fit.settings.linear:g}",
        "more": f"{100 * fit.settings.share:g}%",
        "verdicts": [
            *(_finding(fit, source) for source in fit.sources if len({t.n_params for t in source.targets}) > 1),
            *({"of": f"{s.name}, {name(t)}", "verdict": t.verdict, "text": _of(fit, s, t)} for s, t in pairs),
        ],
        "targets": [target_texts(fit, source, target) for source, target in pairs],
        "growths": [growth_texts(fit, source, growth) for source in fit.sources for growth in source.growths],
        "notes": [f"{source.name}: {note}." for source in fit.sources for note in source.notes],
        "goals": any(source.goals for source in fit.sources),
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method or source."""
    return by_source(runs, {"sizes": sizes, "batch sizes": spans("batch_size"), "tokens": spans("tokens")})


def _finding(fit: CriticalBatches, source: Source) -> dict[str, Any]:
    laws = [
        f"{fit.definition(g.definition)} ∝ {g.over}^{g.exponent.text('.3f')}"
        + (f" at fixed {g.beside}" if g.beside else "")
        for g in source.growths
    ]
    judged = next(j for j in fit.judgements() if j.of == f"{source.name}, {CRITICAL} over N")
    text = f"{'; '.join(laws)}." if laws else "Fewer than two sizes have a critical batch size."
    return {"of": judged.of, "verdict": judged.outcome, "text": text}


def _of(fit: CriticalBatches, source: Source, target: Target) -> str:
    crit, above = target.at.fit.batch_crit, target.exceeds
    if crit is None or target.at.fit.status != "ok":
        return f"{'; '.join(text.partition(': ')[2] for text in target.at.warnings)}."
    second = f"{fit.share} {source.shown(above.law)}" if above.law else f"no {fit.share}: {above.why}"
    return f"B_crit {source.shown(crit)}, {second}, in {source.unit}."

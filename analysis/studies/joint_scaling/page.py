"""The page on joint laws."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.intervals import with_interval
from analysis.fits.outcomes import Outcome
from analysis.laws.joint import BATCH_TOKENS, WORDS, symbol
from analysis.report.texts import by_source, sizes, spans, thousands
from analysis.studies.joint_scaling.places import UNITS
from analysis.studies.joint_scaling.result import (
    MOST,
    NONE,
    JointScaling,
    PlaceOptimum,
    ReadLaw,
    SourceJoint,
    exponent,
    of,
    reading_texts,
)
from analysis.tables.sweep import SweepTables

VARYING = ("width", "depth", "tokens", "lr", "batch_size", "momentum")
DIVERGED = "They end a curve, and are no optima."
ROWS = 60  # of the table of optima; all are in the CSV


def context(tables: SweepTables, fit: JointScaling) -> dict[str, Any]:
    """The template's own names."""
    optima = [row for source in fit.sources for row in _optima(source)]
    columns = list(dict.fromkeys(name for row in optima for name in row))
    shown = fit.sources[:MOST]
    return {
        "verdicts": [
            {"of": of(source, each), "verdict": each.verdict, "text": _finding(source, each)}
            for source in fit.sources
            for each in source.chosen
        ],
        "laws": fit.law_rows(),
        "readings": [reading_texts(source, each) for source in shown for each in source.laws],
        "readings_beyond": len(fit.sources) - len(shown),
        "optima": [{name: row.get(name, NONE) for name in columns} for row in optima[:ROWS]],
        "optima_beyond": max(0, len(optima) - ROWS),
        "notes": [note for source in fit.sources for note in _notes(source)],
        "tolerance": f"{fit.tolerance:g}",
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method or source."""
    return by_source(
        runs,
        {
            "sizes": sizes,
            "parameters": spans("n_params"),
            "tokens": spans("tokens"),
            "batch sizes": lambda rows: thousands((rows["batch_size"] * rows["seq_len"]).nunique()),
            "learning rates": lambda rows: thousands(rows["lr"].nunique()),
        },
    )


def _finding(source: SourceJoint, each: ReadLaw) -> str:
    law = each.best
    if law is None:
        return f"Of {each.n_places} sizes and budgets too few have an optimum that counts, so there is no law."
    kept = each.n_places - sum(each.left_out.values())
    parts = [f"{WORDS[each.quantity].capitalize()} = {law.formula()}{_unit(each)}, {kept} of {each.n_places} optima."]
    if law is each.without_n:
        little = exponent(each.law, "n_params")
        parts.append(f"With N its exponent is {little}, which over the sizes measured is little.")
    elif law.terms:
        intervals = (f"{symbol(t.resource)}^{t.exponent.text('.3f')}" for t in law.terms)
        parts.append(f"Exponents: {', '.join(intervals)}.")
    others = [o for o in source.laws if o.quantity == each.quantity and o is not each and o.verdict != each.verdict]
    if others:
        parts.append("By other readings: " + ", ".join(f"{o.reading} {o.verdict}" for o in others) + ".")
    return " ".join(parts)


def _unit(each: ReadLaw) -> str:
    return f" {UNITS[each.quantity]}" if UNITS[each.quantity] else ""


def _optima(source: SourceJoint) -> list[dict[str, str]]:
    """A row per place: its optima by the chosen reading, and why some do not count."""
    rows: dict[tuple[float, ...], dict[str, str]] = {}
    for optimum in source.optima:
        if optimum.reading != source.reading:
            continue
        place = (optimum.n_params, optimum.tokens, *optimum.further.values())
        about = {"source": source.name, "N": f"{optimum.n_params:.4g}", "T": f"{optimum.tokens:.4g}"}
        row = rows.setdefault(place, about)
        row[WORDS[optimum.quantity]] = f"{_value(optimum)} ({optimum.why})" if optimum.why else _value(optimum)
    return list(rows.values())


def _value(optimum: PlaceOptimum) -> str:
    if not np.isfinite(optimum.value):
        return NONE
    form = ",.0f" if optimum.quantity == BATCH_TOKENS else ".3g"
    return with_interval(optimum.value, optimum.low, optimum.high, form)


def _notes(source: SourceJoint) -> list[str]:
    left_out = [f"{count:,} runs {why}" for why, count in source.left_out.items()]
    optima = [
        f"{count} of {each.n_places} optima of the {WORDS[each.quantity]} are left out: {why}"
        for each in source.chosen
        for why, count in each.left_out.items()
    ]
    open_ones = [each for each in source.chosen if each.verdict == Outcome.CANNOT_TELL and each.law is None]
    few = [f"no law of the {WORDS[each.quantity]}: too few optima" for each in open_ones]
    return [f"{source.name}: {text}." for text in (*source.warnings, *optima, *few, *left_out)]

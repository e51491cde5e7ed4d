"""The page on runs of equal operations."""

from typing import Any

import pandas as pd

from analysis.report.texts import by_source, sizes, spans
from analysis.studies.isoflop.result import Isoflop, SourceValleys, design_texts, growth_texts
from analysis.tables.sweep import SweepTables

VARYING = ("width", "depth", "tokens", "lr", "batch_size")
DIVERGED = "They are no points of a valley."
EVEN = 1.001  # a budget whose operations differ by less is said to be of one number


def context(tables: SweepTables, fit: Isoflop) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [{"of": each.name, "verdict": each.verdict, "text": _finding(each)} for each in fit.sources],
        "growths": [growth_texts(each, growth) for each in fit.sources for growth in each.growths],
        "budgets": [row for each in fit.sources for row in _budgets(each)],
        "designs": [design_texts(each.name, design) for each in fit.sources for design in each.designs],
        "notes": [note for each in fit.sources for note in _notes(each)],
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method or source."""
    return by_source(runs, {"sizes": sizes, "tokens": spans("tokens")})


def _finding(each: SourceValleys) -> str:
    growth = each.chosen
    if growth is None:
        return f"Fewer than two of {len(each.budgets)} budgets have their lowest loss between two sizes."
    others = ", ".join(
        f"{other.size.text('.3f')} by {other.approach.split(': ')[1]}" for other in each.growths if other != growth
    )
    bias = "" if growth.bias is None else f" On the fitted law this reading is off by {growth.bias:+.3f}."
    return (
        f"The best size grows as C^{growth.size.text('.3f')}, read by {each.curve} in {growth.budgets} of "
        f"{growth.measured} budgets{'; ' + others if others else ''}.{bias}"
    )


def _budgets(each: SourceValleys) -> list[dict[str, str]]:
    return [
        {
            "source": each.name,
            "C": f"{lowest.flops:.3g}",
            "sizes": f"{lowest.n_points:,}",
            "N*": "–" if lowest.why else f"{lowest.n_params:.3g}",
            "T*": "–" if lowest.why else f"{lowest.tokens:.3g}",
            "loss": "–" if lowest.why else f"{lowest.loss:.4f}",
            "why not": lowest.why or "–",
        }
        for lowest in each.lowest
    ]


def _notes(each: SourceValleys) -> list[str]:
    notes = []
    if each.spread > EVEN:
        notes.append(f"{each.name}: numbers of operations of one budget differ by up to {each.spread - 1:.1%}.")
    if each.why_no_law:
        notes.append(f"{each.name}: no approach 3, and no bias: {each.why_no_law}.")
    return notes + [f"{each.name}: {count:,} runs {why}, and are left out." for why, count in each.left_out.items()]

"""The page on scaling laws."""

from typing import Any

import pandas as pd

from analysis.report.texts import by_source, sizes, spans
from analysis.studies.scaling_law.result import ScalingLaws, SourceLaw, allocation_texts, texts
from analysis.tables.sweep import SweepTables

VARYING = ("width", "depth", "tokens", "lr", "batch_size")
DIVERGED = "They are no points of a law."


def context(tables: SweepTables, fit: ScalingLaws) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [{"of": each.name, "verdict": each.verdict, "text": _finding(each)} for each in fit.laws],
        "laws": [texts(each) for each in fit.laws],
        "profiles": [_profile(each) for each in fit.laws if each.law.profiles],
        "allocations": [allocation_texts(each.name, best) for each in fit.laws for best in each.allocations],
        "checks": [_check(each) for each in fit.laws if each.law.held_out],
        "warnings": [{"name": each.name, "lines": each.law.warnings} for each in fit.laws if each.law.warnings],
        "left_out": [f"{each.name}: {count:,} runs {why}" for each in fit.laws for why, count in each.left_out.items()],
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method or source."""
    return by_source(runs, {"sizes": sizes, "parameters": spans("n_params"), "tokens": spans("tokens")})


def _finding(each: SourceLaw) -> str:
    law, found = each.law, each.exponents
    if found is None or not each.allocations:
        return f"{len(law.loss):,} points do not determine the law: {'; '.join(law.warnings) or law.status}."
    held = "held at" if law.floor is not None else "is"
    return (
        f"The best network grows as C^{found[0].text('.3f')}, its tokens as C^{found[1].text('.3f')}. "
        f"E {held} {law.parameters['E'].text('.3f')}, a is {law.parameters['a'].text('.3f')}, "
        f"b is {law.parameters['b'].text('.3f')}; {len(law.loss):,} points, rms {law.rms:.4f}."
    )


def _profile(each: SourceLaw) -> dict[str, str]:
    law = each.law
    return {"source": each.name} | {
        f"{name}, {how}": of[name].text(".3f") if name in of else "–"
        for name in ("E", "a", "b")
        for how, of in (("resampled", law.parameters), ("profile", law.profiles))
    }


def _check(each: SourceLaw) -> dict[str, str]:
    check = each.law.held_out
    assert check is not None, "only laws with a check are listed"
    return {
        "source": each.name,
        "held out": f"{check.budget} ≥ {check.at:.3g}",
        "points": f"{check.n_points:,}",
        "mean error": f"{check.error:+.4f}",
        "rms": f"{check.rms:.4f}",
    }

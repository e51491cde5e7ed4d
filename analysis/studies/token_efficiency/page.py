"""The page on token efficiency."""

from typing import Any

import pandas as pd

from analysis.report.texts import by_source, sizes, spans
from analysis.studies.token_efficiency.curves import MethodCurve
from analysis.studies.token_efficiency.result import (
    LAW,
    Ratio,
    SizeLaw,
    TokenEfficiency,
    ratio_text,
    ratio_texts,
    size_texts,
)
from analysis.tables.sweep import SweepTables

VARYING = ("width", "depth", "tokens", "lr", "batch_size")
DIVERGED = "A learning rate at which more than half of the runs diverge has no loss."


def context(tables: SweepTables, fit: TokenEfficiency) -> dict[str, Any]:
    """The template's own names."""
    last = {(ratio.method, ratio.n_params): ratio for ratio in fit.ratios}  # losses descend
    sizes = [{"of": fit.over_sizes(law), "verdict": law.verdict, "text": _over_sizes(law)} for law in fit.sizes]
    ratios = [{"of": fit.name(r), "verdict": r.verdict, "text": _finding(fit, r)} for r in last.values()]
    return {
        "verdicts": sizes + ratios,
        "reference": fit.reference,
        "by_law": fit.settings.curve == LAW,
        "floor": fit.settings.floor,
        "ratios": [ratio_texts(fit, ratio) for ratio in fit.ratios],
        "sizes": [size_texts(law) for law in fit.sizes],
        "laws": [_law(curve) for curve in fit.curves if curve.law is not None],
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method or source."""
    return by_source(runs, {"sizes": sizes, "tokens": spans("tokens")})


def _finding(fit: TokenEfficiency, ratio: Ratio) -> str:
    chosen = fit.chosen(ratio)
    why = f" {ratio.why[:1].upper()}{ratio.why[1:]}." if ratio.why else ""
    if chosen is None:
        return why.strip()
    by_law = fit.settings.curve == LAW
    other, how = (ratio.between, "between budgets") if by_law else (ratio.law, "by the law")
    also = "" if other is None else f"; {ratio_text(other)} {how}"
    tokens = "" if ratio.tokens is None else f", where {fit.reference} needs {ratio.tokens:.3g} tokens"
    return f"{ratio_text(chosen)}{tokens}{also}.{why}"


def _over_sizes(law: SizeLaw) -> str:
    gone = "" if law.gone_at is None else f"; if that goes on, nothing is left of it at N = {law.gone_at:.2g}"
    return f"The ratio goes as N^{law.exponent.text('+.3f')}, {ratio_text(law.last)} at N = {law.n_params:.3g}{gone}."


def _law(curve: MethodCurve) -> dict[str, str]:
    assert curve.law is not None, "only curves with a law are listed"
    shown = {key: value.text(".3g" if key == "A" else ".3f") for key, value in curve.law.estimates.items()}
    return {"method": curve.method, "N": "–" if curve.n_params is None else f"{curve.n_params:.4g}", **shown}

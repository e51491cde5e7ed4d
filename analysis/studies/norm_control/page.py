"""The page on the norms of the weights."""

from typing import Any

import pandas as pd

from analysis.fits.outcomes import Outcome
from analysis.report.texts import by_width
from analysis.studies.norm_control.fit import BAND, Growth, MethodNorms, NormControl, growth_text
from analysis.tables.sweep import SweepTables

VARYING = ("width", "lr", "batch_size", "tokens")
DIVERGED = "Their norms are left out."


def context(tables: SweepTables, fit: NormControl) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [{"of": m.optimizer, "verdict": m.verdict, "text": _finding(m)} for m in fit.methods],
        "growths": [_growth(method, growth) for method in fit.methods for growth in method.growths],
        "band": f"{BAND:g}",
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method and width."""
    return by_width(runs)


def _finding(method: MethodNorms) -> str:
    """The method's finding with its numbers, the one its verdict rests on first."""
    parts = []
    peak, exact = method.closest, method.exact
    if peak:
        where = f"‖W‖/bound = {peak.ratio:.3f} where {peak.limit:g} is allowed, in {peak.layer} after step {peak.step}"
        if method.verdict == Outcome.DID_NOT_HOLD:
            parts.append(f"{method.n_broken} of {method.n_layers} layers exceed their bound, most of all {where}.")
        else:
            parts.append(
                f"All {method.n_layers} layers keep to their bounds in all {method.n_runs} runs, "
                f"the closest with {where}."
            )
        if exact and peak.limit != 1:
            parts.append(f"Of the layers without Newton-Schulz it is at most {exact.ratio:.3f}, of {exact.layer}.")
    growth = "; ".join(f"{growth.role} {growth_text(growth)}" for growth in method.growths)
    bare = "Theory sets no bound; from" if method.verdict == Outcome.NO_BOUND else "From"
    parts.append(f"{bare} the first step to the last the norms go: {growth}.")
    if method.n_diverged:
        parts.append(f"Runs that diverged and are left out: {method.n_diverged}.")
    return " ".join(parts)


def _growth(method: MethodNorms, growth: Growth) -> dict[str, str]:
    spread = "–"
    if growth.lowest is not None and growth.highest is not None:
        spread = f"{growth.lowest:.3g} … {growth.highest:.3g}"
    return {
        "optimizer": method.optimizer,
        "role": growth.role,
        "layers": str(growth.n_layers),
        "ρ": "–" if growth.radius is None else f"{growth.radius:g}",
        "‖W⁰‖": f"{growth.start:.3g}",
        "‖W‖ at the end": f"{growth.end:.3g}",
        "ratio": "–" if growth.ratio is None else f"{growth.ratio:.3g}",
        "smallest … largest": spread,
    }

"""The page on the noise of gradients."""

from typing import Any

import pandas as pd

from analysis.fits.outcomes import Outcome
from analysis.report.texts import by_width
from analysis.studies.gradient_noise.fit import NETWORK, GradientNoise, KindNoise, MethodNoise, text
from analysis.tables.sweep import SweepTables

VARYING = ("width", "lr", "batch_size", "tokens")
DIVERGED = "Their noise is left out."


def context(tables: SweepTables, fit: GradientNoise) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [{"of": m.optimizer, "verdict": m.verdict, "text": _finding(m)} for m in fit.methods],
        "kinds": [_row(row) for method in fit.methods for row in method.last],
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method and width."""
    return by_width(runs)


def _finding(method: MethodNoise) -> str:
    """The network's tail, what it says of Schatten norms, and the layers at either end."""
    row = method.network
    parts = [f"At step {row.step} the tail index of the whole gradient is {text(row.tail_index, '.1f')}."]
    if method.verdict == Outcome.HEAVY and row.schatten is not None:
        parts.append(f"Schatten norms up to p/(p − 1) = {row.schatten:.1f} pay no penalty in dimensions.")
    if method.verdict == Outcome.FINITE:
        parts.append("The variance is finite: the noise is no reason to prefer a Schatten norm above 2.")
    layers = [kind for kind in method.last if kind.tail_index is not None and kind is not row]
    if layers:
        ends = [pick(layers, key=_index) for pick in (min, max)]
        said = " to ".join(f"{text(kind.tail_index, '.1f')} ({kind.kind})" for kind in ends)
        parts.append(f"Layer by layer it goes from {said}.")
    return " ".join(parts)


def _index(row: KindNoise) -> float:
    return float("inf") if row.tail_index is None else row.tail_index.value


def _row(row: KindNoise) -> dict[str, str]:
    return {
        "optimizer": row.optimizer,
        "kind of layer": row.kind,
        "layers": "–" if row.kind == NETWORK else str(row.n_layers),
        "tail index": text(row.tail_index, ".1f"),
        "by blocks": text(row.tail_index_block, ".2f"),
        "nuclear ratio": text(row.nuclear_ratio, ".2f"),
        "entry ratio": text(row.entry_ratio, ".2f"),
        "slope against batch": text(row.batch_slope, ".2f"),
    }

"""The page on the coordinate check."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.fits.outcomes import Outcome
from analysis.report.texts import counts, power, thousands
from analysis.studies.coordinate_check.fit import QUANTITIES, TOLERANCE, CoordinateCheck, LayerSlope, MethodCheck
from analysis.tables.sweep import SweepTables

VARYING = ("width", "lr")
DIVERGED = "They are in no slope, and a method with one of them does not pass."


def context(tables: SweepTables, fit: CoordinateCheck) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [
            {"of": method.optimizer, "verdict": method.verdict, "text": _finding(method)} for method in fit.methods
        ],
        "slopes": [row for method in fit.methods for row in _slopes(method)],
        "tolerance": f"{TOLERANCE:g}",
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method and width."""
    return [
        {
            "optimizer": str(rows["optimizer"].iloc[0]),
            "width": str(rows["width"].iloc[0]),
            "parameters": thousands(rows["n_params"].max()),
            "learning rate": power(rows["lr"].iloc[0]),
            "steps": thousands(rows["steps"].iloc[0]),
            "seeds": str(rows["seed"].nunique()),
            **counts(rows),
        }
        for _, rows in runs.groupby(["optimizer", "width"], sort=True)
    ]


def _finding(method: MethodCheck) -> Markup:
    """The method's finding with its numbers, the steepest slope first."""
    parts = []
    if method.worst and method.worst.slope:
        parts.append(
            Markup("After {} steps {} goes as width<sup>a</sup>, a = {}, {} of {} slopes over widths {} to {}.").format(
                method.step,
                method.worst.name,
                method.worst.slope.text("+.2f"),
                "the steepest that fails"
                if method.verdict == Outcome.FAILS
                else "the farthest that an interval reaches",
                sum(slope.slope is not None for slope in method.slopes),
                method.widths[0],
                method.widths[-1],
            )
        )
    if method.worst and method.n_seeds == 1:
        parts.append(Markup("One seed: there is no measure of seed noise, so no interval is given."))
    if method.n_diverged:
        parts.append(Markup("Diverged runs, of which no slope knows: {}.").format(method.n_diverged))
    for unknown in method.unknown:
        parts.append(Markup("Without a slope is {}, which {}.").format(unknown.name, unknown.why))
    return Markup(" ").join(parts)


def _slopes(method: MethodCheck) -> list[dict[str, str]]:
    """A row per kind of layer, with both its slopes."""
    by_kind: dict[str, dict[str, LayerSlope]] = {}
    for found in method.slopes:
        by_kind.setdefault(found.kind, {})[found.quantity] = found
    rows = []
    for kind, both in by_kind.items():
        row = {"optimizer": method.optimizer, "layer": kind}
        for quantity, name in QUANTITIES.items():
            slope = both[quantity].slope
            row[f"slope of {name}"] = slope.text("+.2f") if slope else "–"
            row[f"{name} is"] = both[quantity].verdict
        rows.append(row)
    return rows

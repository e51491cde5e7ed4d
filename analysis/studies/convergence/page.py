"""The page on convergence."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.fits.outcomes import Outcome
from analysis.report.texts import counts, powers
from analysis.studies.convergence.fit import (
    LAST,
    RESOLVED,
    ROUNDING,
    STALLED,
    TOLERANCE,
    Convergence,
    ConvergenceFit,
    Descent,
)
from analysis.tables.sweep import SweepTables

VARYING = ("lr", "tokens", "data", "momentum_schedule", "watch")
DIVERGED = "They are left out, and an arm with one of them does not count as reaching its rate."
DUAL = Markup("The mean ‖∇f‖<sub>*</sub> ")


def context(tables: SweepTables, fit: ConvergenceFit) -> dict[str, Any]:
    """The template's own names."""
    rates = [{"of": found.arm.name, "verdict": found.verdict, "text": _finding(found)} for found in fit.arms]
    descents = [
        {"of": f"{found.arm.name}: descent", "verdict": found.verdict, "text": _descent(found)}
        for found in fit.descents
        if found.arm.clipped
    ]
    return {
        "verdicts": rates + descents,
        "arms": [_row(found) for found in fit.arms],
        "descents": [_rise(found) for found in fit.descents],
        "tolerance": f"{TOLERANCE:g}",
        "stalled": f"{STALLED:g}",
        "last": LAST,
        "rounding": f"{ROUNDING:g}",
        "resolved": f"{RESOLVED:g}",
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method, momentum schedule and data."""
    keys = ["optimizer", "momentum_schedule", "data"]
    return [
        {
            "optimizer": str(rows["optimizer"].iloc[0]),
            "momentum": str(rows["momentum_schedule"].fillna("constant").iloc[0]),
            "data": str(rows["data"].iloc[0]),
            "horizons": powers(rows["steps"].astype(float)),
            "learning rates": powers(rows["lr"]),
            "seeds": str(rows["seed"].nunique()),
            **counts(rows),
        }
        for _, rows in runs.groupby(keys, sort=True, dropna=False)
    ]


def _finding(found: Convergence) -> Markup:
    """The arm's finding with its numbers, the one its verdict rests on first."""
    longest = max(found.horizons, default=0)
    level = found.level.text(".2g")
    parts = []
    if found.converged and found.arm.rate is not None:
        parts.append(DUAL + Markup("is {} after {} steps, below what float32 resolves.").format(level, longest))
    elif found.exponent is None:
        parts.append(Markup("Fewer than two horizons trained to their end."))
    elif found.arm.may_stall:
        how = {Outcome.STALLS: "stalls at {}", Outcome.FALLS: "has come down to {} and goes on falling"}
        begin = how.get(found.verdict, "is {}")
        last = found.last.text("+.2f") if found.last else "–"
        rest = Markup(
            " after {} steps, as n<sup>a</sup> with a = {} over the last horizons; theory promises only a floor."
        )
        parts.append(DUAL + Markup(begin).format(level) + rest.format(longest, last))
    else:
        rate = Markup("theory has no rate for these steps")
        if found.arm.rate is not None:
            rate = Markup("theory promises {}").format(_power(found.arm.rate))
        parts.append(
            DUAL
            + Markup("goes as n<sup>a</sup> with a = {}, to {} after {} steps; {}.").format(
                found.exponent.text("+.2f"), level, longest, rate
            )
        )
    if found.n_seeds == 1 and found.verdict != Outcome.NO_THEOREM:
        parts.append(Markup("One seed: there is no measure of seed noise, so no interval is given."))
    if found.n_diverged:
        parts.append(Markup("Runs that diverged and are left out: {}.").format(found.n_diverged))
    return Markup(" ").join(parts)


def _power(exponent: float) -> Markup:
    """A power of n."""
    return Markup("n<sup>{}</sup>").format(f"{round(exponent, 2) + 0.0:g}".replace("-", "−"))


def _descent(found: Descent) -> str:
    if found.verdict == Outcome.DESCENDS:
        return f"Without noise f never rises in {found.n_runs} runs."
    return (
        f"Without noise f rises by up to {found.rise:.2g} of its value at the start, in a run of {found.horizon} steps "
        f"({found.n_runs} runs)."
    )


def _row(found: Convergence) -> dict[str, Any]:
    return {
        "arm": found.arm.name,
        "γ ∝": "–" if found.arm.lr_exponent is None else _power(found.arm.lr_exponent),
        "theory": found.arm.theory if found.arm.rate is None else _power(found.arm.rate),
        "exponent": found.exponent.text("+.2f") if found.exponent else "–",
        f"of the last {LAST}": found.last.text("+.2f") if found.last else "–",
        "at the longest": found.level.text(".2g"),
        "seeds": str(found.n_seeds),
        "verdict": found.verdict,
    }


def _rise(found: Descent) -> dict[str, str]:
    return {
        "arm": found.arm.name,
        "largest rise of f ÷ f(W⁰)": f"{found.rise:.2g}",
        "in a run of": f"{found.horizon} steps",
        "runs": str(found.n_runs),
        "f": found.verdict,
    }

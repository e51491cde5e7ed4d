"""The page on norm transfer."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.report.texts import counts, power, powers, thousands
from analysis.studies.norm_transfer.fit import MethodTransfer, NormOptimum, NormTransfer
from analysis.studies.norm_transfer.verdicts import FEWEST, TOLERANCE
from analysis.tables.sweep import SweepTables

VARYING = ("width", "tokens", "batch_size", "lr")
# Of ρ: norms that end between these may be the ball's. Newton-Schulz leaves it by a fifth, unconstrained steps by more.
CONFINED = (0.9, 1.25)


def context(tables: SweepTables, fit: NormTransfer) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [{"of": m.optimizer, "verdict": m.verdict, "text": _finding(m)} for m in fit.methods],
        "optima": [_optimum(method, optimum) for method in fit.methods for optimum in method.optima],
        "tolerance": f"{TOLERANCE:g}",
        "fewest": FEWEST,
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per method, width and budget."""
    return [
        {
            "optimizer": str(rows["optimizer"].iloc[0]),
            "width": str(rows["width"].iloc[0]),
            "tokens": thousands(rows["tokens_budget"].iloc[0]),
            "batch sizes": ", ".join(f"{batch:g}" for batch in sorted(rows["batch_size"].unique())),
            "learning rates": powers(rows["lr"]),
            "seeds": str(rows["seed"].nunique()),
            **counts(rows),
        }
        for _, rows in runs.groupby(["optimizer", "width", "tokens_budget"], sort=True)
    ]


def _finding(method: MethodTransfer) -> Markup:
    """The method's finding with its numbers, the exponents first."""
    parts = []
    exponents = {"a": method.in_width, "b": method.in_tokens}
    known = {letter: exponent for letter, exponent in exponents.items() if exponent}
    resolved = [optimum for optimum in method.optima if optimum.resolved]
    if known:
        powers_of = Markup(" · ").join(
            Markup("{}<sup>{}</sup>").format({"a": "width", "b": "T"}[letter], letter) for letter in known
        )
        parts.append(
            Markup(
                "At the best rate and batch size the output layer's norm goes as {}, {}, by a factor of {} in all."
            ).format(
                powers_of,
                ", ".join(f"{letter} = {exponent.text('+.2f')}" for letter, exponent in known.items()),
                f"{method.spread or 1:.2f}",
            )
        )
    if len(resolved) < len(method.optima):
        parts.append(
            Markup("Left out are {} of {} optima, at their grid's edge or beside a rate that diverges.").format(
                len(method.optima) - len(resolved), len(method.optima)
            )
        )
    if any(optimum.cut_off for optimum in resolved):
        parts.append(Markup("The interval of an optimum is cut off at its grid's edge."))
    if any(optimum.n_seeds == 1 for optimum in method.optima):
        parts.append(Markup("One seed: there is no measure of seed noise, so no interval is given."))
    shares = [optimum.of_radius for optimum in resolved if optimum.of_radius is not None]
    least, most = CONFINED
    if shares and least < min(shares) and max(shares) < most:
        parts.append(Markup("All these norms are above {:.0%} of ρ: it may be the ball that fixes them.").format(least))
    return Markup(" ").join(parts) or Markup("No optimum is resolved by its grid.")


def _optimum(method: MethodTransfer, optimum: NormOptimum) -> dict[str, Any]:
    return {
        "optimizer": method.optimizer,
        "width": str(optimum.width),
        "tokens": thousands(optimum.tokens),
        "best lr": power(optimum.lr),
        "best batch": f"{optimum.batch_size:.3g}",
        "norm": optimum.norm.text(".3g") if optimum.norm else "–",
        "‖W‖/ρ": "–" if optimum.of_radius is None else f"{optimum.of_radius:.2f}",
        "lowest loss": f"{optimum.loss:.4f}",
        "resolved": "yes" if optimum.resolved else "no",
        "seeds": str(optimum.n_seeds),
    }

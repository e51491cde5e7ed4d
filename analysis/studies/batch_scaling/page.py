"""The page on batch scaling."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.fits.intervals import Estimate
from analysis.fits.profile import TOLERANCE
from analysis.laws.constants import RunConstants
from analysis.laws.scaling_laws import ScalingLaw
from analysis.report.texts import counts, power, powers, thousands
from analysis.studies.batch_scaling.exponents import NEAR_BEST, Exponent
from analysis.studies.batch_scaling.findings import findings, size_finding
from analysis.studies.batch_scaling.result import (
    BatchScaling,
    BudgetOptimum,
    CellOptimum,
    OptimizerLaw,
    OptimizerScaling,
    OptimizerSizes,
    implied_text,
    published_text,
    size_row,
)
from analysis.studies.batch_scaling.surface import Surface
from analysis.tables.sweep import SweepTables

LAWS = {
    "chinchilla": "L(N, T) = E + A·N^−a + B·T^−b",
    "three-term": "L(N, K, B) = E + A·N^−a + C·K^−c + D·B^−d",
}
VARYING = ("tokens", "batch_size", "seq_len", "lr", "momentum", "probe", "stages")
BUDGETS = 24  # of an optimizer from which on what was run is a row for all of them
NOISE = {
    "seeds": "the spread over seeds, pooled over all cells",
    "roughness": "the roughness of the loss curves, as there is one seed only; such intervals err on the wide side",
    "none": "nothing: one seed and grids too short to tell, so no interval is given",
}


def context(tables: SweepTables, fit: BatchScaling) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [
            *(line for scaling in fit.optimizers for line in findings(scaling)),
            *(size_finding(each) for each in fit.sizes),
        ],
        "optimizers": [_optimizer(scaling) for scaling in fit.optimizers],
        "laws": [_law(law) for law in fit.laws],
        "sizes": [_sizes(each) for each in fit.sizes],
        "tolerance": f"{TOLERANCE:.0%}",
        "near_best": NEAR_BEST,
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per optimizer and budget, or per optimizer where budgets are many."""
    budget = "tokens_budget" if "tokens_budget" in runs else "tokens"
    many = runs.groupby("optimizer")[budget].nunique().max() > BUDGETS
    return [
        {
            "optimizer": str(rows["optimizer"].iloc[0]),
            "tokens": _counted(rows[budget]),
            "batch sizes": _span(rows["batch_size"]),
            "lengths": _span(rows["seq_len"]),
            "learning rates": powers(rows["lr"]) if rows["lr"].notna().any() else "–",
            "momenta": _span(rows["momentum"]),
            "seeds": str(rows["seed"].nunique()),
            **counts(rows),
        }
        for _, rows in runs.groupby(["optimizer"] if many else ["optimizer", budget], sort=True)
    ]


def _counted(values: "pd.Series[float]") -> str:
    """A number of tokens, or the first and the last of several."""
    found = sorted(values.dropna().unique())
    several = f"{thousands(found[0])} … {thousands(found[-1])} ({len(found)})" if len(found) > 1 else ""
    return several or thousands(found[0] if found else float("nan"))


def _span(values: "pd.Series[float]") -> str:
    found = sorted(values.dropna().unique())
    if not found:
        return "–"
    return f"{found[0]:g}" if len(found) == 1 else f"{found[0]:g} … {found[-1]:g} ({len(found)})"


def _optimizer(scaling: OptimizerScaling) -> dict[str, Any]:
    constants = scaling.constants
    return {
        "name": scaling.optimizer,
        "noise": f"{scaling.noise:.4f}",
        "noise_source": NOISE[scaling.noise_source],
        "seeds": scaling.n_seeds,
        "budgets": [_budget_row(budget) for budget in scaling.budgets],
        "exponents": [_exponent_row(exponent) for exponent in scaling.exponents],
        "cells": [_cell_row(cell) for cell in scaling.cells],
        "surfaces": [_surface_row(surface) for surface in scaling.surfaces],
        "rules": _rule_rows(scaling),
        "constants": [_constants_row(run) for run in constants.runs] if constants else [],
        "constants_text": _constants_text(scaling) if constants else "",
    }


def _budget_row(budget: BudgetOptimum) -> dict[str, Any]:
    tied = "–" if budget.tied is None else ", ".join(f"{size:,.0f}" for size in budget.tied)
    return {
        "tokens": f"{budget.tokens:,.0f}",
        "best batch, tokens": _count(budget.batch),
        "at edge": "yes" if budget.batch_at_edge else "no",
        "not told apart": tied,
        "best lr there": _rate(budget.lr),
        "largest without loss": _count(budget.largest) + (" or more" if budget.largest_at_edge else ""),
        "best lr there ": _rate(budget.lr_largest),
        "lowest loss": f"{budget.loss:.4f}",
    }


def _count(estimate: Estimate) -> str:
    return estimate.text(",.0f")


def _rate(estimate: Estimate) -> Markup:
    shown = power(estimate.value)
    if estimate.low is None or estimate.high is None:
        return shown
    return Markup("{} [{}, {}]").format(shown, power(estimate.low), power(estimate.high))


def _exponent_row(exponent: Exponent) -> dict[str, Any]:
    return {
        "exponent of": exponent.name,
        "estimate": exponent.estimate.text("+.3f") if exponent.estimate else "–",
        "rule implies": implied_text(exponent, ".3f"),
        "contains": published_text(exponent.contains),
        "excludes": published_text(exponent.excludes),
        "verdict": exponent.verdict,
        "points": str(exponent.n_points),
        "note": exponent.note,
    }


def _cell_row(cell: CellOptimum) -> dict[str, Any]:
    return {
        "tokens": f"{cell.tokens:,.0f}",
        "batch": f"{cell.batch_size:g} × {cell.seq_len:g}",
        "best lr": _rate(cell.lr),
        "resolved": "yes" if cell.resolved else "grid's edge" if cell.at_edge else "beside divergence",
        "loss": cell.loss.text(".4f"),
        "among the best": "–" if cell.tied is None else "yes" if cell.tied else "",
        "seeds": str(cell.n_seeds),
        "diverged": str(cell.n_diverged),
    }


def _surface_row(surface: Surface) -> dict[str, Any]:
    return {
        "form": "maximum" if surface.form == "max" else f"smooth maximum, p = {surface.sharpness:.1f}",
        "exponent of BS₂": surface.exponent.text(".2f") if surface.free_exponent else "2/3 (held)",
        "E": f"{surface.floor:.3f}",
        "BS₁": _corner(surface.bs1),
        "BS₂, smallest budget": _corner(surface.bs2_first),
        "BS₂, largest budget": _corner(surface.bs2_last),
        "residual, nats": f"{surface.rms:.4f}",
        "÷ noise": "–" if surface.misfit is None else f"{surface.misfit:.1f}",
        "BS₂ inside the grid": "no" if surface.at_bound else "yes",
    }


def _corner(estimate: Estimate) -> str:
    """A corner in tokens; far outside any batch size it is no number."""
    if not 0.5 < estimate.value < 1e9:
        return "not seen"
    known = estimate.low is not None and estimate.high is not None and estimate.low > 0.5 and estimate.high < 1e9
    return estimate.text(",.0f") if known else f"{estimate.value:,.0f}"


def _rule_rows(scaling: OptimizerScaling) -> list[dict[str, Any]]:
    """Rules by their regret at the largest budget, with their regrets at the others."""
    if scaling.forward is None:
        return []
    others = [contest for contest in scaling.contests if contest is not scaling.forward]
    rows = []
    for score in scaling.forward.scores:
        row: dict[str, Any] = {
            "rule": score.rule,
            "says": score.title,
            "tokens a step": _count(score.batch_tokens),
            "learning rate": _rate(score.lr),
            "regret, nats": ("≥ " if score.outside else "") + score.regret.text(".3f"),
        }
        for contest in others:
            same = next((s for s in contest.scores if s.rule == score.rule), None)
            shown = "–" if same is None else ("≥ " if same.outside else "") + f"{same.regret.value:.3f}"
            row[f"at {contest.tokens:,.0f}"] = shown
        rows.append(row)
    return rows


def _sizes(each: OptimizerSizes) -> dict[str, Any]:
    """Rules by their mean regret at a size that was held out, with each budget's."""
    contest, rows = each.contest, []
    for score in contest.scores:
        of_budgets = list(zip(contest.tokens, score.regrets, strict=True)) if len(contest.tokens) > 1 else []
        rows.append({**size_row(score), **{f"at {tokens:.3g}": f"{regret:.4f}" for tokens, regret in of_budgets}})
    from_, to = f"{contest.anchor_params:,.0f}", f"{contest.n_params:,.0f}"
    title = f"Rules from {from_} to {to} parameters, {each.optimizer}"
    anchors = ", ".join(f"{anchor:.3g}" for anchor in contest.anchors)
    return {"title": title, "rows": rows, "anchors": anchors, "not_scored": ", ".join(contest.not_scored)}


def _constants_row(run: RunConstants) -> dict[str, Any]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3g}"

    return {
        "tokens": f"{run.tokens:,.0f}",
        "batch": f"{run.batch_size:g} × {run.seq_len:g}",
        "lr": power(run.lr),
        "L": number(run.smoothness),
        "μ": run.mu.text(".3g") if run.mu else "–",
        "μ at E": number(run.mu_at_floor),
        "κ": number(run.norm_ratio),
        "σ⋆²": number(run.noise),
        "μκσ⋆/L": number(run.drive),
    }


def _constants_text(scaling: OptimizerScaling) -> str:
    constants, parts = scaling.constants, []
    if constants is None:
        return ""
    if constants.variance:
        law = constants.variance
        parts.append(f"The gradient's variance falls as B^−{law.batch.text('.2f')}")
        parts[-1] += f" and S^−{law.seq.text('.2f')}." if law.seq else "."
    if constants.norm_ratio_exponent:
        parts.append(f"κ goes as B^{constants.norm_ratio_exponent.text('.3f')}.")
    if not all(run.mu_rises for run in constants.runs):
        parts.append(
            "Where the line of the dual norm against the loss does not rise for sure, μ is taken from the line through "
            "the fitted surface's floor E (column “μ at E”)."
        )
    if constants.predictions:
        factors = ", ".join(f"{p.constant:.2g}" for p in constants.predictions)
        parts.append(
            "One run's constants predict BS₂(T) ∝ T^(2/3) up to a factor. Fitted to the measured batches without loss "
            f"it is {factors} (a run each), and {constants.predictions[0].error:.2f} octaves root mean square are left."
        )
    if constants.shared:
        parts.append(
            f"With every run's own constants at its own budget and one factor for all, "
            f"{constants.shared.constant:.2g}, {constants.shared.error:.2f} octaves are left."
        )
    return " ".join(parts)


def _parameters(law: ScalingLaw) -> list[tuple[str, Estimate]]:
    """The law's own, and the exponent of the allocation they make best."""
    found = list(law.parameters.items())
    return found + ([(f"exponent of the best {law.form.allocates}", law.allocation)] if law.allocation else [])


def _law(each: OptimizerLaw) -> dict[str, Any]:
    """A scaling law's parameters, its check on held-out points, and its warnings."""
    law = each.law
    return {
        "title": f"Scaling law {LAWS[law.form.name]}, {each.optimizer}",
        "status": law.status,
        "parameters": [{"parameter": name, "estimate": e.text(".4g")} for name, e in _parameters(law)],
        "rms": "–" if law.rms is None else f"{law.rms:.4f}",
        "held_out": law.held_out,
        "warnings": law.warnings,
    }

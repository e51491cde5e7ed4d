"""What the page on batch scaling finds, in sentences: exponents against the rule, the contest of rules, momentum."""

from typing import Any

from analysis.fits.outcomes import Missing
from analysis.laws.momentum_slopes import THEORIES, MomentumSlopes
from analysis.studies.batch_scaling.exponents import Exponent, both
from analysis.studies.batch_scaling.momentum import MomentumOptimum
from analysis.studies.batch_scaling.regret import Contest
from analysis.studies.batch_scaling.result import OptimizerScaling, OptimizerSizes, implied_text, optimum_row

MISFIT = 1.5  # residuals of the surface, in units of the noise, from which on the findings mention them
READINGS = {
    "best batch": "The best batch size",
    "largest without loss": "The largest batch size without loss",
    "corner of the surface": "The corner of the fitted surface, where larger batches begin to cost,",
}


def findings(scaling: OptimizerScaling) -> list[dict[str, Any]]:
    """The exponents against the rule, the contest of rules, and the momentum, in sentences."""
    if len(scaling.budgets) == 1:
        found: list[dict[str, Any] | None] = [_optimum_finding(scaling)]
    else:
        found = [_reading(scaling, name) for name in READINGS]
    found.append(_plane_finding(scaling))
    found.append(_contest_finding(scaling.optimizer, scaling.forward) if scaling.forward else None)
    if scaling.momenta:
        best = ", ".join(
            f"{_momenta(o)} at {o.tokens:,.0f} tokens and {o.batch_tokens:,.0f} a step" for o in scaling.momenta.optima
        )
        text = f"Best momentum α, with those that cannot be told apart from it: {best}."
        found.append({"of": f"{scaling.optimizer}, momentum", "verdict": scaling.momenta.verdict, "text": text})
        found.append(_theory_finding(scaling.optimizer, scaling.momenta.slopes))
    return [finding for finding in found if finding]


def _optimum_finding(scaling: OptimizerScaling) -> dict[str, Any]:
    """Best batch and rate of the one budget, with those that cannot be told apart: it has no exponent."""
    budget = scaling.budgets[0]
    row = optimum_row(budget)
    text = f"At {budget.tokens:,.0f} tokens the best batch size is {row['best batch']} sequences of {budget.seq_len:g}"
    text += f", the best learning rate there {row['best lr']}."
    if row["tied batches"]:
        text += f" Batch sizes not told apart from the best: {row['tied batches']}."
    if row["tied lrs"]:
        text += f" Rates not told apart at the best measured batch: {row['tied lrs']}."
    text += " One budget has no exponent."
    return {"of": f"{scaling.optimizer}, best setting", "verdict": budget.verdict, "text": text}


def _reading(scaling: OptimizerScaling, name: str) -> dict[str, Any] | None:
    """One reading of the best batch size, with the learning rate along it."""
    batch, lr = scaling.exponent(f"batch size, {name}"), scaling.exponent(f"learning rate, {name}")
    if batch is None:
        return None
    text = f"{READINGS[name]} {_goes_as(batch)} (the rule implies {implied_text(batch, '.2f')})"
    if lr is not None:
        text += f", the best learning rate there {_goes_as(lr)} (implied {implied_text(lr, '.2f')}; {lr.verdict})"
    notes = list(dict.fromkeys(note for note in (batch.note, "" if lr is None else lr.note) if note))
    surface = scaling.surfaces[-1] if "surface" in name else None
    if surface is not None and surface.misfit is not None and surface.misfit > MISFIT:
        notes.append(f"the surface misses the cells by {surface.misfit:.1f} times the noise, which widens the interval")
    text += "".join(f"; {note}" for note in notes) + "."
    return {"of": f"{scaling.optimizer}, {name}", "verdict": batch.verdict, "text": text}


def _goes_as(exponent: Exponent) -> str:
    return "has no exponent" if exponent.estimate is None else f"goes as T to the {exponent.estimate.text('.2f')}"


def _plane_finding(scaling: OptimizerScaling) -> dict[str, Any] | None:
    """γ* ∝ BS^a T^b: inside only if both exponents are."""
    a, b = scaling.exponent("learning rate against batch size"), scaling.exponent("learning rate against budget")
    if a is None or b is None or a.estimate is None or b.estimate is None:
        return None
    text = (
        f"The best learning rate goes as the batch size to the {a.estimate.text('.2f')} (rule: 1; {a.verdict}) and as "
        f"the budget to the {b.estimate.text('.2f')} (rule: −1; {b.verdict})."
    )
    return {"of": f"{scaling.optimizer}, learning rate", "verdict": both(a.verdict, b.verdict), "text": text}


def _contest_finding(optimizer: str, contest: Contest) -> dict[str, Any]:
    best = contest.scores[0]
    text = (
        f"At {contest.tokens:,.0f} tokens, predicted from the smaller budgets: {contest.why}. "
        f"Its regret is {best.regret.text('.3f')} nats."
    )
    verdict = f"{contest.outcome}: {contest.winner}" if contest.winner else contest.outcome
    return {"of": f"{optimizer}, rules", "verdict": verdict, "text": text}


def _theory_finding(optimizer: str, slopes: MomentumSlopes) -> dict[str, Any]:
    """Two slopes of the best momenta and rates against what two theories have."""
    of = f"{optimizer}, momentum and theory"
    if slopes.rate is None or slopes.momentum is None:
        text = (
            "How lr/α and α/(B·S) go with the budget takes best momenta and rates inside their grids at two budgets or "
            f"more; there are {slopes.n_budgets}."
        )
        return {"of": of, "verdict": slopes.outcome, "text": text}
    implied = "; ".join(f"{name}: {rate:.2f} and {alpha:.2f}" for name, (rate, alpha) in THEORIES.items())
    text = (
        f"At the best momenta lr/α goes as T to the {slopes.rate.text('.2f')} and α/(B·S) to the "
        f"{slopes.momentum.text('.2f')} (intervals that hold together; {implied})."
    )
    if {Missing.VALUES_BEYOND, Missing.RATES_BEYOND} & {*slopes.lacks.missing}:
        text += " An interval ends where a grid does."
    verdict = f"{slopes.outcome}: {slopes.theory}" if slopes.theory else slopes.outcome
    return {"of": of, "verdict": verdict, "text": text}


def size_finding(each: OptimizerSizes) -> dict[str, Any]:
    """The contest of rules at a network size that they have not seen."""
    contest = each.contest
    text = (
        f"At {contest.n_params:,.0f} parameters, predicted from {contest.anchor_params:,.0f}: {contest.why}. "
        f"Its mean regret is {contest.scores[0].regret.text('.4f')} nats; budgets: {len(contest.tokens)}."
    )
    verdict = f"{contest.outcome}: {contest.winner}" if contest.winner else contest.outcome
    return {"of": f"{each.optimizer}, rules at {contest.n_params:,.0f} parameters", "verdict": verdict, "text": text}


def _momenta(optimum: MomentumOptimum) -> str:
    """The best, and those that cannot be told apart from it."""
    tied = optimum.tied or tuple(loss == min(optimum.losses) for loss in optimum.losses)
    return " or ".join(f"{m:g}" for m, tie in zip(optimum.momenta, tied, strict=True) if tie)

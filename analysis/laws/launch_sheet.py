"""A plan as a page in Markdown: what a launch needs, how far the rules are apart, and what to distrust."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.laws.proposals import Plan, Proposal

UNKNOWN = "–"
SETTINGS = {
    "batch_size": "batch size, sequences",
    "seq_len": "sequence length, tokens",
    "batch_tokens": "tokens a step",
    "lr": "peak learning rate",
    "momentum": "momentum α, weight of the new gradient (β₁ = 1 − α)",
    "weight_decay": "weight decay λ",
    "beta2": "β₂",
    "steps": "steps",
}
UNSAID = "warmup, schedule, ε, clipping"


def launch_sheet(plan: "Plan") -> str:
    """Markdown. The fitted law comes first where it is not far from what was measured, else how far rules are apart."""
    whose = f" ({plan.optimizer})" if plan.optimizer else ""
    parts = [f"# Launch sheet: {plan.asked}{whose}", *([plan.origin] if plan.origin else [])]
    fitted = [p for p in plan.proposals if p.rule.name in ("joint-law", "power-law")]
    first = next((p for p in fitted if p.rule.name == plan.lead), None)
    rest = [f"## {p.rule.name}\n\n{_setting(p)}" for p in fitted if p is not first]
    apart = f"## How far the rules are apart\n\n{_capital(plan.spread_text())}."
    if first is not None:
        parts += [f"## Launch with: {first.rule.name}", _setting(first), apart]
    else:
        factors = " and ".join(
            f"×{each.factor:.3g} in {name}" for each, name in zip(plan.spread, ("batch", "lr"), strict=True)
        )
        why = "No law fitted to your runs is near this size and budget" if fitted else "No law was fitted to your runs"
        parts += [
            f"## No recommendation\n\n{why}; the rules are spread over {factors}. None of them is chosen here.",
            apart,
        ]
    parts += ["## Every rule", _every(plan), _formulas(plan.proposals), *rest]
    if plan.warnings:
        parts.append("## What to distrust\n\n" + "\n".join(f"- {text}" for text in plan.warnings))
    return "\n\n".join(parts) + "\n"


def _setting(proposal: "Proposal") -> str:
    """All that is typed in, exact and rounded, with both intervals where there are any."""
    law = proposal.interval.ends() if proposal.interval else {}
    new = proposal.new_optimum.ends() if proposal.new_optimum else {}
    exact, rounded = proposal.exact, proposal.rounded
    rows = [
        (
            title,
            _number(name, getattr(rounded, name)),
            _number(name, getattr(exact, name)),
            law.get(name, UNKNOWN),
            new.get(name, UNKNOWN),
        )
        for name, title in SETTINGS.items()
    ]
    rows.append((UNSAID, "no rule says; keep the base's", UNKNOWN, UNKNOWN, UNKNOWN))
    heads = ("", "launch", "exact", "95% interval of the law", "95% interval of an optimum")
    note = f"; {proposal.rule.note}" if proposal.rule.note else ""
    return f"{_table(heads, rows)}\n\n{proposal.rule.title} ({proposal.rule.source}; {proposal.rule.certainty}){note}"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return f"{UNKNOWN} (not known of the base)"
    if name == "lr":
        return f"{value:.3e}"
    return (
        f"{value:.4g}"
        if name in ("momentum", "weight_decay", "beta2")
        else f"{value:,.6g}"
        if value < 1e6
        else f"{value:,.0f}"
    )


def _every(plan: "Plan") -> str:
    frame = plan.frame()
    return _table(list(frame.columns), frame.itertuples(index=False))


def _formulas(proposals: "Sequence[Proposal]") -> str:
    rules = [proposal.rule for proposal in proposals]
    rows = ((f"`{r.name}`", r.title, f"{r.source}{f'; {r.note}' if r.note else ''}", str(r.certainty)) for r in rules)
    return _table(("rule", "formula", "source", "certainty"), rows)


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

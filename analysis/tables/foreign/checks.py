"""What is wrong, or to be asked about, only when a run is seen whole: its steps, its twins, its momentum."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.tables.foreign.problems import Problems
from analysis.tables.same import SAME_BUDGET, same_budget, same_number

# A step may be longer than the budget by this factor, where a last one was not cut; beyond it units must be mixed up.
LONGEST_STEP = 1.5
IN_TOKENS = "is batch_size in tokens (then --set seq_len=1)?"
# Two rows that agree in all of these are one run.
IDENTITY = ("optimizer", "n_params", "width", "tokens", "batch_size", "seq_len", "lr", "momentum", "seed")
LIKE_A_BETA = 0.85  # a weight of the new gradient as large is rare, and what PyTorch calls momentum is seldom smaller


def check_rows(rows: Sequence[Mapping[str, Any]], problems: Problems) -> None:
    """Steps that cannot be, and runs that are there twice; rows that have a problem already are left alone."""
    unsound = problems.rows
    sound = [row for row in rows if row["row"] not in unsound]  # what is not a number cannot be compared
    for row in sound:
        if row["lr"] is not None:
            _check_steps(row, problems)
    _check_twins(sound, problems)


def _check_steps(row: Mapping[str, Any], problems: Problems) -> None:
    step, tokens, steps = row["batch_size"] * row["seq_len"], row["tokens"], row["steps"]
    if step > LONGEST_STEP * tokens:
        problems.add(
            row["row"],
            f"batch_size × seq_len: a step of {step:.6g} tokens is longer than the budget of {tokens:.6g} tokens; "
            f"{IN_TOKENS}",
            "step",
        )
    elif not 0 < steps < math.inf:
        problems.add(row["row"], f"tokens ÷ (batch_size × seq_len): {steps:.6g} steps cannot be")
    elif row["status"] != "diverged" and _contradict(steps, tokens / step):
        problems.add(
            row["row"],
            f"steps: {steps:,.0f} in the file, but {tokens / step:,.6g} by tokens ÷ (batch_size × seq_len)"
            f"{_likely(steps * step / tokens, row['seq_len'])}",
            "steps",
        )


def _contradict(steps: float, implied: float) -> bool:
    """Whether two numbers of steps make different budgets; the last step may be whole, cut or left out."""
    return max(steps, implied) > SAME_BUDGET * min(steps, implied) and abs(steps - implied) > 1


def _likely(factor: float, seq_len: float) -> str:
    """What makes steps × batch_size × seq_len this many times the tokens, as a question."""
    if seq_len > 1 and abs(factor / seq_len - 1) < SAME_BUDGET - 1:
        return f"; {IN_TOKENS}"
    if factor < 1:
        return "; is batch_size that of one device or of one accumulation step, or was the run resumed?"
    return "; are tokens those of the whole run, and steps the optimizer's?"


def _check_twins(rows: Sequence[Mapping[str, Any]], problems: Problems) -> None:
    """Runs that no fit could tell apart: their numbers agree but for rounding, or for steps that are not cut."""
    if not rows:
        return
    table = pd.DataFrame([{key: row[key] for key in IDENTITY} for row in rows])
    for column in ("batch_size", "seq_len", "lr", "momentum"):
        table[column] = same_number(table[column].astype(float))
    if table["lr"].notna().all():  # without settings runs are points of a law, however close
        table["tokens"] = same_budget(table["tokens"])
    first = dict[tuple[Any, ...], int]()
    keys = table.astype(object).where(table.notna(), None).itertuples(index=False, name=None)
    for i, key in enumerate(keys):
        twin, row = first.setdefault(key, i), rows[i]
        if twin != i:
            close = [
                f"{name} {row[name]:.10g} and {rows[twin][name]:.10g} count as one"
                for name in ("tokens", "lr", "batch_size", "seq_len", "momentum")
                if row[name] != rows[twin][name]
            ]
            text = f"is the same run as row {rows[twin]['row']}: {', '.join(IDENTITY)} agree"
            about = f" ({'; '.join(close)})" if close else ""
            problems.add(row["row"], f"{text}{about}; map a seed, or remove one")


def questions_of_momentum(text: str, column: str | None, values: Sequence[float]) -> tuple[str, ...]:
    """Whether the momentum is not the weight of the new gradient but 1 minus that, as PyTorch's momentum and β₁ are.

    It is asked where a `column` or a constant is taken as it stands: `text` is what it was mapped or set to, `values`
    what it is in the rows. All 1 is no momentum, in Scion's terms.
    """
    large = [value for value in values if value >= LIKE_A_BETA]
    beta = column is not None and "beta" in column.casefold()
    if not values or (column is None and not _is_number(text)) or not (beta or (large and set(values) != {1.0})):
        return ()
    way = f"--set momentum=1-{text}"
    if column is not None:
        way = f"--map momentum=1-{column if column.isidentifier() else f'`{column}`'}"
    return (
        f"momentum: {max(values):.6g} is taken as the weight of the new gradient; if it is what PyTorch calls momentum "
        f"or beta1, that weight is 1 minus it: {way}",
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

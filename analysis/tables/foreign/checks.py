"""What is wrong only when a run is seen whole: its steps, its twins."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.tables.foreign.problems import Problems
from analysis.tables.same import SAME_BUDGET, same_budget, same_number
from scionlab.errors import assigned, listed, worded

# A step may be longer than the budget by this factor, where a last one was not cut; beyond it units must be mixed up.
LONGEST_STEP = 1.5
# Two rows that agree in all of these are one run.
IDENTITY = (
    *("optimizer", "group", "n_params", "width", "depth", "tokens", "batch_size", "seq_len", "checkpoint_step", "lr"),
    *("momentum", "beta2", "weight_decay", "warmup", "schedule", "data", "seed"),
)
# Of these, those that may be rounded differently; without a learning rate runs are points of a law, however close.
ROUNDED = ("lr", "batch_size", "seq_len", "momentum", "beta2", "weight_decay", "warmup")


def check_rows(
    rows: Sequence[Mapping[str, Any]], problems: Problems, differ: Callable[[int, int], Sequence[str]] | None = None
) -> None:
    """Steps that cannot be, and runs that are there twice; rows that have a problem already are left alone.

    `differ` names the columns of the file, among those that are not used, in which two rows differ, by their numbers.
    """
    unsound = problems.rows
    sound = [row for row in rows if row["row"] not in unsound]  # what is not a number cannot be compared
    for row in sound:
        if row["batch_size"] is not None and row["seq_len"] is not None:
            _check_steps(row, problems)
    _check_twins(sound, problems, differ or (lambda row, twin: ()))


def _check_steps(row: Mapping[str, Any], problems: Problems) -> None:
    step, tokens, steps = row["batch_size"] * row["seq_len"], row["tokens"], row["steps"]
    done = row["checkpoint_step"]  # tokens may be those up to there, or those of the whole run
    if step > LONGEST_STEP * tokens:
        problems.add(
            row["row"],
            f"batch_size × seq_len: a step of {step:.6g} tokens is longer than the budget of {tokens:.6g} tokens; "
            f"{_in_tokens()}",
            "step",
        )
    elif not 0 < steps < math.inf:
        problems.add(row["row"], f"tokens ÷ (batch_size × seq_len): {steps:.6g} steps cannot be")
    elif row["status"] != "diverged" and all(_contradict(k, tokens / step) for k in (steps, done or steps)):
        problems.add(
            row["row"],
            f"steps: {steps:,.0f} in the file, but {tokens / step:,.6g} by tokens ÷ (batch_size × seq_len)"
            f"{_likely(steps * step / tokens, row['seq_len'])}",
            "steps",
        )


def _in_tokens() -> str:
    return f"is batch_size in tokens (then {assigned('set', {'seq_len': '1'})})?"


def _contradict(steps: float, implied: float) -> bool:
    """Whether two numbers of steps make different budgets; the last step may be whole, cut or left out."""
    return max(steps, implied) > SAME_BUDGET * min(steps, implied) and abs(steps - implied) > 1


def _likely(factor: float, seq_len: float) -> str:
    """What makes steps × batch_size × seq_len this many times the tokens, as a question."""
    if seq_len > 1 and abs(factor / seq_len - 1) < SAME_BUDGET - 1:
        return f"; {_in_tokens()}"
    if factor < 1:
        return "; is batch_size that of one device or of one accumulation step, or was the run resumed?"
    return "; are tokens those of the whole run, and steps the optimizer's?"


def _check_twins(
    rows: Sequence[Mapping[str, Any]], problems: Problems, differ: Callable[[int, int], Sequence[str]]
) -> None:
    """Runs that no fit could tell apart."""
    for i, twin in twins_of(rows).items():
        row, first = rows[i], rows[twin]
        close = [
            f"{name} {row[name]:.10g} and {first[name]:.10g} count as one"
            for name in ("tokens", *ROUNDED)
            if row[name] != first[name]
        ]
        known = [key for key in IDENTITY if row[key] is not None]
        text = f"is the same run as row {first['row']}: {', '.join(known)} agree"
        about = f" ({'; '.join(close)})" if close else ""
        repeat = f"{worded('--number-repeats', 'number_repeats=True')} takes it as another seed"
        note = "their losses agree, too" if _one_loss(row, first) else repeat
        other = differ(row["row"], first["row"])
        unused = [f"not used, and different: {listed(other)}"] * bool(other)
        problems.add(row["row"], "; ".join([f"{text}{about}", "map a seed, or remove one", note, *unused]))


def number_repeats(rows: Sequence[dict[str, Any]]) -> int:
    """Give runs that repeat another's settings seeds of their own, 1, 2, …; how many these are.

    One with the same loss to the last digit is no repeat but the same run, and stays as it is.
    """
    found, seeds = 0, dict[int, int]()
    for i, twin in twins_of(rows).items():
        if not _one_loss(rows[i], rows[twin]):
            seeds[twin] = seeds.get(twin, rows[twin]["seed"]) + 1
            rows[i]["seed"] = seeds[twin]
            found += 1
    return found


def _one_loss(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return row["val_loss"] is not None and row["val_loss"] == other["val_loss"]


def twins_of(rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Rows with the first that no fit could tell them from, by their places.

    Their numbers agree but for rounding, or for steps that are not cut.
    """
    if not rows:
        return {}
    table = pd.DataFrame([{key: row[key] for key in IDENTITY} for row in rows])
    for column in ROUNDED:
        table[column] = same_number(table[column].astype(float))
    if table["lr"].notna().all():
        table["tokens"] = same_budget(table["tokens"])
    first = dict[tuple[Any, ...], int]()
    keys = table.astype(object).where(table.notna(), None).itertuples(index=False, name=None)
    found = [(i, first.setdefault(key, i)) for i, key in enumerate(keys)]
    return {i: twin for i, twin in found if i != twin}

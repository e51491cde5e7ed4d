"""Tables and lines that commands print."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from scionlab.times import clock

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fits.advice import Advice
    from analysis.studies.table import Fit
    from scionlab.sweep import SweepResult
    from scionlab.sweep.micro import Largest
    from scionlab.sweep.plan import Cell, Plan
    from scionlab.sweep.tasks import Task


def print_plan(plan: Plan, tasks: Sequence[Task], runs: pd.DataFrame, workers: int, console: Console) -> None:
    """The cells of a dry run by optimizer, width and budget, and their cost in tokens, FLOPs and time.

    `tasks` are those left, with the stems that they share.
    """
    from scionlab.sweep.estimate import estimate_seconds
    from scionlab.sweep.stems import shares_of

    todo = {cell.trial_id for cell in plan.todo}
    groups: dict[tuple[str, int, int], list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.trial.optimizer, cell.trial.width, cell.trial.tokens), []).append(cell)
    table = Table(
        "optimizer",
        "width",
        "budget",
        "batch × length",
        "trials",
        "to train",
        "learning rates",
        "tokens in all",
        "FLOPs",
        title="Cells",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for (optimizer, width, budget), cells in groups.items():
        rates = sorted({cell.trial.lr for cell in cells})
        table.add_row(
            optimizer,
            str(width),
            f"{budget:,}",
            f"{_span(c.trial.batch_size for c in cells)} × {_span(c.trial.seq_len for c in cells)}",
            str(len(cells)),
            str(sum(cell.trial_id in todo for cell in cells)),
            f"{_power(rates[0])} … {_power(rates[-1])} ({len(rates)})",
            f"{sum(cell.trial.exact_tokens for cell in cells):,}",
            f"{sum(cell.flops for cell in cells):.2e}",
        )
    console.print(table)
    console.print("timing a few steps of every shape …")
    seconds = estimate_seconds(plan.todo, runs, shares_of(tasks)) / workers
    flops = sum(task.flops for task in tasks)
    if stems := [task for task in tasks if task.stem]:
        count = sum(len(task.cells) for task in stems)
        tokens = sum(cell.trial.exact_tokens for cell in plan.todo)
        console.print(
            f"{count} trials begin with {len(stems)} stem{'' if len(stems) == 1 else 's'}: "
            f"{sum(task.tokens for task in tasks):,} tokens are trained, not {tokens:,}"
        )
    console.print(f"{len(plan.todo)} of {len(plan.cells)} trials to train, {cost_words(flops, seconds, workers)}")


def cost_words(flops: float, seconds: float | None, workers: int) -> str:
    """What trials cost with so many at a time; None is a time that nothing tells."""
    if seconds is None:
        return f"{flops:.2e} FLOPs with {workers} at a time; the store has no trial to tell by how long that takes"
    return f"{flops:.2e} FLOPs, about {clock(seconds)} with {workers} at a time"


def print_kept(count: int, console: Console) -> None:
    """How many of the trials left have a checkpoint, if any."""
    if count:
        console.print(f"{count} of the trials left {'goes' if count == 1 else 'go'} on from a checkpoint")


def print_memory(most: Largest | None, console: Console) -> None:
    """What the largest of the trials left takes, and how its batches are read."""
    if most is None:
        return
    trial = most.cell.trial
    batch = max(stage.batch_size for stage in trial.plan)
    how = f"parts of {most.micro_batch}" if 0 < most.micro_batch < batch else "whole"
    free = "" if most.free is None else f" of {most.free / 1e9:.1f} GB free to a worker"
    console.print(
        f"memory: about {most.bytes / 1e9:.1f} GB{free} for the largest trial ({trial.optimizer}, width {trial.width}, "
        f"batch {batch}), batches read {'in ' if how != 'whole' else ''}{how}"
    )


def _span(values: Iterable[int]) -> str:
    """The first and the last of some sizes."""
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]}…{found[-1]}"


def _power(value: float) -> str:
    """A learning rate as a power of two, to a tenth of an octave."""
    return f"2^{round(math.log2(value), 1):g}"


def print_result(result: SweepResult, name: str, console: Console) -> None:
    """What a sweep trained, how long it took, and how busy its workers were."""

    total = len(result.plan.cells)
    if not result.reports:
        console.print(f"{name}: all {total} trials are in the store, nothing to train")
        return
    counts = {status: sum(r.status == status for r in result.reports) for status in ("ok", "diverged", "error")}
    listed = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    console.print(
        f"{name}: trained {len(result.reports)} of {total} trials ({listed}) in {clock(result.wall_time_s)}; "
        f"{result.workers} workers were {result.efficiency:.0%} busy"
    )
    compiled = sum(len(task.cells) for task in result.tasks if task.compile)
    stacks = [len(task.cells) for task in result.tasks if task.stacked]
    if compiled or stacks:
        in_stacks = f", {sum(stacks)} trained in {len(stacks)} stacks" if stacks else ""
        console.print(f"{compiled} with compiled gradients{in_stacks}")


def print_fit(fit: Fit, advice: Advice, console: Console) -> None:
    """A fit's tables for the terminal, and what would settle what they leave open."""
    for title, frame in fit.summaries():
        print_frame(frame, title, console)
    if advice.lines:
        console.print("What would settle it", style="italic")
        for line in (*advice.lines, *advice.commands):
            console.print(f"  {line}")
        if advice.again:
            console.print(f"  then: {advice.again}")
        if advice.note:
            console.print(f"  {advice.note}")
        console.print()


def print_frame(frame: pd.DataFrame, title: str, console: Console) -> None:
    """A table of texts."""
    print_rows(list(frame.columns), frame.itertuples(index=False), title, console)


def print_rows(columns: Sequence[str], rows: Iterable[Iterable[object]], title: str, console: Console) -> None:
    """A table of texts."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")  # a name that is cut off names nothing
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)

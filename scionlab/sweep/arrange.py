"""How the cells of a plan become tasks: in stems or stacks where that is faster, compiled where it pays, longest first.

What is compiled does not depend on what is a stem, so that rows are the same without.

One task of every shape that is to be compiled comes before all others: so each worker compiles another shape, and finds
the others' graphs on disk when it needs them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scionlab.errors import UserError, unknown
from scionlab.sweep.compiling import MODES, shape_of, shapes_to_compile
from scionlab.sweep.plan import Cell, Plan
from scionlab.sweep.stacking import make_tasks, stack_choices
from scionlab.sweep.stems import MODES as STEMS
from scionlab.sweep.stems import choose_stems, with_stems
from scionlab.sweep.tasks import Task, longest_first


@dataclass(frozen=True)
class How:
    """How trials are trained: nothing that changes their numbers but for rounding.

    compile: "auto" where it pays, "always" or "never".
    stack: the number of trials in a stack, 1 for none, None for what is fastest.
    stem: whether budgets share the steps they have in common: "auto" where that is faster, "always" or "never".
    checkpoint_minutes: minutes from one checkpoint of a trial to the next; inf for none on the way.
    micro_batch: examples of the parts that larger batches are read in, 0 for whole batches, None for what fits.

    Raises UserError for an unknown `compile` or `stem`, a `stack` below 1, minutes that are not above 0, and a
    `micro_batch` below 0.
    """

    compile: str = "auto"
    stack: int | None = None
    checkpoint_minutes: float = 5.0
    stem: str = "auto"
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        if self.compile not in MODES:
            raise unknown("compile", self.compile, MODES)
        if self.stem not in STEMS:
            raise unknown("stem", self.stem, STEMS)
        if self.stack is not None and self.stack < 1:
            raise UserError(f"stack: {self.stack} is not allowed: it must be at least 1")
        if not self.checkpoint_minutes > 0:
            raise UserError(f"checkpoint_minutes: {self.checkpoint_minutes} is not allowed: it must be above 0")
        if self.micro_batch is not None and self.micro_batch < 0:
            raise UserError(f"micro_batch: {self.micro_batch} is not allowed: it must be auto, or at least 0")

    def in_parts(self, cell: Cell) -> bool:
        """Whether batches of a cell are to be cut, as asked for; then it is trained alone."""
        most = max(stage.batch_size for stage in cell.trial.plan)
        return bool(self.micro_batch) and most > (self.micro_batch or 0)


def planned_stems(plan: Plan, workers: int, how: How) -> list[Task]:
    """The stems of a plan as far as that can be told without timing stacks, which may turn out to be faster."""
    asked = how.stack is not None and how.stack > 1
    stacked = [cell.stack_key for cell in plan.cells if asked and cell.stack_key is not None]
    return choose_stems(plan.cells, dict.fromkeys(stacked, math.inf), workers, how.stem)


def arrange(plan: Plan, workers: int, cache: Path, how: How) -> list[Task]:
    """Tasks for what is to do, in the order they are to be started in; `cache` is the file of measured stack sizes."""
    whole = [cell for cell in plan.cells if not how.in_parts(cell)]
    stacks = stack_choices(whole, workers, cache, how.stack)
    sizes = {key: choice.size for key, choice in stacks.items()}
    gains = {key: choice.gain for key, choice in stacks.items()}
    stems = choose_stems(plan.cells, gains, workers, how.stem)
    members = {cell.trial_id for stem in stems for cell in stem.cells}

    def arranged(cells: Sequence[Cell], stems: Sequence[Task]) -> list[Task]:
        alone = with_stems((cell for cell in cells if cell.trial_id in members), stems)
        return alone + make_tasks([cell for cell in cells if cell.trial_id not in members], sizes, workers)

    shapes = shapes_to_compile(arranged(plan.cells, []), workers, how.compile)
    tasks = arranged(plan.todo, stems)
    kept = 60 * how.checkpoint_minutes
    ordered = longest_first(
        replace(
            task,
            compile=shape_of(task) in shapes,
            interval_s=kept,
            micro_batch=how.micro_batch,
            workers=workers,
        )
        for task in tasks
    )
    first: dict[object, Task] = {}
    for task in ordered:
        if task.compile:
            first.setdefault((shape_of(task), len(task.cells)), task)
    taken = set(map(id, first.values()))
    return [*first.values(), *(task for task in ordered if id(task) not in taken)]

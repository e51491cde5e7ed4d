"""How the cells of a plan become tasks: stacked where that is faster, compiled where that pays, the longest first.

One task of every shape that is to be compiled comes before all others: so each worker compiles another shape, and finds
the others' graphs on disk when it needs them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from scionlab.errors import UserError, unknown
from scionlab.sweep.compiling import MODES, shape_of, shapes_to_compile
from scionlab.sweep.plan import Plan
from scionlab.sweep.stacking import make_tasks, stack_sizes
from scionlab.sweep.tasks import Task, longest_first


@dataclass(frozen=True)
class How:
    """How trials are trained: nothing that changes their numbers but for rounding.

    compile: "auto" where it pays, "always" or "never".
    stack: the number of trials in a stack, 1 for none, None for what is fastest.
    checkpoint_minutes: minutes from one checkpoint of a trial to the next; inf for none on the way.

    Raises UserError for an unknown `compile`, a `stack` below 1 and minutes that are not above 0.
    """

    compile: str = "auto"
    stack: int | None = None
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        if self.compile not in MODES:
            raise unknown("compile", self.compile, MODES)
        if self.stack is not None and self.stack < 1:
            raise UserError(f"stack: {self.stack} is not allowed: it must be at least 1")
        if not self.checkpoint_minutes > 0:
            raise UserError(f"checkpoint_minutes: {self.checkpoint_minutes} is not allowed: it must be above 0")


def arrange(plan: Plan, workers: int, cache: Path, how: How) -> list[Task]:
    """Tasks for what is to do, in the order they are to be started in; `cache` is the file of measured stack sizes."""
    sizes = stack_sizes(plan.cells, workers, cache, how.stack)
    shapes = shapes_to_compile(make_tasks(plan.cells, sizes, workers), workers, how.compile)
    tasks = make_tasks(plan.todo, sizes, workers)
    kept = 60 * how.checkpoint_minutes
    ordered = longest_first(replace(task, compile=shape_of(task) in shapes, interval_s=kept) for task in tasks)
    first: dict[object, Task] = {}
    for task in ordered:
        if task.compile:
            first.setdefault((shape_of(task), len(task.cells)), task)
    taken = set(map(id, first.values()))
    return [*first.values(), *(task for task in ordered if id(task) not in taken)]

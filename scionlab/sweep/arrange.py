"""How the cells of a plan become tasks: stacked where that is faster, compiled where that pays, the longest first.

One task of every shape that is to be compiled comes before all others: so each worker compiles another shape, and finds
the others' graphs on disk when it needs them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scionlab.errors import UserError, unknown
from scionlab.sweep.compiling import MODES, choose_compiled, shape_of
from scionlab.sweep.plan import Cell
from scionlab.sweep.stacking import make_stacks
from scionlab.sweep.tasks import Task, longest_first


@dataclass(frozen=True)
class How:
    """How trials are trained. `stack` is the number of trials in a stack, 1 for none, None for what is fastest.

    Raises UserError for an unknown `compile`, and a `stack` below 1.
    """

    compile: str = "auto"
    stack: int | None = None

    def __post_init__(self) -> None:
        if self.compile not in MODES:
            raise unknown("compile", self.compile, MODES)
        if self.stack is not None and self.stack < 1:
            raise UserError(f"stack: {self.stack} is not allowed: it must be at least 1")


def arrange(cells: Sequence[Cell], workers: int, cache: Path, how: How) -> list[Task]:
    """Tasks for all cells, in the order they are to be started in; `cache` is the file of measured stack sizes."""
    tasks = choose_compiled(make_stacks(cells, workers, cache, how.stack), workers, how.compile)
    ordered = longest_first(tasks)
    first: dict[object, Task] = {}
    for task in ordered:
        if task.compile:
            first.setdefault(shape_of(task), task)
    taken = set(map(id, first.values()))
    return [*first.values(), *(task for task in ordered if id(task) not in taken)]

"""What an executor is given: tasks, each of one cell or of several that are trained together, the longest first."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Self

from scionlab.sweep.plan import Cell


@dataclass(frozen=True)
class Task:
    """Cells that are trained together, mostly one. `compile` says whether their gradients are compiled.

    `stacked` says whether they are a stack: one cell can be, where others of its sweep have been trained before.
    `interval_s` are the seconds from one checkpoint to the next of a cell that is trained alone. `micro_batch` are the
    examples of the parts that its batches are read in, 0 for whole and None for what fits into the share of one of
    `workers` (`scionlab.sweep.micro`).
    """

    cells: tuple[Cell, ...]
    compile: bool = False
    stacked: bool = False
    interval_s: float = math.inf
    micro_batch: int | None = None
    workers: int = 1

    @property
    def cost(self) -> float:
        """Expected work of all its cells, as `Cell.cost`."""
        return sum(cell.cost for cell in self.cells)

    def without(self, trial_ids: Collection[str]) -> Self:
        """The task of its other cells."""
        if not trial_ids:
            return self
        return replace(self, cells=tuple(cell for cell in self.cells if cell.trial_id not in trial_ids))


def longest_first(tasks: Iterable[Task]) -> list[Task]:
    """The tasks by falling cost, so that workers end at about the same time."""
    return sorted(tasks, key=lambda task: -task.cost)

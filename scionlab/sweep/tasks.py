"""What an executor is given: tasks, each of one cell or of several that are trained together, the longest first."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from scionlab.sweep.plan import Cell
from scionlab.training import part


@dataclass(frozen=True)
class Task:
    """Cells that are trained together, mostly one. `compile` says whether their gradients are compiled.

    `stacked` says whether they are a stack: one cell can be, where others of its sweep have been trained before.
    `stem` says whether they are the budgets of one stem, of two or more cells.
    `interval_s` are the seconds from one checkpoint to the next of a cell that is trained alone. `micro_batch` are the
    examples of the parts that its batches are read in, 0 for whole and None for what fits into the share of one of
    `workers` (`scionlab.sweep.micro`).
    """

    cells: tuple[Cell, ...]
    compile: bool = False
    stacked: bool = False
    interval_s: float = math.inf
    stem: bool = False
    micro_batch: int | None = None
    workers: int = 1

    @property
    def cost(self) -> float:
        """Expected work of all its cells, as `Cell.cost`; the steps of a stem count once."""
        return sum(cell.cost for cell in self.cells) * self.trained_share

    @property
    def tokens(self) -> int:
        """Tokens that are trained; those of a stem count once."""
        return round(sum(cell.trial.exact_tokens for cell in self.cells) * self.trained_share)

    @property
    def flops(self) -> float:
        """Floating-point operations of training, likewise."""
        return sum(cell.flops for cell in self.cells) * self.trained_share

    @cached_property
    def trained_share(self) -> float:
        """Steps that are taken for its cells over those that its cells would take alone: 1 but for stems."""
        if not self.stem:
            return 1.0
        parting = part([cell.trial for cell in self.cells])
        return parting.trained / parting.alone

    def without(self, trial_ids: Collection[str]) -> Self:
        """The task of its other cells."""
        if not trial_ids:
            return self
        return replace(self, cells=tuple(cell for cell in self.cells if cell.trial_id not in trial_ids))


def longest_first(tasks: Iterable[Task]) -> list[Task]:
    """The tasks by falling cost, so that workers end at about the same time."""
    return sorted(tasks, key=lambda task: -task.cost)

"""What an executor is given: tasks, each of one cell or of several that are trained together, the longest first.

Executors of several processes hand them out by a `TaskQueue`.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scionlab.sweep.plan import Cell


@dataclass(frozen=True)
class Task:
    """Cells that are trained together, mostly one. `compile` says whether their gradients are compiled.

    `stacked` says whether they are a stack: one cell can be, where others of its sweep have been trained before.
    """

    cells: tuple[Cell, ...]
    compile: bool = False
    stacked: bool = False

    @property
    def cost(self) -> float:
        """Expected work of all its cells, as `Cell.cost`."""
        return sum(cell.cost for cell in self.cells)


def longest_first(tasks: Iterable[Task]) -> list[Task]:
    """The tasks by falling cost, so that workers end at about the same time."""
    return sorted(tasks, key=lambda task: -task.cost)


class TaskQueue:
    """Numbers 0, 1, …, size − 1 for the processes of one machine: each number is handed out once, and never again.

    A number that is taken is a symbolic link in `folder`, which points to the worker that took it: it is made in one
    go or not at all, and outlives its maker. So a trial that kills its worker is not tried twice.
    """

    def __init__(self, folder: str | os.PathLike[str], size: int) -> None:
        self.folder, self.size, self._next = Path(folder), size, 0

    def take(self, worker: int) -> int | None:
        """The lowest number that nobody has taken, or None."""
        for number in range(self._next, self.size):
            self._next = number + 1
            try:
                os.symlink(str(worker), self.folder / str(number))
            except FileExistsError:
                continue
            return number
        return None

    def taken_by(self, worker: int) -> set[int]:
        """All that this worker has taken so far."""
        return {int(path.name) for path in self.folder.iterdir() if os.readlink(path) == str(worker)}

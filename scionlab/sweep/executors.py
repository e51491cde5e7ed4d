"""Where cells run: an executor takes cells, longest first, and reports each one as it finishes.

`EXECUTORS` is the one table of names. Ray is imported when it is asked for, and by nobody else.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from scionlab.store import RunStore
from scionlab.sweep.job import Report, run_cell
from scionlab.sweep.plan import Cell

OnReport = Callable[[Report], None]


class Executor(Protocol):
    """Trains every cell, writes each to the store as it finishes, and tells `on_report`. Ctrl-C may interrupt it."""

    def __call__(self, cells: Sequence[Cell], store: RunStore, workers: int, on_report: OnReport) -> None:
        """Return when all cells are done."""


def inline(cells: Sequence[Cell], store: RunStore, workers: int, on_report: OnReport) -> None:
    """One after another in this process; `workers` does not matter."""
    for cell in cells:
        on_report(run_cell(cell, store))


def ray(cells: Sequence[Cell], store: RunStore, workers: int, on_report: OnReport) -> None:
    """In parallel under Ray Tune."""
    from scionlab.sweep.ray_tune import run

    run(cells, store, workers, on_report)


EXECUTORS: dict[str, Executor] = {
    "ray": ray,
    "inline": inline,
}

"""What a sweep shows while it runs: a live bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from scionlab.sweep.job import Report
from scionlab.sweep.plan import Cell

PLAIN_INTERVAL_S = 2.0  # plain output is for logs: at most one line in this time


def clock(seconds: float) -> str:
    """Whole seconds as m:ss or h:mm:ss."""
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"


class SweepProgress:
    """Counts reports of cells; time left is the cost to do (FLOPs and overhead) over the rate of cost so far."""

    def __init__(self, cells: Sequence[Cell], console: Console, best: Mapping[str, float] | None = None) -> None:
        """`best` is the lowest loss of each optimizer among trials that are in the store already."""
        self.cells = {cell.trial_id: cell for cell in cells}
        self.console = console
        self.total_cost = sum(cell.cost for cell in cells)
        self.done = self.diverged = self.failed = 0
        self.done_cost = 0.0
        self.best = dict(best or {})
        self.began = self._training_began = time.monotonic()
        self._last_line = float("-inf")
        self._live: Live | None = None
        self._bar: Progress
        self._task: TaskID

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[counts]}"),
                TimeElapsedColumn(),
                TextColumn("left {task.fields[left]}"),
                console=self.console,
            )
            self._task = self._bar.add_task("", total=self.total_cost, counts=self._counts(), left="–")
            self._live = Live(self._screen(), console=self.console, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, value, trace)

    def update(self, report: Report) -> None:
        """Take in a finished cell."""
        cell = self.cells[report.trial_id]
        if self.done == 0:  # the executor's start is not part of the rate
            self._training_began = time.monotonic() - report.wall_time_s
        self.done += 1
        self.done_cost += cell.cost
        self.diverged += report.status == "diverged"
        self.failed += report.status == "error"
        if report.val_loss is not None:
            name = cell.trial.optimizer
            self.best[name] = min(report.val_loss, self.best.get(name, float("inf")))
        if self._live is not None:
            self._bar.update(
                self._task, completed=self.done_cost, counts=self._counts(), left=clock(self.seconds_left())
            )
            self._live.update(self._screen())
        else:
            self._print_line()

    def seconds_left(self) -> float:
        """Time to the end at the rate so far."""
        elapsed = time.monotonic() - self._training_began
        return elapsed * (self.total_cost - self.done_cost) / max(1, self.done_cost)

    def _counts(self) -> str:
        extra = [f"{n} {word}" for n, word in ((self.diverged, "diverged"), (self.failed, "failed")) if n]
        return f"{self.done}/{len(self.cells)}" + (f" ({', '.join(extra)})" if extra else "")

    def _best_line(self) -> str:
        return "best val loss: " + " · ".join(f"{k} {v:.3f}" for k, v in sorted(self.best.items()))

    def _screen(self) -> Group:
        return Group(self._bar, Text(self._best_line() if self.best else "waiting for the first trial", style="dim"))

    def _print_line(self) -> None:
        now = time.monotonic()
        if now - self._last_line < PLAIN_INTERVAL_S and self.done < len(self.cells):
            return
        self._last_line = now
        line = f"{self._counts()} trials, {clock(now - self.began)} gone, {clock(self.seconds_left())} left"
        self.console.print(f"{line}; {self._best_line()}" if self.best else line, highlight=False, soft_wrap=True)

"""What a sweep shows while it runs: a few live lines in a terminal, plain ones elsewhere.

    ━━━━━━━━━━━━╺━━━━━━━━━━━━━  37/210, 2 diverged, 1 failed  1:23, 4:10 left
    best val loss: adam 2.134 · scion 2.050
    scion width 128 lr 2^-5 seed 0                         120/512 loss 2.345

Every line is cut to the terminal's width, and what matters least goes first. Times are those of a clock that only runs
forward.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from scionlab.sweep.job import Report
from scionlab.sweep.labels import trial_labels
from scionlab.sweep.plan import Cell
from scionlab.times import clock

SHORTEST_S = 1.0  # a rate of less time says little
# Plain output is for logs: at most one line in this time, which grows with the time gone, up to the last number.
PLAIN_INTERVAL_S, PLAIN_SHARE, PLAIN_LONGEST_S = 2.0, 0.05, 600.0
# A terminal shows at most so many trials under way, the ones heard of last, and leaves so many of its lines alone.
SHOWN, MARGIN_LINES = 8, 4
WIDEST, NARROW, NARROWEST, NARROWEST_BAR = 100, 60, 36, 8  # columns


@dataclass(frozen=True)
class Under:
    """A trial under way: where it was when it was last heard of."""

    step: int
    loss: float


class SweepProgress:
    """Counts reports of cells, and follows those under way; time left is the cost to do over the rate of cost so far.

    Cost is FLOPs and overhead (`Cell.cost`). Rows and reports come from one thread; another one may draw.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        console: Console,
        best: Mapping[str, float] | None = None,
        shares: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """`best` is the lowest loss of each optimizer among trials that are in the store already.

        `shares` says by id what share of a cell's steps is trained, where it is not all (`scionlab.sweep.stems`).
        """
        self.cells = {cell.trial_id: cell for cell in cells}
        self.place = {trial_id: n for n, trial_id in enumerate(self.cells)}  # so that lines keep their order
        trials = {cell.trial_id: cell.trial for cell in cells}
        self.labels, self.short_labels = trial_labels(trials), trial_labels(trials, names=False)
        self.console = console
        self.costs = {cell.trial_id: cell.cost * shares.get(cell.trial_id, 1.0) for cell in cells}
        self.total_cost = sum(self.costs.values())
        self.ended: set[str] = set()
        self.under: dict[str, Under] = {}  # the one heard of last is at the end
        self.diverged = self.failed = 0
        self.ended_cost = 0.0
        self.best = dict(best or {})
        self.began = time.monotonic()
        self._training_began: float | None = None
        self._next_line = self.began + PLAIN_INTERVAL_S
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(_Screen(self), console=self.console, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.under.clear()  # nothing is, any more
        if self._live is not None:
            self._live.__exit__(kind, value, trace)

    @property
    def done(self) -> int:
        """Cells that have ended, in whatever way."""
        return len(self.ended)

    def row(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Take in a row of the curve of a trial under way."""
        if trial_id not in self.cells or trial_id in self.ended or "train_loss" not in row:  # rows may come late
            return
        if self._training_began is None:  # the executor's start is not part of the rate
            self._training_began = time.monotonic()
        self.under.pop(trial_id, None)
        self.under[trial_id] = Under(int(row["step"]), float(row["train_loss"]))
        self._print_line()

    def update(self, report: Report) -> None:
        """Take in a finished cell."""
        cell = self.cells[report.trial_id]
        if self._training_began is None:
            self._training_began = time.monotonic() - report.wall_time_s
        self.under.pop(report.trial_id, None)
        self.ended.add(report.trial_id)
        self.ended_cost += self.costs[report.trial_id]
        self.diverged += report.status == "diverged"
        self.failed += report.status == "error"
        if report.val_loss is not None:
            name = cell.trial.optimizer
            self.best[name] = min(report.val_loss, self.best.get(name, float("inf")))
        self._print_line()

    @property
    def done_cost(self) -> float:
        """The cost of the cells that have ended, and of the steps taken by those under way."""
        under = list(self.under.items())  # in one go: a thread that draws must not see it change
        return self.ended_cost + sum(
            self.costs[trial_id] * now.step / self.cells[trial_id].trial.steps for trial_id, now in under
        )

    def seconds_gone(self) -> float:
        """Time since the sweep began."""
        return time.monotonic() - self.began

    def seconds_left(self) -> float:
        """Time to the end at the rate so far; NaN before there is one to speak of."""
        if self.done == len(self.cells):
            return 0.0
        elapsed = 0.0 if self._training_began is None else time.monotonic() - self._training_began
        done = self.done_cost
        if elapsed < SHORTEST_S or done <= 0:
            return math.nan
        return elapsed * max(0.0, self.total_cost - done) / done

    def counts(self, noun: str = "") -> str:
        """Cells ended of all, and how many of them badly."""
        extra = [f", {n} {word}" for n, word in ((self.diverged, "diverged"), (self.failed, "failed")) if n]
        return f"{self.done}/{len(self.cells)}{noun}" + "".join(extra)

    def best_line(self, narrow: bool = False) -> str:
        """The lowest validation loss of every optimizer; where the line will be cut, the best of them come first."""
        if not self.best:
            return "no trial is done yet"
        order = sorted(self.best.items(), key=(lambda item: item[1]) if narrow else None)
        return ("best: " if narrow else "best val loss: ") + " · ".join(f"{name} {loss:.3f}" for name, loss in order)

    def _print_line(self) -> None:
        now = time.monotonic()
        if self._live is not None or (now < self._next_line and self.done < len(self.cells)):
            return
        self._next_line = now + min(max(PLAIN_INTERVAL_S, PLAIN_SHARE * (now - self.began)), PLAIN_LONGEST_S)
        line = f"{self.counts(' trials')}, {clock(self.seconds_gone())} gone, {clock(self.seconds_left())} left"
        parts = [line] + ([self.best_line()] if self.best else [])
        if self.under:
            losses = [now.loss for now in self.under.values()]
            span = " to ".join(dict.fromkeys(map(number, (min(losses), max(losses)))))
            parts.append(f"{len(losses)} under way at train loss {span}")
        self.console.print(plain("; ".join(parts), self.console.options), highlight=False, soft_wrap=True)


class _Screen:
    """The lines of a terminal, made anew whenever they are drawn."""

    def __init__(self, progress: SweepProgress) -> None:
        self.progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        options = options.update(width=min(options.max_width, WIDEST))
        progress, width = self.progress, options.max_width
        yield from self._bar(console, options)
        narrow = width < NARROW
        yield _cut(progress.best_line(narrow), "", options, "dim")
        under = list(progress.under.items())
        room = max(0, min(SHOWN, console.height - MARGIN_LINES))
        shown = under[max(0, len(under) - room) :]
        for trial_id, now in sorted(shown, key=lambda item: progress.place[item[0]]):
            steps = progress.cells[trial_id].trial.steps
            where = f"{now.step}/{steps} loss {number(now.loss)}" if width >= NARROWEST else number(now.loss)
            yield _cut((progress.short_labels if narrow else progress.labels)[trial_id], where, options)
        if len(under) > len(shown):
            yield _cut(f"and {len(under) - len(shown)} more under way", "", options, "dim")

    def _bar(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The bar, the counts and the times; without the bar, and without the time gone, where there is no room."""
        progress, width = self.progress, options.max_width
        left = plain(clock(progress.seconds_left()), options)
        long = f"{progress.counts()}  {clock(progress.seconds_gone())}, {left} left"
        text = long if len(long) + 2 <= width else f"{progress.counts()} {left} left"
        room = width - len(text) - 2
        if room < NARROWEST_BAR:
            least = f"{progress.done}/{len(progress.cells)} "
            fit = (right for right in (f"{left} left", left, "") if len(least + right) <= width)
            yield _cut(progress.counts(), next(fit, ""), options)
            return
        bar = ProgressBar(total=progress.total_cost, completed=progress.done_cost, width=room)
        yield from console.render(bar, options)
        yield Segment(f"  {text}")
        yield Segment.line()


def number(loss: float) -> str:
    """A loss in a few characters, whatever it is."""
    return f"{loss:.3f}" if abs(loss) < 1e4 or not math.isfinite(loss) else f"{loss:.1e}"


def _cut(left: str, right: str, options: ConsoleOptions, style: str = "") -> Text:
    """One line as wide as the terminal: `left` is cut, and `right`, if even that is too wide."""
    width = options.max_width
    ellipsis = plain("…", options)

    def cut(text: str, room: int) -> str:
        line = Text(plain(text, options))
        if line.cell_len > room:
            line.truncate(max(0, room - len(ellipsis)))
            line.append(ellipsis[:room])
        return line.plain

    right = cut(right, width)
    left = cut(left, width - len(right) - 1 if right else width)
    gap = " " * (width - Text(left).cell_len - len(right)) if right else ""
    return Text(left + gap + right, style=style, no_wrap=True, overflow="crop", end="\n")


def plain(text: str, options: ConsoleOptions) -> str:
    """The text for an encoding that may have no more than ASCII."""
    if not options.ascii_only:
        return text
    for fine, coarse in {"·": "|", "–": "-", "…": "..", "×": "x"}.items():
        text = text.replace(fine, coarse)
    return text.encode("ascii", "replace").decode()

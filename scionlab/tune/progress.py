"""What searches show while they run: a bar for every method and place in a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from scionlab.times import clock
from scionlab.tune import attempt
from scionlab.tune.studies import Study

PLAIN_INTERVAL_S = 5.0  # plain output is for logs: at most one line in this time
EARLY = (attempt.PRUNED, attempt.DIVERGED, attempt.FAILED)


class SearchProgress:
    """Counts the trials of searches, all search seeds of a method at a place together; those made earlier are done."""

    def __init__(self, studies: Sequence[Study], console: Console) -> None:
        self.console, self.began, self._last_line = console, time.monotonic(), float("-inf")
        self.total: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.best: dict[str, float] = {}
        for study in studies:
            name = _label(study)
            self.total[name] += study.search.trials
            self.done[name] += min(study.finished, study.search.trials)
            self.best[name] = min(_best(study), self.best.get(name, float("inf")))
        self.before = sum(self.done.values())
        self.states: dict[str, Counter[str]] = {name: Counter() for name in self.total}
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
            self._bars = Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console)
            for name, total in self.total.items():
                self._tasks[name] = self._bars.add_task(
                    name, total=total, completed=self.done[name], note=self._note(name)
                )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def update(self, study: Study, last: attempt.Progress) -> None:
        """A trial of a search has ended."""
        name = _label(study)
        self.done[name] += 1
        self.states[name][last.state] += 1
        if last.val_loss is not None:
            self.best[name] = min(last.val_loss, self.best[name])
        if self._bars is not None:
            self._bars.update(self._tasks[name], completed=self.done[name], note=self._note(name))
        else:
            self._print_line(name)

    def _note(self, name: str) -> str:
        ended = [f"{count} {state}" for state in EARLY if (count := self.states[name][state])]
        best = [f"best {self.best[name]:.3f}"] if self.best[name] < float("inf") else []
        return ", ".join(best + ended)

    def _print_line(self, name: str) -> None:
        now, done, total = time.monotonic(), sum(self.done.values()), sum(self.total.values())
        if now - self._last_line < PLAIN_INTERVAL_S and done < total:
            return
        self._last_line = now
        left = (now - self.began) * (total - done) / max(1, done - self.before)
        self.console.print(
            f"{done}/{total} trials, {clock(now - self.began)} gone, {clock(left)} left; "
            f"{name}: {self.done[name]}/{self.total[name]} {self._note(name)}".rstrip(),
            highlight=False,
            soft_wrap=True,
        )


def _label(study: Study) -> str:
    return f"{study.search.method_name}, {study.search.place.name}"


def _best(study: Study) -> float:
    """Of the trials made by earlier calls."""
    losses = [row["val_loss"] for row in study.rows() if row["state"] == attempt.COMPLETE]
    return min(losses, default=float("inf"))

"""Who trains what: the one place that hands out a sweep's tasks, and carries the losses of trials under way.

Under Ray it is an actor beside the driver, which workers on any node ask. It imports nothing, so that its process is
small and there at once.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


class Told(NamedTuple):
    """What workers have told: rows by trial, in the order of their steps, and warnings."""

    rows: list[tuple[str, Mapping[str, Any]]]
    warnings: list[str]


class TaskQueue:
    """Numbers 0, 1, …, size − 1, each handed out once; and again only if it is given back.

    What a worker has taken outlives the worker: so a trial that kills it is not tried twice. Tasks in `alone` stop when
    they are asked to, and are waited for.
    """

    def __init__(self, size: int, alone: Collection[int] = ()) -> None:
        self._alone = frozenset(alone)
        self._at_work: set[int] = set()
        self._stopping = False
        self._waiting = deque(range(size))
        self._workers: dict[int, int] = {}
        self._skip: dict[int, frozenset[str]] = {}
        self._nodes: dict[int, str] = {}
        self._rows: dict[tuple[str, bool], Mapping[str, Any]] = {}
        self._warnings: list[str] = []

    def join(self, worker: int, node: str) -> None:
        """A worker has started on a node."""
        self._nodes[worker] = node

    def node_of(self, worker: int) -> str | None:
        """Where a worker started last, or None if it never did."""
        return self._nodes.get(worker)

    def take(self, worker: int) -> tuple[int, frozenset[str]] | None:
        """The next number and the ids of its trials that need no more training, or None."""
        self._at_work.discard(worker)
        if self._stopping or not self._waiting:
            return None
        number = self._waiting.popleft()
        self._workers[number] = worker
        if number in self._alone:
            self._at_work.add(worker)
        return number, self._skip.get(number, frozenset())

    def taken_by(self, worker: int) -> set[int]:
        """All that this worker has taken so far, and not given back."""
        return {number for number, owner in self._workers.items() if owner == worker}

    def give_back(self, number: int, skip: Collection[str] = ()) -> None:
        """Hand a number out again, before all others and without the trials in `skip`."""
        del self._workers[number]
        self._skip[number] = frozenset(skip)
        self._waiting.appendleft(number)

    def stop(self) -> None:
        """From now on nothing is handed out, and who is at work is asked to stop."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether to stop."""
        return self._stopping

    def stopped(self, worker: int) -> None:
        """A worker has saved what it was at."""
        self._at_work.discard(worker)

    def at_work(self) -> set[int]:
        """Workers that are at a task that stops when it is asked to."""
        return set(self._at_work)

    def tell(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """The latest row of a trial's curve, or the latest validation."""
        self._rows[trial_id, "train_loss" in row] = row

    def warn(self, text: str) -> None:
        """A line that the user is to read."""
        self._warnings.append(text)

    def told(self) -> Told:
        """Of each trial the latest row and the latest validation since the last call, and all warnings since then."""
        rows, self._rows = self._rows, {}
        warnings, self._warnings = self._warnings, []
        ordered = sorted(rows.items(), key=lambda item: (item[1]["step"], item[0][1]))
        return Told([(key[0], row) for key, row in ordered], warnings)

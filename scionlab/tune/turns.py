"""Whose turn it is: several searches share the workers, and each has few trials at a time, so that it can learn."""

import math
from collections.abc import Callable, Sequence

from scionlab.tune.attempt import Progress
from scionlab.tune.studies import Study

OnEnd = Callable[[Study, Progress], None]


def parallel(workers: int, searches: int) -> int:
    """Trials of one search at the same time: no more than needed to keep the workers busy."""
    return max(1, math.ceil(workers / max(1, searches)))


class Turns:
    """Counts the trials that are still to be given out.

    A failed trial counts as made: the next call makes up for it, and a search whose every trial fails comes to an end.
    """

    def __init__(self, studies: Sequence[Study]) -> None:
        self.studies = {study.search.study: study for study in studies}
        self.left = {name: max(0, study.search.trials - study.finished) for name, study in self.studies.items()}

    @property
    def total(self) -> int:
        """Trials not yet given out."""
        return sum(self.left.values())

    def order(self) -> list[Study]:
        """Studies with trials left, the one with the most work left first."""
        waiting = [study for name, study in self.studies.items() if self.left[name]]
        return sorted(waiting, key=lambda study: -self.left[study.search.study] * study.search.flops)

    def take(self, study: Study) -> None:
        """One of its trials has been given out."""
        self.left[study.search.study] -= 1

"""Which trials of a plan share a stem (`scionlab.training.stem`): budgets and schedules of one setting.

A trial joins where it shares SHARE of its steps. Rows are the same with stems and without, so a stem is used wherever
it costs less:

    Σ cost of its trials · steps trained / steps of the trials alone  <  Σ cost / gain

with the gain, 1 alone, that was measured for stacks of a trial's shape (`scionlab.sweep.stacking`); and unless the
sweep would take longer with all its workers, as the trials of a stem are trained one after the other. Code of the
caller's is trained alone unless asked: what it keeps outside of parameters, buffers and the optimizer's state does not
go along when a trial leaves its stem.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from scionlab.problems.data import is_own
from scionlab.sweep.plan import Cell
from scionlab.sweep.tasks import Task, longest_first
from scionlab.training import part

MODES = ("auto", "always", "never")
SHARE = 0.1


def choose_stems(cells: Sequence[Cell], gains: Mapping[str, float], workers: int, mode: str = "auto") -> list[Task]:
    """Stems of these cells, each of two or more; `mode` is one of MODES.

    `gains` says by `stack_key` how many times faster a trial is in a stack than alone, where there will be stacks.
    "always" stems whatever shares a step.
    """
    if mode == "never":
        return []
    always = mode == "always"
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        own = cell.trial.has_own_code or is_own(cell.trial.data)
        if cell.stem_key is not None and (always or not own):
            groups[cell.stem_key].append(cell)
    stems = [stem for group in groups.values() for stem in _split(group, 0.0 if always else SHARE)]
    if always:
        return stems

    def otherwise(stem: Task) -> float:
        return sum(cell.cost / gains.get(cell.stack_key or "", 1.0) for cell in stem.cells)

    cheaper = [stem for stem in stems if stem.cost < otherwise(stem)]
    alone = [Task((cell,)) for cell in cells]
    return cheaper if makespan(with_stems(cells, cheaper), workers) <= makespan(alone, workers) else []


def with_stems(cells: Iterable[Cell], stems: Sequence[Task]) -> list[Task]:
    """The cells as tasks: those of them that are in a stem together, and each of the others alone."""
    left = {cell.trial_id: cell for cell in cells}
    tasks = []
    for stem in stems:
        mine = tuple(left.pop(cell.trial_id) for cell in stem.cells if cell.trial_id in left)
        if mine:
            tasks.append(Task(mine, stem=len(mine) > 1))
    return tasks + [Task((cell,)) for cell in left.values()]


def shares_of(tasks: Iterable[Task]) -> dict[str, float]:
    """Of each cell by id: steps that are trained for its task over those that the task's cells take alone."""
    return {cell.trial_id: task.trained_share for task in tasks for cell in task.cells}


def makespan(tasks: Sequence[Task], workers: int) -> float:
    """Cost until the last task has ended, where each worker takes the longest that is left."""
    ends = [0.0] * workers
    for task in longest_first(tasks):
        heapq.heapreplace(ends, ends[0] + task.cost)
    return max(ends)


def _split(cells: Sequence[Cell], share: float) -> list[Task]:
    """Stems of cells of one key: each of the trial that shares most, and of those that share enough with it."""
    stems, left = [], list(cells)
    while len(left) > 1:
        parting = part([cell.trial for cell in left])
        joins = [
            n == parting.trunk or point >= max(1, math.ceil(share * cell.trial.steps))
            for n, (cell, point) in enumerate(zip(left, parting.points, strict=True))
        ]
        mine = tuple(cell for cell, in_it in zip(left, joins, strict=True) if in_it)
        left = [cell for cell, in_it in zip(left, joins, strict=True) if not in_it]
        if len(mine) > 1:
            stems.append(Task(mine, stem=True))
    return stems

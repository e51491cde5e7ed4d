"""Trains the cells of a stem: the stem once, and each trial from where it leaves, with checkpoints of both.

A branch is kept on its way as any trial that is trained alone, under its own id. The stem is kept under the id of the
trial that stays longest, and what is kept is a checkpoint of that trial, too, should it be trained alone. So after a
stop or a kill no row that was written is trained again, and of stem and branch no more than the interval.
"""

import io
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import torch

from scionlab.errors import UserError
from scionlab.problems.data import Source
from scionlab.runs.store import Checkpoints
from scionlab.sweep.keeping import UNREADABLE, Keeper, StoppedError
from scionlab.sweep.micro import micro_batch
from scionlab.sweep.plan import Cell
from scionlab.sweep.poison import poison
from scionlab.sweep.tasks import Task
from scionlab.training import OnRow, Outcome, Stem

Kept = dict[str, dict[str, Any]]


def train_branches(
    task: Task,
    corpus: Source,
    checkpoints: Checkpoints,
    listeners: Sequence[OnRow | None],
    stopping: Callable[[], bool],
    warn: Callable[[str], None],
) -> Generator[tuple[Cell, Outcome]]:
    """Each cell with its outcome, as it ends. A cell that does not come is to be trained alone.

    These are cells that have a checkpoint of their own, that a kept stem has left behind, or that failed here, perhaps
    for want of memory. `listeners` hear of the cells' rows. Raises what the stem fails with.
    """
    kept = _kept(task.cells, checkpoints)
    state = max((state for state in kept.values() if "stem" in state), key=lambda state: state["step"], default=None)
    numbers = [n for n, cell in enumerate(task.cells) if _joins(cell.trial_id, kept, state)]
    cells, heard = [task.cells[n] for n in numbers], [listeners[n] for n in numbers]
    if len(cells) < 2:
        return

    def keeper_of(n: int) -> Keeper:
        return Keeper(checkpoints, cells[n].trial_id, task.interval_s, stopping, warn)

    size = micro_batch(cells[0].trial, corpus, task.micro_batch, task.workers)
    stem = Stem([cell.trial for cell in cells], corpus, task.compile, heard, size)
    keeper = keeper_of(stem.last)
    if state is not None:
        try:
            stem.load_state_dict(state)
        except (UserError, *UNREADABLE) as error:
            keeper.cannot_go_on(error)
            stem = Stem(stem.trials, corpus, task.compile, heard, size)
    for _ in keeper.parts(stem):
        # Whose file the stem is in comes last: its branch takes that file, which nobody else may need then.
        for n in sorted(stem.leaving(), key=lambda n: n == stem.last):
            own = keeper_of(n)
            try:
                outcome = _finished(stem, n, own)
                if outcome is not None:
                    yield cells[n], outcome
            except (StoppedError, KeyboardInterrupt, GeneratorExit):
                if len(stem.followers) > 1 or not own.kept:
                    keeper.keep(stem)
                raise
            stem.leave(n)
        if not stem.finished:
            keeper.trial_id = cells[stem.last].trial_id


def _joins(trial_id: str, kept: Kept, state: Mapping[str, Any] | None) -> bool:
    """Whether a trial is in the stem that was kept, or in the new one; not if it has gone on alone before."""
    if trial_id in kept and "stem" not in kept[trial_id]:
        return False
    return state is None or trial_id in state["stem"]


def _finished(stem: Stem, n: int, keeper: Keeper) -> Outcome | None:
    """The outcome of a trial that leaves the stem; None where it fails, unless the GPU has gone with it."""
    try:
        return keeper.finish(stem.branch(n))
    except StoppedError:
        raise
    except Exception as failure:
        if poison(failure):
            raise
        return None


def _kept(cells: Sequence[Cell], checkpoints: Checkpoints) -> Kept:
    """The cells' checkpoints by id. One that cannot be read is empty: the trial will say so when it is trained."""
    found: Kept = {}
    for cell in cells:
        content = checkpoints.load(cell.trial_id)
        if content is not None:
            try:
                found[cell.trial_id] = torch.load(
                    io.BytesIO(content), map_location=cell.trial.device, weights_only=True
                )
            except UNREADABLE:
                found[cell.trial_id] = {}
    return found

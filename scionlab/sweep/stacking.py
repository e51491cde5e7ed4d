"""Which trials are trained together as one stack (`scionlab.training.stack`), and how many.

Of trials that can share a stack, a few steps are timed alone and in stacks of growing size, while they get faster and
fit in memory; the fastest per trial is taken, if it is faster than alone by GAIN. On a CPU only trials with less than
SMALL floating-point operations a step are timed at all, as larger ones keep a core busy by themselves, and stacks of
them have been slower (docs/performance.md); and only methods whose numbers a stack keeps. The choice is kept in
results/cache/stacks.json, so that it is made once for a shape on a machine, and again for another version of PyTorch.
Trials of very many steps are not stacked unasked: a stack is not kept on its way (`scionlab.sweep.keeping`).
"""

import json
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch

from scionlab import provenance
from scionlab.spec import Trial
from scionlab.sweep.plan import Cell
from scionlab.sweep.tasks import Task
from scionlab.training import can_stack, seconds_per_step
from scionlab.training.prepare import data_of

SIZES = (4, 16, 64)
SMALL = 3e7
# Steps beyond which a trial is trained alone, as it may take hours.
LONG_STEPS = 100_000
GAIN = 1.1
TIMED_STEPS = 8
# Of a GPU's memory, what stacks may take, all workers of it together.
MEMORY_SHARE = 0.8


class Choice(NamedTuple):
    """How many trials to stack, and how many times faster each then is than alone; infinitely where that was asked."""

    size: int
    gain: float = math.inf


ALONE = Choice(1, 1.0)


def stack_sizes(cells: Sequence[Cell], workers: int, cache: Path, asked: int | None = None) -> dict[str, int]:
    """The sizes of `stack_choices`."""
    return {key: choice.size for key, choice in stack_choices(cells, workers, cache, asked).items()}


def stack_choices(cells: Sequence[Cell], workers: int, cache: Path, asked: int | None = None) -> dict[str, Choice]:
    """How many cells of each `stack_key` to stack, where that is more than one; with `asked`, wherever it is possible.

    `cells` are those of the whole plan, trained or not, so that a sweep that goes on does as it began: on a CPU the
    numbers of a trial in a stack have not depended on how many others are in it.
    """
    groups: dict[str | None, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.stack_key].append(cell)
    choices = {key: _choice(group, workers, cache, asked) for key, group in groups.items() if key is not None}
    return {key: choice for key, choice in choices.items() if choice.size > 1}


def make_tasks(cells: Sequence[Cell], sizes: Mapping[str, int], workers: int) -> list[Task]:
    """Tasks of one cell, or of stacks of the given sizes."""
    tasks: list[Task] = []
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.stack_key is None or cell.stack_key not in sizes:
            tasks.append(Task((cell,)))
        else:
            groups[cell.stack_key].append(cell)
    return tasks + [task for key, group in groups.items() for task in _split(group, sizes[key], workers)]


def _split(cells: Sequence[Cell], size: int, workers: int) -> list[Task]:
    """Stacks of at most `size` cells, nearly equal, and at least as many as workers where there are as many cells."""
    count = max(math.ceil(len(cells) / size), min(workers, len(cells)))
    return [Task(tuple(cells[n::count]), stacked=True) for n in range(count)]


def _choice(cells: Sequence[Cell], workers: int, cache: Path, asked: int | None) -> Choice:
    first = cells[0]
    if asked == 1 or len(cells) == 1:
        return ALONE
    trial = first.trial
    if asked is None and trial.steps > LONG_STEPS:
        return ALONE
    if asked is None and trial.device == "cpu" and (first.flops / trial.steps > SMALL or in_half_precision(trial)):
        return ALONE
    if not can_stack(trial, data_of(trial)):
        return ALONE
    return Choice(asked) if asked else _measured(cells, workers, cache)


def in_half_precision(trial: Trial) -> bool:
    """Whether the optimizer rounds its steps to bfloat16, as PyTorch's Muon always does.

    Rounding by 2^-8 does not come out the same for another order of sums, and over a run that can change the loss by as
    much as another seed does. On a GPU, where gradients are in that precision, too, nothing more is lost.
    """
    return trial.optimizer == "muon" or trial.options.get("dtype") == "bfloat16"


def _measured(cells: Sequence[Cell], workers: int, cache: Path) -> Choice:
    """The fastest size for these cells on this machine: as it was measured before, or measured now."""
    device = cells[0].trial.device
    name = torch.cuda.get_device_name() if device == "cuda" else provenance.machine()
    described = [cells[0].stack_key, len(cells) >= max(SIZES), workers, name, torch.__version__]
    key = sha256(json.dumps(described).encode()).hexdigest()[:16]
    known = _read(cache)
    if key not in known:
        known[key] = _fastest([cell.trial for cell in cells], workers)
        _write(cache, known)
    return known[key]


def _fastest(trials: Sequence[Trial], workers: int) -> Choice:
    """Times growing stacks until they do not get faster, or would not fit."""
    trial, corpus = trials[0], data_of(trials[0])
    alone = seconds_per_step(trials[:1], corpus, TIMED_STEPS)
    best, size = alone / GAIN, 1
    for more in SIZES:
        if more > len(trials) or not _fits(trial, more / size, workers):
            break
        each = seconds_per_step(trials[:more], corpus, TIMED_STEPS) / more
        if each >= best:
            break
        best, size = each, more
    return Choice(size, alone / best) if size > 1 else ALONE


def _fits(trial: Trial, growth: float, workers: int) -> bool:
    """Whether `growth` times the memory of what was just timed fits on a GPU; on a CPU, stacks are of small trials."""
    if trial.device == "cpu":
        return True
    share = math.ceil(workers / torch.cuda.device_count())
    free = MEMORY_SHARE * torch.cuda.get_device_properties(0).total_memory / share
    return torch.cuda.max_memory_allocated() * growth <= free


def _read(cache: Path) -> dict[str, Choice]:
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
        return {str(key): Choice(int(size), float(gain)) for key, (size, gain) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or a damaged one: it can be measured again
        return {}


def _write(cache: Path, known: dict[str, Choice]) -> None:
    with suppress(OSError):  # what cannot be written down is measured again
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache.parent, delete=False, encoding="utf-8") as file:
            json.dump(known, file, indent=1, sort_keys=True)
        os.replace(file.name, cache)

"""Micro-batches: in parts of how many examples a trial reads its batches, so that it fits into a worker's memory.

A matter of the call, and part of no identity: the numbers are the same up to rounding. Asked for by number, or chosen
from the estimate (`scionlab.training.memory`) and what is free when the trial begins, in which case two machines may
read the same trial otherwise.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from scionlab import provenance
from scionlab.host import free_memory
from scionlab.problems.data import Source
from scionlab.spec import Trial
from scionlab.sweep.plan import Cell
from scionlab.training import ARCHITECTURE
from scionlab.training.memory import BASE, estimate, fitting
from scionlab.training.prepare import data_of

# Of a worker's share of the free memory, what a trial may take by the estimate: the rest is for what that leaves out.
MEMORY_SHARE = 0.8


def memory_share(device: str, workers: int) -> float | None:
    """Bytes that are free to one of so many workers: of the GPU, or of the machine; None where nobody knows.

    On a CPU it is what is free, with nothing of this process, through the workers that the machine has cores for.
    """
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return free / math.ceil(workers / torch.cuda.device_count())
    free_here = free_memory()
    return None if free_here is None else free_here / max(1, min(workers, provenance.cpu_count()))


def micro_batch(trial: Trial, source: Source, asked: int | None, workers: int) -> int:
    """Examples of the parts that a resolved trial's batches are read in, 0 for whole; `asked` is None for what fits."""
    if asked is not None:
        return asked
    share = memory_share(trial.device, workers)
    if share is None:
        return 0
    try:
        return fitting(trial, source, MEMORY_SHARE * share - _base(trial))
    except Exception:
        if not trial.has_own_model:
            raise
        return 0  # what is wrong with a model of the caller's its training says better


def _base(trial: Trial) -> int:
    """What the process has besides: on a GPU nothing of it is in the GPU's memory."""
    return BASE if trial.device == "cpu" else 0


@dataclass(frozen=True)
class Largest:
    """Of a plan the trial that takes the most memory: bytes by the estimate, in parts of `micro_batch`, 0 for whole.

    `free` are the bytes that a worker has, None where nobody knows.
    """

    cell: Cell
    bytes: int
    micro_batch: int
    free: float | None


def largest(cells: Sequence[Cell], asked: int | None, workers: int) -> Largest | None:
    """The largest of some cells with whole batches, and how it would be read; None where there is none."""
    found: dict[Hashable, tuple[int, Cell]] = {}
    for cell in cells:
        key = _shape(cell.trial)
        if key not in found:
            found[key] = _peak(cell.trial, 0), cell
    if not found:
        return None
    _, cell = max(found.values(), key=lambda one: one[0])
    size = micro_batch(cell.trial, data_of(cell.trial), asked, workers)
    return Largest(cell, _peak(cell.trial, size), size, memory_share(cell.trial.device, workers))


def _peak(trial: Trial, size: int) -> int:
    source = data_of(trial)
    peaks = [
        estimate(trial, stage, source, min(size, stage.batch_size)).peak(stage.batch_size, size) for stage in trial.plan
    ]
    return max(peaks) + _base(trial)


def _shape(trial: Trial) -> Hashable:
    """What the estimate follows from."""
    stages = tuple((stage.batch_size, stage.seq_len) for stage in trial.plan)
    options = tuple(sorted(trial.options.items()))
    method = trial.optimizer, options, bool(trial.ema)
    return *(getattr(trial, name) for name in ARCHITECTURE), *method, trial.data, stages

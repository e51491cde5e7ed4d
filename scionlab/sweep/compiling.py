"""Which tasks have their gradients compiled: those of shapes that are trained for long enough to pay for it.

    saved = Σ K · L · (SAVED_PER_BLOCK + SAVED_PER_NUMBER · N·B·S·width)      over the tasks of one shape
    spent = (COMPILE_S + (workers − 1) · LOAD_S) · (1 + L/2)                  compiled once, loaded by the other workers

in seconds, for K steps, L blocks, N trials in a stack. A shape is compiled if it saves MARGIN times what it costs. This
depends on the plan alone: the same sweep compiles the same trials. The constants were measured on a core of a server
CPU with AVX-512, for GPTs of widths 32 to 128 (docs/performance.md); MARGIN is for other machines. MLPs and CNNs of
such sizes gain too little, and CUDA has not been measured: there, "always" asks for it.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence

from scionlab.spec.trial import OF_TEXT
from scionlab.sweep.tasks import Task
from scionlab.training import ARCHITECTURE

MODES = ("auto", "always", "never")

SAVED_PER_BLOCK = 0.9e-3
SAVED_PER_NUMBER = 3.8e-8
COMPILE_S = 10.0
LOAD_S = 1.8
MARGIN = 1.5


def shapes_to_compile(tasks: Sequence[Task], workers: int, mode: str = "auto") -> set[Hashable]:
    """The shapes whose tasks are to be compiled, because it pays or as `mode` says, one of MODES.

    `tasks` are those of the whole plan, trained or not, so that a sweep that goes on does as it began.
    """
    shapes = defaultdict(list)
    for task in tasks:
        shapes[shape_of(task)].append(task)
    return {shape for shape, alike in shapes.items() if mode == "always" or (mode == "auto" and pays(alike, workers))}


def pays(tasks: Sequence[Task], workers: int) -> bool:
    """Whether compiling for these tasks of one shape saves clearly more time than it takes."""
    trial = tasks[0].cells[0].trial
    if trial.model not in OF_TEXT or trial.device != "cpu":
        return False
    graphs = len({graph for task in tasks for graph in graphs_of(task)})
    spent = graphs * (COMPILE_S + (workers - 1) * LOAD_S) * (1 + trial.depth / 2)
    return sum(map(_saved, tasks)) >= MARGIN * spent


def _saved(task: Task) -> float:
    """Seconds that a task takes less when compiled."""
    trial, cells = task.cells[0].trial, len(task.cells)
    return sum(
        stage.steps * trial.depth * (SAVED_PER_BLOCK + SAVED_PER_NUMBER * cells * stage.step_tokens * trial.width)
        for stage in trial.plan
    )


def shape_of(task: Task) -> Hashable:
    """What tasks agree in that share a decision: architecture, data, batches, and whether they are stacks."""
    trial = task.cells[0].trial
    stages = tuple((stage.batch_size, stage.seq_len) for stage in trial.plan)
    return *(getattr(trial, name) for name in ARCHITECTURE), trial.data, stages, task.stacked


def graphs_of(task: Task) -> set[Hashable]:
    """The graphs of a task among those of its shape: one for each shape of its batches."""
    return {(stage.batch_size, stage.seq_len, len(task.cells)) for stage in task.cells[0].trial.plan}

"""A step of the optimizer on the GPT: Scion's plain and fast paths, Muon with AdamW on the rest, AdamW alone.

Scion iterates in the weights' precision on a CPU, PyTorch's Muon in bfloat16: "bfloat16" is Scion doing that, too.
Gradients are those of one backward pass, the same for all. "compiled" is `torch.compile` of the step with the rate in a
0-d tensor; compiling takes longer than all the rest, so it is left out where things are to be quick, and on a CPU above
the smallest width.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.optim import Optimizer

from benchmarks.timing import Row, compared, interleaved, threads
from scionlab.optim import recipe
from scionlab.problems.data import DataShape
from scionlab.spec import Trial
from scionlab.training.prepare import build

WIDTHS, QUICK_WIDTHS = (32, 64, 128, 256, 512), (32,)
DEPTH = 4
CUDA_WIDTH, CUDA_DEPTH = 256, 12
BYTES = DataShape("text", 256)
LR, MOMENTUM = 2**-6, 0.1
# optimizer, options, what is done with it
VARIANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "scion, plain": ("scion", {}, "plain"),
    "scion": ("scion", {}, ""),
    "scion, compiled": ("scion", {}, "compiled"),
    "scion, bfloat16, plain": ("scion", {"dtype": "bfloat16"}, "plain"),
    "scion, bfloat16": ("scion", {"dtype": "bfloat16"}, ""),
    "muon + adamw": ("muon", {}, ""),
    "adamw": ("adam", {}, "one group"),
}
AGAINST_PLAIN = {
    "scion, plain": None,
    "scion": "scion, plain",
    "scion, compiled": "scion, plain",
    "scion, bfloat16, plain": None,
    "scion, bfloat16": "scion, bfloat16, plain",
    "muon + adamw": None,
}
AGAINST_MUON = dict.fromkeys(("scion", "scion, bfloat16", "adamw"), "muon + adamw")


def measure(quick: bool) -> list[Row]:
    """Milliseconds of a step by width on one CPU thread, and of a deeper model on a GPU where there is one."""
    rows: list[Row] = []
    for width in QUICK_WIDTHS if quick else WIDTHS:
        rows += _case(width, DEPTH, "cpu", compiled=not quick and width == WIDTHS[0], rounds=3 if quick else 15)
    if torch.cuda.is_available() and not quick:
        rows += _case(CUDA_WIDTH, CUDA_DEPTH, "cuda", compiled=True, rounds=30)
    return rows


def _case(width: int, depth: int, device: str, compiled: bool, rounds: int) -> list[Row]:
    names = [name for name in VARIANTS if compiled or "compiled" not in name]
    with warnings.catch_warnings(), threads(1):
        warnings.simplefilter("ignore")  # of the compiler, about what it traces through
        steps = {name: _step(*VARIANTS[name], width, depth, device) for name in names}
        seconds = interleaved(steps, rounds, device)
    case = f"width {width}, depth {depth}, {device}"
    return [
        row
        for table in (AGAINST_PLAIN, AGAINST_MUON)
        for row in compared(case, seconds, {name: table[name] for name in names if name in table})
    ]


def _step(
    optimizer: str, options: dict[str, Any], how: str, width: int, depth: int, device: str
) -> Callable[[], object]:
    """A step of all parameters of a model of its own."""
    trial = Trial(
        optimizer=optimizer, options=options, lr=LR, width=width, depth=depth, batch_size=4, seq_len=64, tokens=2**14
    )
    model, claims = build(trial, BYTES)
    model.to(device)
    _backward(model, trial, device)
    if how == "one group":
        return torch.optim.AdamW(model.parameters(), lr=LR).step
    made = recipe(trial).optimizers(claims, LR, MOMENTUM, width)
    if how == "plain":
        _write(made, foreach=False)
    if how == "compiled":
        _write(made, lr=torch.tensor(LR, device=device))
        return torch.compile(made[0].step)
    return lambda: [each.step() for each in made]


def _write(optimizers: list[Optimizer], **values: object) -> None:
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group.update(values)


def _backward(model: torch.nn.Module, trial: Trial, device: str) -> None:
    drawn = torch.randint(256, (trial.batch_size, trial.seq_len + 1), generator=torch.Generator().manual_seed(0))
    tokens = drawn.to(device)
    F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()

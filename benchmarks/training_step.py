"""A whole training step on one CPU thread, eager and with compiled gradients: batch, loss, gradients, optimizer.

The model and batch are those of the laptop presets. "share of peak" is the rate of a step's floating-point operations,
as the runs table counts them, over that of a product of 1024 × 1024 matrices in the same precision, timed here, too.
The note says what compiling took, once for a shape; with a warm cache on disk it is loading alone.
"""

import torch

from benchmarks.timing import Row, compared, interleaved
from scionlab.problems.data import load
from scionlab.spec import Trial
from scionlab.training import Run
from scionlab.training.prepare import resolve

WIDTHS, QUICK_WIDTHS = (32, 64, 128, 256), (16,)
CUDA_WIDTH = 512
OPTIMIZERS = ("scion", "adam", "muon")
PEAK_SIZE = 1024


def measure(quick: bool) -> list[Row]:
    """Milliseconds of a step by width and method, and its share of the peak."""
    rows = [row for width in (QUICK_WIDTHS if quick else WIDTHS) for row in _cases(width, "cpu", quick)]
    if torch.cuda.is_available() and not quick:
        rows += _cases(CUDA_WIDTH, "cuda", quick)
    return rows


def _cases(width: int, device: str, quick: bool) -> list[Row]:
    peak = _peak(device)
    return [
        row for optimizer in OPTIMIZERS[: 1 if quick else None] for row in _case(optimizer, width, device, peak, quick)
    ]


def _case(optimizer: str, width: int, device: str, peak: float, quick: bool) -> list[Row]:
    sizes = {"batch_size": 2, "seq_len": 16, "depth": 1} if quick else {}
    # longer than is ever reached, so that no step is one that logs
    trial = resolve(Trial(optimizer=optimizer, lr=2**-6, width=width, device=device, tokens=2**34, **sizes))
    runs = {name: Run(trial, load(trial.data), compiled=name == "compiled") for name in ("eager", "compiled")}
    variants = {name: run.advance for name, run in runs.items()}
    seconds = interleaved(variants, 3 if quick else 25, device)
    compiler = runs["compiled"].oracle.compiler
    took = f"{compiler.seconds:.1f} s to compile" if compiler.compiled else compiler.note
    case = f"{optimizer}, width {width}, depth {trial.depth}, {trial.batch_size} × {trial.seq_len}, {device}"
    rows = compared(case, seconds, {"eager": None, "compiled": "eager"})
    for row, name in zip(rows, runs, strict=True):
        share = runs[name].step_flops / seconds[name] / peak
        row["note"] = f"{share:.0%} of peak" + (f", {took}" if name == "compiled" else "")
    return rows


def _peak(device: str) -> float:
    """Floating-point operations a second of a product of square matrices, in the precision of training."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    matrix = torch.randn(PEAK_SIZE, PEAK_SIZE, device=device, dtype=dtype)
    return 2 * PEAK_SIZE**3 / interleaved({"product": lambda: matrix @ matrix}, 10, device)["product"]

"""One learning rate at the widths 32, 64 and 128: the case of the published shallow-GPT script's shape.

Depth 2, 16 × 64 tokens a step, 250 steps of Scion. Seven rates make a sweep of 21 trials, two at a time; the value is
that sweep's seconds, start-up, validation and storing included, a rate. Our eager path, two at a time, stands in for
the published script. Graphs are as PyTorch's cache has them: a second run finds all of them there, and for the first
set TORCHINDUCTOR_CACHE_DIR to an empty folder.
"""

from benchmarks.sweeps import timed_sweep
from benchmarks.timing import Row, row
from scionlab.spec.grid import trials
from scionlab.sweep import How

WIDTHS, QUICK_WIDTHS = (32, 64, 128), (16, 32)
SHAPE = {"optimizer": "scion", "depth": 2, "batch_size": 16, "seq_len": 64, "device": "cpu", "val_tokens": 2**14}
STEPS, QUICK_STEPS = 250, 4
RATES = [2.0**exponent for exponent in range(-9, -2)]
WORKERS = 2
# compile: what it is
CHOICES = {"never": "eager", "auto": "automatic choice", "always": "all compiled"}


def measure(quick: bool) -> list[Row]:
    """Seconds a learning rate by every way of training, and how busy the workers were."""
    widths, steps = (QUICK_WIDTHS, QUICK_STEPS) if quick else (WIDTHS, STEPS)
    grid = trials(SHAPE, width=widths, lr=RATES, tokens=[steps * SHAPE["batch_size"] * SHAPE["seq_len"]])
    case = f"widths {' + '.join(map(str, widths))}, {steps} steps, {WORKERS} at a time"
    rows: list[Row] = []
    for compile, variant in list(CHOICES.items())[: 2 if quick else None]:
        found = timed_sweep(grid, "ray", WORKERS, How(compile=compile))
        seconds = found["wall_time_s"] / len(RATES)
        busy = found["trial_seconds"] / (WORKERS * found["wall_time_s"])
        note = f"workers {busy:.0%} busy, {found['start_up_s']:.1f} s of start-up, {len(grid)} trials"
        rows.append(row(case, variant, seconds, "s a rate", rows[0] if rows else None, note))
    return rows

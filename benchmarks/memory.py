"""Memory of a large shape, measured against the estimate; and losses of micro-batches against each other.

    python -m benchmarks.memory [--batch 64] [--micro 1] [--optimizer adam]

The shape is that of GPT-2 small: width 768, depth 12, heads of 64, 50,304 tokens, embedding and head shared, 124M
parameters; sequences of 1,024 tokens, made up. In a process of its own one step is taken on a batch of one sequence,
so that the optimizer's state is there, and one on the whole batch, on one thread of a CPU in float32: the peak of its
resident memory is what counts. Then a batch of EQUAL sequences is read whole, and in parts of one.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scionlab.problems.data import Batches, DataShape, Source
from scionlab.problems.data.base import ShuffledBatches
from scionlab.spec import Stage, Trial
from scionlab.training import Run
from scionlab.training.memory import BASE, estimate
from scionlab.training.oracle import ModelOracle
from scionlab.training.prepare import data_of, resolve

VOCABULARY = 50_304
LENGTH = 1024
EQUAL = 2
WINDOWS = 2**16


class Windows(ShuffledBatches):
    """Windows of made-up tokens, each drawn from its number."""

    def _gather(self, indices: np.ndarray) -> Tensor:
        return windows(indices.tolist(), self.seq_len)


def windows(numbers: list[int], seq_len: int) -> Tensor:
    """(N, S + 1) int64, uniform over the vocabulary."""
    drawn = [np.random.default_rng(number).integers(VOCABULARY, size=seq_len + 1) for number in numbers]
    return torch.from_numpy(np.stack(drawn))


class Tokens(Source):
    """Uniform tokens: nothing can be learned from them but log 50,304."""

    name = sha256 = split_sha256 = "uniform tokens"  # type: ignore[assignment]  # the contract has a property
    is_cross_entropy = True  # type: ignore[assignment]

    @property
    def shape(self) -> DataShape:
        """A text of this vocabulary."""
        return DataShape("text", VOCABULARY)

    def training(self, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0) -> Batches:
        """Windows in the order of a seed."""
        return Windows(WINDOWS, batch_size, seq_len, seed, stage)

    def held_out(self, n_tokens: int, seq_len: int) -> Tensor:
        """Windows beyond those of training."""
        return windows([WINDOWS + n for n in range(n_tokens // seq_len)], seq_len)

    def unpack(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and their next ones."""
        return batch[:, :-1], batch[:, 1:]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the next token."""
        return torch.nn.functional.cross_entropy(outputs.float().flatten(0, 1), targets.flatten())


TOKENS = Tokens()


def trial_of(optimizer: str, batch: int) -> Trial:
    """One step of one sequence, then one of `batch`."""
    return resolve(
        Trial(
            model="gpt", width=768, depth=12, head_dim=64, tied=True, optimizer=optimizer, lr=2**-10,
            data=f"{__name__}:TOKENS" if __name__ != "__main__" else "benchmarks.memory:TOKENS",
            batch_size=1, seq_len=LENGTH, tokens=(1 + batch) * LENGTH, val_tokens=LENGTH, val_seq_len=LENGTH,
            stages=(Stage(from_tokens=LENGTH, batch_size=batch, seq_len=LENGTH, lr=2**-10),), warmup=0, device="cpu",
        )
    )  # fmt: skip


def peak_bytes() -> int:
    """The most that this process has had in memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(optimizer: str, batch: int, micro: int) -> Mapping[str, Any]:
    """Peaks of this process before the run, after a step on one sequence and after one on the whole batch."""
    trial, peaks = trial_of(optimizer, batch), [peak_bytes()]
    run = Run(trial, data_of(trial), micro_batch=micro)
    _tell_parts(run)
    seconds = []
    while not run.finished:
        began = time.monotonic()
        run.run_stage()
        seconds.append(time.monotonic() - began)
        peaks.append(peak_bytes())
    stage = trial.plan[-1]
    expected = estimate(trial, stage, data_of(trial), micro or batch).peak(batch, micro) + BASE
    losses = [row["train_loss"] for row in run.log.curve]
    return {"peaks": peaks, "seconds": seconds, "estimate": expected, "losses": losses, **run.oracle.parts.columns()}


def _tell_parts(run: Run) -> None:
    """On stderr, the peak after every part, as a step takes long."""
    read, began = run.oracle._read, time.monotonic()

    def told(*arguments: Any) -> Any:
        found = read(*arguments)
        print(f"{time.monotonic() - began:.0f} s: {peak_bytes() / 1e9:.2f} GB", file=sys.stderr, flush=True)
        return found

    run.oracle._read = told  # type: ignore[method-assign]


def compared(optimizer: str) -> Mapping[str, Any]:
    """Losses of one batch by the size of its parts, and how far gradients are from those of the whole batch."""
    trial = trial_of(optimizer, EQUAL)
    run = Run(trial, data_of(trial))
    batch = windows(list(range(EQUAL)), LENGTH)
    whole = ModelOracle(run.passes).at(batch)
    found: dict[str, Any] = {"losses": {"whole": float(whole.loss)}, "gradients": {}}
    reading = ModelOracle(run.passes, micro_batch=1).at(batch)
    found["losses"]["1"] = float(reading.loss)
    found["gradients"]["1"] = max(
        float((gradient - whole.gradients[name]).norm() / whole.gradients[name].norm())
        for name, gradient in reading.gradients.items()
    )
    return found


def main() -> None:
    """Measure in processes of their own, and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--micro", type=int, default=1)
    options.add_argument("--optimizer", default="adam")
    options.add_argument("--only", choices=("memory", "equal"), help="one of the two measurements")
    options.add_argument("--child", choices=("memory", "equal"), help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.child:
        torch.set_num_threads(1)
        child = compared(asked.optimizer) if asked.child == "equal" else None
        print(json.dumps(child or measured(asked.optimizer, asked.batch, asked.micro)))
        return
    for what in ("memory", "equal") if asked.only is None else (asked.only,):
        command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:], "--child", what]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        if what == "memory":
            peak = found["peaks"][-1]
            print(f"batch {asked.batch}, parts of {found['micro_batch'] or asked.batch}, {asked.optimizer}")
            print("peak, GB: " + ", ".join(f"{value / 1e9:.2f}" for value in found["peaks"]))
            print(f"estimate, GB: {found['estimate'] / 1e9:.2f}, {found['estimate'] / peak - 1:+.1%} of the peak")
            print("seconds of the steps: " + ", ".join(f"{value:.0f}" for value in found["seconds"]))
            print(f"losses: {found['losses']}")
        else:
            print(f"losses of {EQUAL} sequences by the size of parts: {found['losses']}")
            print(f"largest distance of a gradient from the whole batch's, relative: {found['gradients']}")


if __name__ == "__main__":
    main()

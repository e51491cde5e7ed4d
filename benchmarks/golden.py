"""Whether a change leaves every number as it is: the numbers of all experiments' smallest presets, before and after.

    python -m benchmarks.golden write FILE [--how eager compiled stacked] [--only EXPERIMENT …]
    python -m benchmarks.golden compare FILE

`write` trains every trial of every experiment's preset `smoke` on the CPU, without Ray and without a store: in eager
mode, each alone; in stacks, all that can share one; and from compiled graphs, the first trial of every shape and
method. `compare` trains those in FILE again and names the trials whose summary, curve or layers differ in a bit; exit
status 1 if there is one. Times, and what compiling took, are no numbers of a trial.

Numbers are equal on the same processor and versions only: write FILE at the commit before.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from scionlab.spec import Trial
from scionlab.spec.loading import experiment_names, load_experiment
from scionlab.training import Outcome, train, train_stack
from scionlab.training.graphs import ARCHITECTURE
from scionlab.training.prepare import data_of, identity, resolve
from scionlab.training.stack import can_stack, stack_key

HOW = ("eager", "stacked", "compiled")
# What a summary says besides the numbers.
APART = {"wall_time_s", "tokens_per_s", "compile_s", "compile_note", "gradient_calls", "stem_steps"}
# Trials in a stack; more give no other numbers.
STACK = 8

Numbers = dict[str, str]


def digest(outcome: Outcome) -> str:
    """A hash of an outcome's numbers, every bit of them, with the validation loss for the reader."""
    summary = {name: value for name, value in outcome.summary.items() if name not in APART}
    text = json.dumps([summary, outcome.curve, outcome.layers], sort_keys=True, default=str)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {summary['val_loss']}"


def smoke_trials(names: Sequence[str]) -> dict[str, Trial]:
    """The resolved trials of the experiments' smallest presets by id, each once."""
    grids = [load_experiment(name).preset("smoke").trials for name in names]
    trials = [resolve(trial.replace(device="cpu", dtype="float32")) for grid in grids for trial in grid]
    return {identity(trial, data_of(trial)): trial for trial in trials}


def eager(trials: dict[str, Trial]) -> Iterator[tuple[str, str]]:
    """Each alone, operation by operation."""
    for name, trial in trials.items():
        yield name, digest(train(trial, data_of(trial)))


def compiled(trials: dict[str, Trial]) -> Iterator[tuple[str, str]]:
    """The first of every shape and method, by compiled graphs."""
    seen = set()
    for name, trial in trials.items():
        fields = ("optimizer", "data", "batch_size", "seq_len", *ARCHITECTURE)
        shape = tuple(getattr(trial, field) for field in fields)
        if data_of(trial).traceable and shape not in seen:
            seen.add(shape)
            yield name, digest(train(trial, data_of(trial), compiled=True))


def stacked(trials: dict[str, Trial]) -> Iterator[tuple[str, str]]:
    """All that can share a stack, STACK at a time."""
    groups: dict[str, list[str]] = {}
    for name, trial in trials.items():
        if (key := stack_key(trial)) is not None and can_stack(trial, data_of(trial)):
            groups.setdefault(key, []).append(name)
    for group in groups.values():
        for start in range(0, len(group), STACK):
            names = group[start : start + STACK]
            outcomes = train_stack([trials[name] for name in names], data_of(trials[names[0]]))
            yield from zip(names, map(digest, outcomes), strict=True)


WAYS: dict[str, Callable[[dict[str, Trial]], Iterator[tuple[str, str]]]] = {
    "eager": eager,
    "stacked": stacked,
    "compiled": compiled,
}


def numbers(how: Sequence[str], names: Sequence[str]) -> dict[str, Numbers]:
    """By how, and then by id: the digests."""
    trials = smoke_trials(names)
    return {way: dict(WAYS[way](trials)) for way in how}


def differences(before: dict[str, Numbers], after: dict[str, Numbers]) -> list[str]:
    """A line for every trial whose numbers are others, or that is missing on one side."""
    lines = []
    for way, found in before.items():
        for name in sorted(found.keys() | after[way].keys()):
            one, other = found.get(name, "missing"), after[way].get(name, "missing")
            if one != other:
                lines.append(f"{way} {name}: {one} before, {other} after")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.golden", description=__doc__.partition("\n")[0])
    parser.add_argument("do", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--how", nargs="+", choices=HOW, default=HOW)
    parser.add_argument("--only", nargs="+", default=experiment_names())
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if asked.do == "write":
        found: dict[str, Any] = {"how": list(asked.how), "only": list(asked.only)}
        found["numbers"] = numbers(asked.how, asked.only)
        asked.file.write_text(json.dumps(found, indent=1) + "\n")
        print("\n".join(f"{way}: {len(of_way)} trials" for way, of_way in found["numbers"].items()))
        return 0
    kept = json.loads(asked.file.read_text())
    lines = differences(kept["numbers"], numbers(kept["how"], kept["only"]))
    count = sum(map(len, kept["numbers"].values()))
    print("\n".join([*lines, f"{count - len(lines)} of {count} are equal bit for bit"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether a change leaves every number as it is: the numbers of all experiments' smallest presets, before and after.

    python -m benchmarks.golden write FILE [--how eager compiled stacked] [--only EXPERIMENT …]
    python -m benchmarks.golden compare FILE

`write` trains every trial of every experiment's preset `smoke` on the CPU, without Ray and without a store: in eager
mode, each alone; in stacks, all that can share one; and from compiled graphs, the first trial of every shape and
method. `compare` trains those in FILE again and names the trials of which a column of the summary, the curve or the
layers differs in a bit; exit status 1 if there is one. Columns of one side only are named and not compared; times,
and what compiling took, are no numbers of a trial.

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

Columns = dict[str, str]  # a column's name, and a hash of it
Numbers = dict[str, Columns]  # by trial


def columns(outcome: Outcome) -> Columns:
    """An outcome's columns, as hashes of every bit of them, and the validation loss as it is, for the reader."""
    found: dict[str, Any] = {name: value for name, value in outcome.summary.items() if name not in APART}
    for table, rows in (("curve", outcome.curve), ("layers", outcome.layers)):
        for name in dict.fromkeys(name for row in rows for name in row):
            found[f"{table}.{name}"] = [row.get(name) for row in rows]
    return {name: _digest(value) for name, value in found.items()} | {"val_loss": str(outcome.summary["val_loss"])}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def smoke_trials(names: Sequence[str]) -> dict[str, Trial]:
    """The resolved trials of the experiments' smallest presets by id, each once."""
    grids = [load_experiment(name).preset("smoke").trials for name in names]
    trials = [resolve(trial.replace(device="cpu", dtype="float32")) for grid in grids for trial in grid]
    return {identity(trial, data_of(trial)): trial for trial in trials}


def eager(trials: dict[str, Trial]) -> Iterator[tuple[str, Columns]]:
    """Each alone, operation by operation."""
    for name, trial in trials.items():
        yield name, columns(train(trial, data_of(trial)))


def compiled(trials: dict[str, Trial]) -> Iterator[tuple[str, Columns]]:
    """The first of every shape and method, by compiled graphs."""
    seen = set()
    for name, trial in trials.items():
        fields = ("optimizer", "data", "batch_size", "seq_len", *ARCHITECTURE)
        shape = tuple(getattr(trial, field) for field in fields)
        if data_of(trial).traceable and shape not in seen:
            seen.add(shape)
            yield name, columns(train(trial, data_of(trial), compiled=True))


def stacked(trials: dict[str, Trial]) -> Iterator[tuple[str, Columns]]:
    """All that can share a stack, STACK at a time."""
    groups: dict[str, list[str]] = {}
    for name, trial in trials.items():
        if (key := stack_key(trial)) is not None and can_stack(trial, data_of(trial)):
            groups.setdefault(key, []).append(name)
    for group in groups.values():
        for start in range(0, len(group), STACK):
            names = group[start : start + STACK]
            outcomes = train_stack([trials[name] for name in names], data_of(trials[names[0]]))
            yield from zip(names, map(columns, outcomes), strict=True)


WAYS: dict[str, Callable[[dict[str, Trial]], Iterator[tuple[str, Columns]]]] = {
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
            one, other = found.get(name), after[way].get(name)
            if one is None or other is None:
                lines.append(f"{way} {name}: missing {'before' if one is None else 'after'}")
            elif changed := [column for column in one if column in other and one[column] != other[column]]:
                losses = f"validation loss {one['val_loss']} before, {other['val_loss']} after"
                lines.append(f"{way} {name}: {', '.join(changed)}; {losses}")
    return lines


def on_one_side(before: dict[str, Numbers], after: dict[str, Numbers]) -> list[str]:
    """Names of columns that are not compared."""
    names = [{name for of_way in side.values() for of in of_way.values() for name in of} for side in (before, after)]
    return sorted(names[0] ^ names[1])


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
    before, after = kept["numbers"], numbers(kept["how"], kept["only"])
    lines, apart = differences(before, after), on_one_side(before, after)
    count = sum(map(len, before.values()))
    print("\n".join([*lines, f"{count - len(lines)} of {count} are equal bit for bit"]))
    if apart:
        print(f"on one side only, and not compared: {', '.join(apart)}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

"""Fuzzing of `scionlab import`: python -m benchmarks.fuzz_import --cases 100000 --seed 0.

A case is a valid file with its maps, broken in random ways (`benchmarks.fuzz_cases`). It may end in two ways: rows that
are what the store's dictionary says, or a UserError that is short and printable. All else is a finding: another
exception, rows that cannot be, a death of the process, a case that takes more than `SECONDS` or `MEMORY`.
The cases of a seed are the same on every machine; a finding's number runs it again with --only.
"""

import argparse
import math
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables.foreign.guess import suggestion
from analysis.tables.foreign.problems import SHOWN, Problems
from analysis.tables.foreign.runs import ForeignRuns, read_runs
from analysis.tables.foreign.table import read_table
from analysis.tables.foreign.targets import NUMBERS, SETTING, STATUSES, TARGETS
from benchmarks.fuzz_cases import Case, make_case
from scionlab.cli.foreign import assignments
from scionlab.errors import UserError
from scionlab.runs.store import RunStore

SECONDS = 5.0  # a case takes a millisecond; the longest files some hundred
MEMORY = 4 * 2**30  # address space of a worker
LONGEST = 12_000  # characters of a message that a terminal should be asked to show
ADVICE = 20  # lines of a guess below the problems of a file
BATCH = 250  # cases a worker takes at once


class TooSlow(BaseException):
    """A case did not end in time."""


def outcome(case: Case, folder: Path) -> str:
    """What becomes of a case: "imported" or "refused"; raises for a finding."""
    path = folder / f"runs{case.suffix}"
    path.write_bytes(case.content)
    try:
        targets = list(TARGETS)
        problems = Problems(path.name)
        mapping, constants = assignments("map", [case.maps], targets), assignments("set", [case.sets], targets)
        table = read_table(path, problems, case.decimal)
        problems.advice = suggestion(table, mapping, constants, lambda *texts: repr(texts))
        runs = read_runs(table, "fuzz", mapping, constants, problems)
    except UserError as error:
        check_message(str(error))
        return "refused"
    check_rows(runs, folder)
    return "imported"


def check_message(message: str) -> None:
    """A terminal can show it: lines of printable characters, not too many."""
    lines = message.splitlines()
    assert message, "the message is empty"
    assert len(message) <= LONGEST, f"the message has {len(message)} characters"
    assert len(lines) <= SHOWN + 2 + ADVICE, f"the message has {len(lines)} lines"
    assert all(line.isprintable() for line in lines), f"the message cannot be shown: {message!r}"


def check_rows(runs: ForeignRuns, folder: Path) -> None:
    """Every row is possible, and comes back from the store as it was."""
    assert runs.rows, "no rows, and no complaint"
    for row in runs.rows:
        assert row["status"] in STATUSES, row
        assert row["optimizer"], row
        assert (row["val_loss"] is None) == (row["status"] == "diverged"), row
        for target, about in NUMBERS.items():
            value = row.get(target)
            assert value is None or (math.isfinite(value) and value >= about.low and value <= about.high), (target, row)
            left_out = target in SETTING and row["lr"] is None and row["n_params"] is not None
            assert value is not None or about.optional or left_out or target == "val_loss", (target, row)
    assert len({row["trial_id"] for row in runs.rows}) == len(runs.rows), "two rows have one id"
    store = RunStore(folder / "store")
    store.write_import("fuzz", runs.rows)
    found = store.imports("fuzz").to_dict("records")
    assert [without_null(row) for row in found] == [without_null(row) | {"name": "fuzz"} for row in runs.rows]


def without_null(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row's columns that are known, apart from the store's own version."""
    return {str(key): value for key, value in row.items() if pd.notna(value) and key != "schema_version"}


def run_one(seed: int, number: int, folder: Path) -> str:
    """The kind of file and how its case ended; for a finding the exception and where it came from."""
    case = make_case(random.Random(f"{seed}-{number}"))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return f"{case.suffix[1:]} {outcome(case, folder)}"
    except TooSlow:
        return f"finding: more than {SECONDS:g} s"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"finding: {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {str(error)[:100]!r}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run_batch(seed: int, numbers: Sequence[int], limit: bool = True) -> list[tuple[int, str]]:
    """The ends of some cases, in a process that the memory limit may be put on."""
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
            return [(number, run_one(seed, number, Path(folder))) for number in numbers]
    finally:
        signal.signal(signal.SIGALRM, before)


def run(cases: int, seed: int, workers: int) -> list[tuple[int, str]]:
    """The ends of the first `cases` cases of a seed. A batch that kills its process is run case by case."""
    batches = [range(start, min(start + BATCH, cases)) for start in range(0, cases, BATCH)]
    found: list[tuple[int, str]] = []
    while batches:
        dead = []
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            waiting = [(batch, pool.submit(run_batch, seed, batch)) for batch in batches]
            for batch, future in waiting:
                try:
                    found += future.result()
                except BrokenProcessPool:
                    dead.append(batch)
        batches = []
        for batch in dead:  # only one of them killed the pool, maybe
            found += [result for number in batch for result in run_alone(seed, number)]
    return sorted(found)


def run_alone(seed: int, number: int) -> list[tuple[int, str]]:
    """One case in a process of its own, which it may kill."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(run_batch, seed, [number]).result()
        except BrokenProcessPool:
            return [(number, "finding: the process died")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 without findings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_import", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", type=int, help="print the case of this number and its traceback")
    asked = parser.parse_args(arguments)
    if asked.only is not None:
        case = make_case(random.Random(f"{asked.seed}-{asked.only}"))
        print(f"{case.suffix}: {case.content[:2000]!r}\n--map {case.maps!r}\n--set {case.sets!r}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            print(outcome(case, Path(folder)))
        return 0
    began = time.monotonic()
    ends = run(asked.cases, asked.seed, asked.workers)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    print(
        f"{len(ends)} cases of seed {asked.seed} in {time.monotonic() - began:.0f} s, at most {peak:.0f} MB a process"
    )
    first = {end: number for number, end in reversed(ends)}
    for end, count in Counter(end for _, end in ends).most_common():
        print(f"{count:8}  {end}" + (f"  (--only {first[end]})" if end.startswith("finding") else ""))
    return int(any(end.startswith("finding") for _, end in ends))


if __name__ == "__main__":
    sys.exit(main())

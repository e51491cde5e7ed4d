"""Run the benchmarks: python -m benchmarks [NAME ...] [--quick] [--results results].

Every name writes results/bench/<name>.json, and one table shows them all. A ratio above 1 is that much faster.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.timing import Row
from scionlab.provenance import cpu_count, git_commit, machine, version

# Of each, `measure(quick)` gives rows: case, variant, value, unit, ratio, against and, where there is one, a note.
BENCHMARKS = {
    "optimizer-step": "benchmarks.optimizer_step",
    "training-step": "benchmarks.training_step",
    "stacking": "benchmarks.stacking",
    "sweeps": "benchmarks.sweeps",
    "three-widths": "benchmarks.three_widths",
    "store": "benchmarks.store",
    "shards": "benchmarks.shards",
}


def run(name: str, quick: bool) -> dict[str, Any]:
    """One benchmark's rows, with where they come from."""
    started_at = datetime.now(UTC)
    rows = importlib.import_module(BENCHMARKS[name]).measure(quick)
    return {
        "name": name,
        "command": f"python -m benchmarks {name}" + (" --quick" if quick else ""),
        "machine": machine(),
        "cores": cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": version("torch"),
        "git_commit": git_commit(),
        "started_at": started_at.isoformat(timespec="seconds"),
        "rows": rows,
    }


def table_of(results: Sequence[dict[str, Any]]) -> Table:
    """All rows of all results."""
    table = Table("benchmark", "case", "variant", "value", "ratio", "against", "note", box=box.SIMPLE_HEAD)
    for result in results:
        for row in result["rows"]:
            table.add_row(result["name"], *_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}×"
    value = f"{row['value']:.4g} {row['unit']}"
    return [row["case"], row["variant"], value, ratio, row["against"] or "", row.get("note", "")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when all benchmarks were written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="the smallest cases only, in seconds")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder; default: results")
    asked = parser.parse_args(arguments)
    for name in asked.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark is called {name!r}; choose from {', '.join(BENCHMARKS)}")
    folder = asked.results / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in asked.names or BENCHMARKS:
        results.append(run(name, asked.quick))
        (folder / f"{name}.json").write_text(json.dumps(results[-1], indent=1, ensure_ascii=False) + "\n")
    Console(width=None if sys.stdout.isatty() else 160).print(table_of(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

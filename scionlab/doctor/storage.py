"""The results folder, and the run store in it."""

import shutil
import tempfile
from collections.abc import Iterator, Set
from pathlib import Path

from scionlab.doctor import Finding, Level
from scionlab.errors import UserError
from scionlab.runs.schema import TABLES
from scionlab.runs.store import RunStore
from scionlab.runs.store.checkpoints import FOLDER, SUFFIX

FEW_BYTES, TOO_FEW_BYTES = 1e9, 100e6
MANY_FILES = 5000
LISTED = 5


def results_folder(results: Path) -> Iterator[Finding]:
    """Whether it, or the folder it would be made in, can be written to, and how much room there is."""
    folder = results.absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "use another --results, or mend its permissions"
        yield Finding("results", "problem", f"cannot write to {folder}: {error.strerror or error}", advice)
        return
    free = shutil.disk_usage(folder).free
    found = f"{results}, {free / 1e9:,.1f} GB free"
    if free >= FEW_BYTES:
        yield Finding("results", "ok", found)
    else:
        level: Level = "problem" if free < TOO_FEW_BYTES else "warning"
        yield Finding("results", level, found, "make room, or use another --results")


def store(results: Path) -> Iterator[Finding]:
    """Files of the store that readers leave out, and files that are in the way. Reads all of it."""
    found = RunStore(results / "runs")
    try:
        damaged, finished, small = found.damaged(), found.finished(), found.small_files()
    except UserError as error:
        yield Finding("store", "problem", str(error), "restore this file from a copy, or use another --results")
        return
    if damaged:
        listed = "; ".join(f"{file.path} ({file.reason})" for file in damaged[:LISTED])
        more = f"; and {len(damaged) - LISTED} more" if len(damaged) > LISTED else ""
        advice = " / ".join(dict.fromkeys(file.advice for file in damaged))
        yield Finding("store", "problem", f"{len(damaged)} files cannot be read: {listed}{more}", advice)
    else:
        yield Finding("store", "ok", f"{len(finished):,} finished trials, all files can be read")
    if left := _left_over(found, finished):
        more = f"; and {len(left) - LISTED} more" if len(left) > LISTED else ""
        advice = "remove them when no sweep is running: killed processes left them, and nothing reads them"
        yield Finding("temporaries", "warning", ", ".join(left[:LISTED]) + more, advice)
    if small >= MANY_FILES:
        advice = f"scionlab compact --results {results}"
        yield Finding("small files", "warning", f"{small:,}: reading them takes seconds", advice)


def _left_over(store: RunStore, finished: Set[str]) -> list[str]:
    """Files that nobody needs: of writes that never ended, and checkpoints of trials that are finished."""
    folders = [*(table.name for table in TABLES), FOLDER]
    hidden = [f"{name}/{file}" for name in folders for file in store.place.below(name).names() if _is_temporary(file)]
    return sorted([*hidden, *(f"{FOLDER}/{trial}{SUFFIX}" for trial in store.checkpoints.trial_ids() & finished)])


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")

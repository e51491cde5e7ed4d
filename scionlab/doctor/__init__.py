"""What an installation is asked before one blames the numbers: each check says what was found and what to do.

`checks` is the one list of them; a check is a function that gives `Finding`s.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """`ok`, `warning` (things work, but worse than they could) or `problem`; `advice` says what to do, if anything."""

    name: str
    level: Level
    found: str
    advice: str = ""


def checks(results: Path, full: bool = False) -> Iterator[Finding]:
    """All checks, one by one as they are made; `full` also trains two tiny trials under Ray, compiled."""
    from scionlab.doctor import machine, software, storage

    yield software.python()
    yield from software.torch_works()
    yield software.compiler()
    yield software.gpu()
    yield software.ray_imports()
    yield software.figures()
    yield from software.extras()
    yield machine.memory()
    yield machine.shared_memory()
    yield machine.sockets()
    yield machine.terminal()
    yield software.text()
    yield from storage.results_folder(results)
    yield from storage.store(results)
    if full:
        yield from software.sweep_works()

"""What the simulations of coverage share: their options, and a line for every case, several cases at a time."""

import argparse
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Protocol, TypeVar


class Case(Protocol):
    """A planted law."""

    @property
    def name(self) -> str:
        """In words; unique."""


C = TypeVar("C", bound=Case)


def parser(description: str | None, draws: int) -> argparse.ArgumentParser:
    """The options that all have. `draws` is the default number of simulated tables of a case."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--draws", type=int, default=draws, help=f"simulated tables of a case (default {draws})")
    found.add_argument("--workers", type=int, default=2, help="cases at a time (default 2)")
    found.add_argument("--only", default="", help="cases whose name contains this (default: all)")
    return found


def print_lines(header: str, cases: Iterable[C], line: Callable[[C], str], options: argparse.Namespace) -> None:
    """Print the header and the line of every case that the options choose."""
    print(header, flush=True)
    with ProcessPoolExecutor(options.workers) as pool:
        for text in pool.map(line, [case for case in cases if options.only in case.name]):
            print(text, flush=True)

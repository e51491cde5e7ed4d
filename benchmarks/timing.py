"""Times of the variants of one case, taken in turns, so that a machine that is busy for a while is so for all."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

Row = dict[str, Any]
WARM_UP = 3
# A timing lasts at least this long, by several calls where one is shorter: clocks and schedulers are noise below.
SHORTEST_SECONDS = 0.005


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch computes with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleaved(
    variants: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu", n_threads: int = 1
) -> dict[str, float]:
    """Median seconds of a call of every variant, over `rounds` rounds that time each of them once.

    Before them every variant is called `WARM_UP` times. On "cuda" a timing ends when the device is done.
    """
    with threads(n_threads):
        calls = {name: _calls(call, device) for name, call in variants.items()}
        taken: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(rounds):
            for name, call in variants.items():
                taken[name].append(_seconds(call, calls[name], device))
    return {name: statistics.median(times) for name, times in taken.items()}


def row(case: str, variant: str, value: float, unit: str, than: Row | None = None, note: str = "") -> Row:
    """One row; its ratio, above 1 where this value is the smaller one, is against the row `than`."""
    ratio, against = (than["value"] / value, than["variant"]) if than else (None, None)
    found: Row = {
        "case": case, "variant": variant, "value": value, "unit": unit, "ratio": ratio, "against": against,
    }  # fmt: skip
    return found | ({"note": note} if note else {})


def compared(
    case: str, seconds: Mapping[str, float], pairs: Mapping[str, str | None], note: str | None = None
) -> list[Row]:
    """Rows in milliseconds of each variant in `pairs`, against the one it names: the ratio is above 1 if faster."""
    rows: list[Row] = []
    for variant, against in pairs.items():
        row: Row = {"case": case, "variant": variant, "value": 1e3 * seconds[variant], "unit": "ms"}
        row |= {"ratio": seconds[against] / seconds[variant] if against else None, "against": against}
        rows.append(row | ({"note": note} if note else {}))
    return rows


def _calls(call: Callable[[], object], device: str) -> int:
    """How many calls make a timing, after they have warmed up."""
    for _ in range(WARM_UP - 1):
        call()
    return max(1, math.ceil(SHORTEST_SECONDS / _seconds(call, 1, device)))


def _seconds(call: Callable[[], object], calls: int, device: str) -> float:
    _finish(device)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    _finish(device)
    return (time.perf_counter() - began) / calls


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

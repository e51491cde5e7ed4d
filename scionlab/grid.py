"""Grids of trials: plain functions that experiments compose."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from scionlab.spec import Trial


def log2_range(first: int, last: int) -> list[float]:
    """2^first … 2^last, one value an octave, both ends included."""
    return [2.0**exponent for exponent in range(first, last + 1)]


def trials(fixed: Mapping[str, Any], **axes: Iterable[Any]) -> tuple[Trial, ...]:
    """One trial for every combination of the axes, on top of the fixed fields; the last axis varies fastest."""
    combinations = itertools.product(*axes.values())
    return tuple(Trial(**{**fixed, **dict(zip(axes, values, strict=True))}) for values in combinations)

"""What searches, and the comparison after them, will cost: by the store alone, nothing is trained or timed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scionlab.runs.store import RunStore
from scionlab.sweep.estimate import seconds_by_store
from scionlab.tune.attempt import COMPLETE, DIVERGED, PRUNED
from scionlab.tune.search import Search
from scionlab.tune.studies import database

WAYS = 2  # of the comparison: the proxy's values, and those that were found at the target


@dataclass(frozen=True)
class Cost:
    """Trials with their tokens, FLOPs and seconds on one worker; None where the store has none to tell these by."""

    trials: int
    tokens: int
    flops: int
    seconds: float | None


@dataclass(frozen=True)
class SearchCost:
    """The trials that a search has, and what those that it lacks cost at most: some may end early."""

    search: Search
    has: int
    left: Cost


def search_costs(searches: Sequence[Search], store: RunStore, folder: Path) -> list[SearchCost]:
    """Of every search; their studies lie in `folder`."""
    there = _finished(searches, store, folder)
    left = [max(0, search.trials - has) for search, has in zip(searches, there, strict=True)]
    costs = _costs(searches, left, store)
    return [SearchCost(*found) for found in zip(searches, there, costs, strict=True)]


def comparison_cost(directs: Sequence[Search], store: RunStore) -> Cost:
    """What comparing the searches at targets with the proxy's costs at most.

    Where two ways found the same values, their trials are the same, and what the store has is not trained again.
    """
    return total(_costs(directs, [WAYS * len(search.preset.seeds) for search in directs], store))


def total(costs: Iterable[Cost]) -> Cost:
    """The sum; its seconds are not known where one's are not."""
    parts = list(costs)
    seconds = [part.seconds for part in parts if part.seconds is not None]
    return Cost(
        trials=sum(part.trials for part in parts),
        tokens=sum(part.tokens for part in parts),
        flops=sum(part.flops for part in parts),
        seconds=sum(seconds) if len(seconds) == len(parts) else None,
    )


def _finished(searches: Sequence[Search], store: RunStore, folder: Path) -> list[int]:
    """Trials that need not be made again. Without Optuna's file searches begin anew, whatever rows the store has."""
    if not database(folder, searches[0].experiment).exists():
        return [0] * len(searches)
    rows = store.tunings([search.study for search in searches])
    ended = Counter(rows.loc[rows["state"].isin([COMPLETE, PRUNED, DIVERGED]), "study"])
    return [ended[search.study] for search in searches]


def _costs(searches: Sequence[Search], trials: Sequence[int], store: RunStore) -> list[Cost]:
    """Of so many trials at the place of each search; whatever their values, they have one size."""
    middles = [search.cell(search.method.middle, store)[0] for search in searches]
    seconds = seconds_by_store(middles, store.runs())
    return [
        Cost(count, count * cell.trial.exact_tokens, count * cell.flops, _times(count, each))
        for cell, count, each in zip(middles, trials, seconds, strict=True)
    ]


def _times(count: int, seconds: float | None) -> float | None:
    """What none take is known."""
    return 0.0 if count == 0 else None if seconds is None else count * seconds

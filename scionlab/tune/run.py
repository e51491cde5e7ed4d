"""Make searches: the trials that are missing, by one of the executors, and their rows for the store."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from scionlab.errors import UserError, unknown
from scionlab.runs.store import RunStore
from scionlab.sweep.executors import set_up_ray
from scionlab.sweep.plan import make_plan
from scionlab.sweep.workers import default_workers
from scionlab.tune import inline as inline_executor
from scionlab.tune.attempt import COMPLETE, FAILED, Progress
from scionlab.tune.progress import SearchProgress
from scionlab.tune.search import Search
from scionlab.tune.studies import Study, opened
from scionlab.tune.turns import OnEnd, Turns, parallel


def _ray(studies: Sequence[Study], store: RunStore, workers: int, on_end: OnEnd) -> None:
    set_up_ray()
    from scionlab.tune.ray_search import run

    run(studies, store, workers, on_end)


EXECUTORS: dict[str, Callable[[Sequence[Study], RunStore, int, OnEnd], None]] = {
    "ray": _ray,
    "inline": inline_executor.run,
}


@dataclass
class TuneResult:
    """What a call did. `made` are the trials of this call; `rows` those of every search, as in the `tunings` table."""

    searches: Sequence[Search]
    workers: int
    interrupted: bool = False
    wall_time_s: float = 0.0
    made: list[Progress] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def errors(self) -> list[str]:
        """What went wrong in the trials of this call that failed."""
        return [made.error or "" for made in self.made if made.state == FAILED]

    def best(self, search: Search) -> dict[str, Any] | None:
        """The row with the lowest validation loss; None if no trial went to its end."""
        whole = [row for row in self.rows[search.study] if row["state"] == COMPLETE]
        return min(whole, key=lambda row: row["val_loss"], default=None)


def tune(
    searches: Sequence[Search],
    store: RunStore,
    folder: Path,
    console: Console,
    executor: str = "ray",
    workers: int | None = None,
) -> TuneResult:
    """Go on with the searches until each has its number of trials; studies lie in `folder`, their rows in `store`.

    All searches are of one experiment. Ctrl-C ends the call early with `interrupted` set; what was finished stays.
    """
    workers = search_workers(searches, store, executor, workers)
    store.check_writable()
    result = TuneResult(searches, workers)
    began = time.perf_counter()
    with opened(folder, searches[0].experiment) as storage:
        at_once = parallel(workers, len(searches))
        studies = [Study(search, storage, at_once) for search in searches]
        try:
            for study in studies:
                study.heal()
            if Turns(studies).total:
                _make(studies, store, executor, result, console)
        except KeyboardInterrupt:
            result.interrupted = True
        finally:
            for study in studies:
                study.heal()
                _write(study, store, result)
            result.wall_time_s = time.perf_counter() - began
    return result


def search_workers(searches: Sequence[Search], store: RunStore, executor: str, asked: int | None) -> int:
    """Trials at a time: as many as asked for, else as for a sweep of them. UserError for an unknown executor."""
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    if executor == "inline":
        return 1
    if asked is not None:
        return asked
    first = searches[0]
    middles = [search.trial(search.method.middle) for search in searches]
    return default_workers(make_plan(middles, store, first.experiment, first.preset_name))


def _make(studies: Sequence[Study], store: RunStore, executor: str, result: TuneResult, console: Console) -> None:
    with SearchProgress(studies, console) as progress:

        def on_end(study: Study, last: Progress) -> None:
            result.made.append(last)
            _write(study, store, result)
            progress.update(study, last)

        EXECUTORS[executor](studies, store, result.workers, on_end)


def _write(study: Study, store: RunStore, result: TuneResult) -> None:
    """The rows as they are now."""
    result.rows[study.search.study] = rows = study.rows()
    if rows:
        store.write_tuning(study.search.study, rows)


def without_end(search: Search, states: Iterable[str]) -> str:
    """What is to be said of a search none of whose trials, which ended in these states, went to its end."""
    ended = ", ".join(f"{count} {state}" for state, count in sorted(Counter(states).items()))
    ranges = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, high) in search.method.space.items())
    return (
        f"no trial of {search.method_name!r} on the {search.place.name} of {search.experiment}/{search.preset_name} "
        f"with search seed {search.seed} went to its end ({ended}); its space was {ranges}: change these ranges"
    )


def best_rows(store: RunStore, searches: Sequence[Search]) -> dict[str, dict[str, Any]]:
    """The best row of every search, by its study, from the store. UserError for a search without one."""
    found = {}
    for search in searches:
        rows = store.tunings([search.study])
        whole = rows[rows["state"] == COMPLETE]
        if len(rows) and whole.empty:
            raise UserError(f"tunings: {without_end(search, rows['state'])}")
        if whole.empty:
            raise UserError(
                f"tunings: {search.method_name!r} has no finished trial on the {search.place.name} of "
                f"{search.experiment}/{search.preset_name} with search seed {search.seed}; "
                "run `scionlab tune` with the same preset and results first"
            )
        best = whole.sort_values(["val_loss", "number"]).iloc[0]
        found[search.study] = {str(name): value for name, value in best.items()}
    return found

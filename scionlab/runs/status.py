"""How far the sweeps of a store are: what their trials came to, what is left, and how long that will take.

    seconds left = (Σ cost of the trials left) · (Σ seconds ÷ Σ cost, of those done) ÷ workers

Costs are those that the sweep wrote down; only the store is read, and nothing is timed.
"""

import math
import os
import platform
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from scionlab.runs.store import FINISHED, RunStore

# A driver writes its row every 30 s: after so long without, it is gone, or as good as gone.
SILENT = timedelta(minutes=5)
COLUMNS = ["trial_id", "status", "error", "optimizer", "val_loss", "wall_time_s", "started_at"]


@dataclass(frozen=True)
class SweepStatus:
    """An experiment's preset as it was last called for.

    `state` is `done`, `running`, `interrupted` (asked to stop), `killed` (it was running, and its process is gone) or
    `planned` (never called). `failures` counts trials by the last line of their traceback; they are part of `left`, as
    they are tried again; `kept` counts those of them that go on from a checkpoint. `seconds_left` is None without a
    finished trial to tell by.
    """

    experiment: str
    preset: str
    state: str
    trials: int
    ok: int
    diverged: int
    failed: int
    left: int
    kept: int
    failures: dict[str, int]
    seconds_left: float | None
    updated_at: datetime | None
    best: dict[str, float]
    workers: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class SearchStatus:
    """A search by `scionlab tune` or `transfer`: its trials by how they ended, and the best loss of those that did.

    `best` is None where no trial went to its end.
    """

    experiment: str
    preset: str
    method: str
    place: str
    seed: int
    trials: dict[str, int]
    best: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def searches(store: RunStore, experiment: str | None = None, preset: str | None = None) -> list[SearchStatus]:
    """Every search that the store has trials of."""
    rows = store.tunings()
    for column, wanted in (("experiment", experiment), ("preset", preset)):
        rows = rows if wanted is None else rows[rows[column] == wanted]
    found = []
    for _, trials in rows.groupby("study", sort=False):
        first, best = trials.iloc[0], trials.loc[trials["state"] == "complete", "val_loss"].min()
        found.append(
            SearchStatus(
                **{name: str(first[name]) for name in ("experiment", "preset", "method", "place")},
                seed=int(first["seed"]),
                trials={str(state): int(count) for state, count in trials["state"].value_counts().sort_index().items()},
                best=None if pd.isna(best) else float(best),
            )
        )
    return found


def statuses(store: RunStore, experiment: str | None = None, preset: str | None = None) -> list[SweepStatus]:
    """The status of every experiment and preset that the store has a sweep of, the one called last at the end."""
    calls = store.sweeps()
    if experiment is not None:
        calls = calls[calls["experiment"] == experiment]
    if preset is not None:
        calls = calls[calls["preset"] == preset]
    if calls.empty:
        return []
    latest = calls.drop_duplicates(["experiment", "preset"], keep="last")
    runs = store.runs({trial for ids in latest["trial_ids"] for trial in ids}, COLUMNS).set_index("trial_id")
    kept, found = store.checkpoints.trial_ids(), []
    for row in latest.to_dict("records"):
        same = calls[(calls["experiment"] == row["experiment"]) & (calls["preset"] == row["preset"])]
        states = [state_of(call) for call in same.to_dict("records")]
        ids = list(row["trial_ids"])
        costs = row["trial_costs"] if row["trial_costs"] is not None else [1.0] * len(ids)
        found.append(
            sweep_status(
                runs[runs.index.isin(ids)],
                dict(zip(ids, costs, strict=True)),
                experiment=str(row["experiment"]),
                preset=str(row["preset"]),
                state="running" if "running" in states else states[-1],
                updated_at=_time(row["updated_at"]) or _time(row["started_at"]),
                workers=int(row["workers"]),
                kept=kept,
            )
        )
    return found


def sweep_status(
    runs: pd.DataFrame,
    costs: Mapping[str, float],
    state: str,
    updated_at: datetime | None,
    workers: int,
    kept: Collection[str],
    **named: str,
) -> SweepStatus:
    """The status of a grid with these costs by trial.

    `runs` are the rows, by trial, of those that the store has, and `kept` the ids of all trials with a checkpoint.
    """
    count = Counter(runs["status"])
    finished = runs[runs["status"].isin(FINISHED)]
    left = {trial: cost for trial, cost in costs.items() if trial not in finished.index}
    losses = runs[runs["status"] == "ok"].groupby("optimizer")["val_loss"].min()
    times = [updated_at, *(_time(found) for found in (runs["started_at"].max(),))]
    return SweepStatus(
        **named,
        state=state,
        trials=len(costs),
        ok=count["ok"],
        diverged=count["diverged"],
        failed=count["error"],
        left=len(left),
        kept=len(left.keys() & kept),
        failures=failures(runs),
        seconds_left=_seconds(finished, costs, sum(left.values()), workers),
        updated_at=max((time for time in times if time is not None), default=None),
        best={str(name): float(loss) for name, loss in losses.items()},
        workers=workers,
    )


def failures(runs: pd.DataFrame) -> dict[str, int]:
    """How often trials failed for what, by the last line of the traceback, the most frequent first."""
    errors = runs.loc[runs["status"] == "error", "error"].fillna("unknown")
    return dict(Counter(text.strip().splitlines()[-1] if text.strip() else "unknown" for text in errors).most_common())


def state_of(call: Mapping[Any, Any], now: datetime | None = None) -> str:
    """The state of one call of a sweep, from its row.

    On the driver's own machine it is asked whether the process exists; elsewhere its last sign of life must do. In rows
    older than those columns nobody can tell, and they count as killed.
    """
    if call["status"] != "running":
        return str(call["status"])
    updated, pid = _time(call.get("updated_at")), call.get("pid")
    if updated is None or pid is None or math.isnan(pid):
        return "killed"
    if call["host"] == platform.node() and not _exists(int(pid)):
        return "killed"
    return "running" if (now or datetime.now(UTC)) - updated < SILENT else "killed"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _seconds(finished: pd.DataFrame, costs: Mapping[str, float], left: float, workers: int) -> float | None:
    if left == 0:
        return 0.0
    timed = finished[finished["wall_time_s"] > 0]
    cost = sum(costs[str(trial)] for trial in timed.index)
    return float(timed["wall_time_s"].sum()) / cost * left / workers if cost else None


def _time(value: Any) -> datetime | None:
    return None if value is None or pd.isna(value) else pd.Timestamp(value).to_pydatetime()

"""What a search took, and what it had found by then: from rows of the `tunings` table."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scionlab.errors import UserError


@dataclass(frozen=True)
class Cost:
    """A search: how its trials ended, FLOPs and seconds summed over them, also over those that were ended early."""

    study: str
    complete: int
    pruned: int
    diverged: int
    failed: int
    flops: float
    seconds: float
    best_loss: float
    best_params: dict[str, float]

    @property
    def trials(self) -> int:
        """All but those that failed, which the search has made up for."""
        return self.complete + self.pruned + self.diverged


def cost(tunings: pd.DataFrame, study: str) -> Cost:
    """Of one search. UserError where the store has no finished trial of it."""
    rows = tunings[tunings["study"] == study]
    whole = rows[rows["state"] == "complete"]
    if whole.empty:
        raise UserError(
            f"tunings: the store has no finished trial of the search {study!r}; run `scionlab transfer` again"
        )
    best = whole.sort_values(["val_loss", "number"]).iloc[0]
    states = Counter(rows["state"])
    return Cost(
        study=study,
        **{state: int(states[state]) for state in ("complete", "pruned", "diverged", "failed")},
        flops=float(rows["flops"].sum()),
        seconds=float(rows["wall_time_s"].sum()),
        best_loss=float(best["val_loss"]),
        best_params={str(name): float(value) for name, value in json.loads(best["params"]).items()},
    )


def descent(tunings: pd.DataFrame, study: str) -> list[dict[str, Any]]:
    """After every trial of a search, in order: FLOPs spent until then, and the lowest loss; none before the first."""
    rows = tunings[tunings["study"] == study].sort_values("number")
    found = pd.DataFrame({"flops": rows["flops"].fillna(0).cumsum(), "loss": rows["val_loss"].cummin().ffill()})
    return [{"flops": float(f), "loss": float(loss)} for f, loss in found.dropna().itertuples(index=False)]

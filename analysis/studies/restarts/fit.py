"""Restarts against fixed settings: the same tokens spent in several ways, and what each ends at.

A way is what a trial does apart from its seed: batch size, sequence length and learning rate, stage by stage. Losses
are means over seeds with Student's interval; ways are compared on the seeds they share, by the interval of the paired
differences from the way that never changed anything.
"""

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.fits.intervals import CONFIDENCE, Estimate, student
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Missing, Outcome, record
from analysis.fits.seeds import more_seeds
from analysis.tables.sweep import SweepTables
from scionlab.errors import UserError
from scionlab.runs.store import FINISHED

SETTING = ("batch_size", "seq_len", "lr")
TUNED_SMALL = "tuned small"
Stages = tuple[tuple[float, ...], ...]  # of each stage from_tokens and SETTING, the first from 0


@dataclass(frozen=True)
class Way:
    """One way to spend the tokens. `difference` is from the reference, on shared seeds; None for that one itself, and
    where a run of either diverged.
    """

    name: str
    stages: Stages
    loss: Estimate | None
    difference: Estimate | None
    n_seeds: int
    n_diverged: int
    trial_ids: tuple[str, ...]
    verdict: Outcome
    lacks: Lacks = SETTLED


@dataclass(frozen=True)
class Restarts:
    """All ways, the lowest loss first. `reference` is the name of the way the differences are from."""

    ways: tuple[Way, ...]
    reference: str
    tokens: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"confidence": CONFIDENCE, **record(self)}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its table, by the name of its CSV."""
        return {"restarts": pd.DataFrame(_row(way) for way in self.ways)}

    def judgements(self) -> tuple[Judgement, ...]:
        """One per way."""
        return tuple(Judgement(way.name, way.verdict, way.lacks) for way in self.ways)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """The table as text."""
        title = f"Ways to spend {self.tokens:,.0f} tokens (validation loss in nats, difference from: {self.reference})"
        return [(title, pd.DataFrame(texts(way) for way in self.ways))]


def texts(way: Way) -> dict[str, str]:
    """A way as a row of texts."""
    return {
        "way": way.name,
        "batch × length, lr": setting_text(way),
        "loss": way.loss.text(".3f") if way.loss else "diverged",
        "difference": way.difference.text("+.3f") if way.difference else "–",
        "seeds": str(way.n_seeds),
    }


def setting_text(way: Way) -> str:
    """The stages in short."""
    return " → ".join(f"{batch:g} × {seq:g}, {lr:.2g}" for _, batch, seq, lr in way.stages)


def _row(way: Way) -> dict[str, Any]:
    row: dict[str, Any] = {"way": way.name, "setting": setting_text(way)}
    for name, estimate in (("loss", way.loss), ("difference", way.difference)):
        row |= (estimate or Estimate(np.nan)).columns(name)
    return row | {"n_seeds": way.n_seeds, "n_diverged": way.n_diverged}


def fit_restarts(tables: SweepTables) -> Restarts:
    """Group the finished runs of one optimizer into ways and compare them; UserError if none is in stages."""
    finished = tables.runs[tables.runs["status"].isin(FINISHED)].copy()
    if "stages" not in finished or finished["stages"].isna().all():
        raise UserError("runs: none of them has stages: there are no restarts to compare")
    if finished["optimizer"].nunique() > 1 or finished["tokens_budget"].nunique() > 1:
        raise UserError("runs: restarts are compared for one optimizer and one token budget")
    groups: dict[Stages, pd.DataFrame] = {}
    for row, stages in zip(finished.index, map(_stages, finished.to_dict("records")), strict=True):
        groups[stages] = pd.concat([groups.get(stages, finished.iloc[:0]), finished.loc[[row]]])
    longest = max(groups, key=len)
    names = {stages: _name(stages, longest[0][1:], longest[-1][1:]) for stages in groups}
    losses = {stages: _by_seed(rows) for stages, rows in groups.items()}
    for stages, of in losses.items():
        if not of.index.is_unique:
            seed = of.index[of.index.duplicated()][0]
            raise UserError(f"runs: several runs of {names[stages]!r} have seed {seed}; give each its own preset")
    fixed: list[Stages] = [stages for stages in groups if len(stages) == 1] or [*groups]
    reference = next((stages for stages in fixed if names[stages] == TUNED_SMALL), fixed[0])
    ways = [
        _way(names[stages], stages, rows, losses[stages], None if stages == reference else losses[reference])
        for stages, rows in groups.items()
    ]
    ways.sort(key=lambda way: way.loss.value if way.loss else np.inf)
    return Restarts(tuple(ways), names[reference], float(finished["tokens_budget"].iloc[0]))


def _way(
    name: str, stages: Stages, rows: pd.DataFrame, losses: "pd.Series[float]", reference: "pd.Series[float] | None"
) -> Way:
    """A way beside the reference's losses by seed; None for the reference itself."""
    loss, shared = student(losses), losses.index if reference is None else losses.index.intersection(reference.index)
    difference = None if reference is None else student(losses[shared] - reference[shared])
    outcome, lacks = Outcome.DIVERGED, SETTLED
    if loss is not None:
        outcome = Outcome.REFERENCE if reference is None else judge(difference)
    if outcome.open:
        # Without a difference the reference diverged, or no seed was run in both ways.
        missing = Missing.STABLE_RATES if len(shared) else Missing.RUNS
        lacks = more_seeds(len(shared), difference, judge, 1) if difference else Lacks.of([missing])
    return Way(
        name=name,
        stages=stages,
        loss=loss,
        difference=difference,
        n_seeds=len(rows),
        n_diverged=int((rows["status"] == "diverged").sum()),
        trial_ids=tuple(rows["trial_id"]),
        verdict=outcome,
        lacks=lacks,
    )


def judge(difference: Estimate | None) -> Outcome:
    """Whether a difference from the reference is on one side of 0."""
    if difference is None or difference.low is None or difference.high is None:
        return Outcome.CANNOT_TELL
    if difference.low > 0:
        return Outcome.WORSE
    return Outcome.BETTER if difference.high < 0 else Outcome.CANNOT_TELL


def _by_seed(rows: pd.DataFrame) -> "pd.Series[float]":
    """Validation loss by seed, infinite where the run diverged."""
    return rows["val_loss"].where(rows["status"] == "ok", np.inf).set_axis(rows["seed"])


def _stages(row: Mapping[Hashable, Any]) -> Stages:
    later = json.loads(row["stages"]) if isinstance(row["stages"], str) else []
    settings = [{"from_tokens": 0, **{name: row[name] for name in SETTING}}, *later]
    return tuple(tuple(float(stage[name]) for name in ("from_tokens", *SETTING)) for stage in settings)


def _name(stages: Stages, base: tuple[float, ...], last: tuple[float, ...]) -> str:
    """What a way is, seen from the setting the restarts begin with and the one they end with."""
    if len(stages) > 1:
        return "restarted" if len(stages) == 2 else f"restarted {len(stages) - 1} times"
    batch, seq, lr = stages[0][1:]
    if (batch, seq, lr) == base:
        return TUNED_SMALL
    if (batch, seq) == last[:2]:
        return {base[2]: "large, old step", last[2]: "large, the rule's step"}.get(lr, f"large, lr {lr:.2g}")
    return f"batch {batch:g} × {seq:g}, lr {lr:.2g}"

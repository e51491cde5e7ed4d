"""Gradient noise: of every method and kind of layer, what the trials' probes of noise measured, step by step.

    tail_index     p̂: a moment E‖N‖^p is finite below it, the variance above 2
    nuclear_ratio  0 where the noise of a batch has rank 1, 1 where it spreads over all directions alike
    entry_ratio    likewise over entries
    batch_slope    log-log slope of the noise's dual norm against the batch; -1/2 for light noise of many directions

`scionlab.training.measure.noise` has the formulas. A heavy tail, p̂ < 2, is where theory tells Schatten norms apart: the
method of Schatten-r pays no penalty in dimensions for r up to p/(p − 1) (arXiv 2606.14560); with a finite variance that
is 2.

Values are means over the layers of a kind and the runs. All of them are measured on the same windows, so more of them
do not make an interval narrower: its ends are the means of their ends. A method is judged by its network as one vector,
at the last step that is measured.
"""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.fits.intervals import Estimate, columns_of
from analysis.fits.outcomes import Judgement, Outcome
from analysis.tables.sweep import SweepTables
from analysis.tables.watched import kinds
from scionlab.errors import UserError

METRICS = ("tail_index", "tail_index_block", "nuclear_ratio", "entry_ratio", "batch_slope")
NETWORK = "network"
SPLIT = "noise"
FINITE_VARIANCE = 2.0


@dataclass(frozen=True)
class KindNoise:
    """The noise of one kind of layer at one step; a metric that it does not have is None: nuclear ratios of vectors.

    `n_layers` are layers of the kind, `n_runs` runs.
    """

    optimizer: str
    kind: str
    step: int
    n_layers: int
    n_runs: int
    tail_index: Estimate | None
    tail_index_block: Estimate | None
    nuclear_ratio: Estimate | None
    entry_ratio: Estimate | None
    batch_slope: Estimate | None

    @property
    def schatten(self) -> float | None:
        """p/(p − 1), the largest Schatten norm without a penalty in dimensions, at least 2; None if p ≤ 1."""
        if self.tail_index is None or self.tail_index.value <= 1:
            return None
        p = min(self.tail_index.value, FINITE_VARIANCE)
        return p / (p - 1)


@dataclass(frozen=True)
class MethodNoise:
    """A method's noise, network first, then kind by kind in the order of the network, each by steps."""

    optimizer: str
    verdict: Outcome
    rows: tuple[KindNoise, ...]

    @property
    def network(self) -> KindNoise:
        """The whole network at the last measured step."""
        return [row for row in self.rows if row.kind == NETWORK][-1]

    @property
    def last(self) -> list[KindNoise]:
        """Every kind at the last measured step."""
        return [row for row in self.rows if row.step == self.network.step]


@dataclass(frozen=True)
class GradientNoise:
    """All methods."""

    methods: tuple[MethodNoise, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"methods": [asdict(method) for method in self.methods]}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its table, by the name of its CSV."""
        return {"gradient_noise": pd.DataFrame(_record(row) for method in self.methods for row in method.rows)}

    def judgements(self) -> tuple[Judgement, ...]:
        """One per method."""
        return tuple(Judgement(method.optimizer, method.verdict) for method in self.methods)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """One row per method, as text."""
        return [("Noise of single gradients, the network as one vector", pd.DataFrame(map(_texts, self.methods)))]


def fit_gradient_noise(tables: SweepTables) -> GradientNoise:
    """Sum up the probes of the runs that trained to their end; UserError if none of them measured its noise."""
    rows = noise_of(tables)
    return GradientNoise(tuple(_method(str(name), mine) for name, mine in rows.groupby("optimizer", sort=True)))


def noise_of(tables: SweepTables) -> pd.DataFrame:
    """A row per run, step, layer and kind, with the metrics and their ends as columns."""
    scores = tables.scores
    noise = scores[scores["split"] == SPLIT] if "split" in scores else scores
    ok = tables.runs.loc[tables.runs["status"] == "ok", ["trial_id", "optimizer"]]
    noise = noise.merge(ok, on="trial_id") if len(noise) else noise
    if noise.empty:
        raise UserError(
            "runs: none that trained to its end measured the noise of its gradients; set noise_probe in its trials"
        )
    layers = noise[["trial_id", "optimizer", "step", "group"]].drop_duplicates().rename(columns={"group": "layer"})
    layers["kind"] = kinds(layers.assign(role=""))
    columns = [metric + end for metric in METRICS for end in ("", "_low", "_high")]
    wide = noise.pivot_table(index=["trial_id", "step", "group"], columns="metric", values="value").reindex(
        columns=columns
    )
    return layers.merge(wide.reset_index().rename(columns={"group": "layer"}), on=["trial_id", "step", "layer"])


def _method(optimizer: str, rows: pd.DataFrame) -> MethodNoise:
    order = [NETWORK, *(kind for kind in rows["kind"].unique() if kind != NETWORK)]
    found = [
        _kind(optimizer, kind, int(step), mine)
        for kind in order
        for step, mine in rows[rows["kind"] == kind].groupby("step", sort=True)
    ]
    network = [row for row in found if row.kind == NETWORK][-1]
    return MethodNoise(optimizer, _verdict(network.tail_index), tuple(found))


def _kind(optimizer: str, kind: str, step: int, rows: pd.DataFrame) -> KindNoise:
    estimates = {metric: _mean(rows, metric) for metric in METRICS}
    return KindNoise(optimizer, kind, step, rows["layer"].nunique(), rows["trial_id"].nunique(), **estimates)


def _mean(rows: pd.DataFrame, metric: str) -> Estimate | None:
    values = rows[metric].dropna()
    if values.empty:
        return None
    ends = [rows[metric + end].dropna() for end in ("_low", "_high")]
    low, high = (float(end.mean()) if len(end) else None for end in ends)
    return Estimate(float(values.mean()), low, high)


def _verdict(tail: Estimate | None) -> Outcome:
    if tail is None or tail.low is None or tail.high is None:
        return Outcome.FINITE  # the largest are all alike
    if tail.high < FINITE_VARIANCE:
        return Outcome.HEAVY
    return Outcome.FINITE if tail.low > FINITE_VARIANCE else Outcome.NEAR_TWO


def _record(row: KindNoise) -> dict[str, Any]:
    plain = {name: getattr(row, name) for name in ("optimizer", "kind", "step", "n_layers", "n_runs")}
    for metric in METRICS:
        plain |= columns_of(metric, getattr(row, metric))
    return plain | {"schatten": row.schatten}


def _texts(method: MethodNoise) -> dict[str, str]:
    row = method.network
    return {
        "optimizer": method.optimizer,
        "step": str(row.step),
        "tail index": text(row.tail_index, ".1f"),
        "spread over entries": text(row.entry_ratio, ".2f"),
        "slope against batch": text(row.batch_slope, ".2f"),
        "verdict": method.verdict,
    }


def text(estimate: Estimate | None, form: str) -> str:
    """An estimate with its interval, or a dash."""
    return "–" if estimate is None else estimate.text(form)

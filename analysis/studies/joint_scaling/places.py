"""From a table of runs to places: one network size and token budget each, with its curves over learning rates.

At a place a curve is what was trained with one batch size and, where they were swept, one weight of the new gradient
and one weight decay. Curves of one size share a shape when they are read (`analysis.fits.profile.read_budgets`).
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.fits.cells import BATCH, Cell, budgets_of, table_of_cells
from analysis.fits.lr_curve import LrCurve
from analysis.fits.profile import read_budgets
from analysis.fits.reading import Reading
from analysis.laws.joint import BATCH_TOKENS, DECAY, LR, MOMENTUM
from analysis.laws.points import check_data
from analysis.tables import keys
from analysis.tables.arrays import Floats
from scionlab.errors import UserError, option

UNITS = {LR: "", BATCH_TOKENS: "tokens a step", MOMENTUM: "weight of the new gradient", DECAY: ""}
BESIDE = (BATCH_TOKENS, MOMENTUM, DECAY)  # what may be tuned beside the rate
DRAWS = 200  # of every curve: for the interval of a single optimum
# What a law is over, by the names of a trial's fields and of an import's columns.
VARIED = ("tokens", "batch_size", "seq_len", "lr", "momentum", "seed", "n_params", "width", "depth", "weight_decay")
SHARED = ("seq_len", "beta2")  # what a launch needs and no law is of


@dataclass(frozen=True)
class Curve:
    """A curve as measured, and as read; `at` has log₂ of its batch in tokens a step, of momentum and of weight decay.

    Momentum and decay are NaN where they are not said.
    """

    at: Mapping[str, float]
    cell: Cell
    reading: Reading

    @property
    def curve(self) -> LrCurve:
        """The cell's losses over learning rates."""
        return self.cell.curve


@dataclass(frozen=True)
class Place:
    """N parameters and T tokens, `further` resources by name (NaN if not known), and the curves there."""

    n_params: float
    tokens: float
    further: Mapping[str, float]
    curves: tuple[Curve, ...]

    def values(self, quantity: str) -> Floats:
        """log₂ of what was tried of batch size, momentum or weight decay, ascending and each once."""
        return np.unique([curve.at[quantity] for curve in self.curves])

    @property
    def n_runs(self) -> int:
        """Settings whose runs trained."""
        return sum(int(each.curve.finite.sum()) for each in self.curves)

    @property
    def n_broken(self) -> int:
        """Settings whose runs broke and ended all the same."""
        return sum(int(each.curve.broken.sum()) for each in self.curves)


@dataclass(frozen=True)
class Source:
    """One method or source. `swept`: quantities of which some place has several values; none where every place has one
    run, an optimum that somebody else read. `notes` say what differs between runs besides; `left_out` counts runs, or
    settings of several seeds. `shared` is what all runs have in common of `SHARED`.
    """

    name: str
    places: tuple[Place, ...]
    swept: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: Mapping[str, int]
    shared: Mapping[str, float] = field(default_factory=dict)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What has a law: what was swept; of a table of optima, rate and batch size."""
        return self.swept or (LR, BATCH_TOKENS)


def sources_of(runs: pd.DataFrame, further: Sequence[str], seed: int = 0) -> list[Source]:
    """Every method or source with its places; `further` are columns that tell sizes apart beside n_params.

    UserError for missing columns, runs without sizes or rates, nothing that trained, or two runs of one setting.
    """
    if "n_params" not in runs or runs["n_params"].isna().all():
        raise UserError("runs: none says how many parameters its network has (n_params), so there is no law of them")
    if "lr" not in runs or runs["lr"].isna().all():
        law = option("study", "scaling-law")
        raise UserError(f"runs: none has a learning rate; sizes, tokens and losses alone are for {law}")
    if not (runs["status"] == "ok").any():
        raise UserError(f"runs: none of {len(runs)} trained to its end: there is nothing to fit")
    groups = runs.groupby("optimizer", sort=True)
    return [_source(str(name), rows, further, seed) for name, rows in groups if (rows["status"] == "ok").any()]


def _source(name: str, rows: pd.DataFrame, further: Sequence[str], seed: int) -> Source:
    check_data(rows)
    known = rows[rows["n_params"].notna() & rows["lr"].notna()]
    if not (known["status"] == "ok").any():
        return Source(name, (), (), (), {"do not say their size or rate": len(rows)})
    columns = [column for column in further if column in known]
    table = table_of_cells(known.assign(**{DECAY: _decay(known)}))
    setting = ["n_params", *columns, "budget", *BATCH, MOMENTUM, DECAY, "lr", "seed"]
    if table.duplicated(setting).any():
        doubled = table[table.duplicated(setting)].iloc[0]
        cell = ", ".join(f"{key} {doubled[key]:g}" for key in setting if pd.notna(doubled[key]))
        raise UserError(f"runs: several runs of {name!r} have {cell}; {keys.how_to_part(table)}")
    rng = np.random.default_rng(seed)
    sizes = table.groupby(["n_params", *columns], sort=True, dropna=False)
    places = [place for _, size in sizes for place in _places(size, columns, rng)]
    left_out = {
        "do not say their size or rate": len(rows) - len(known),
        "did not train to their end": int((known["status"] != "ok").sum()),
        "broke and ended far above the rest of their curve": sum(place.n_broken for place in places),
    }
    return Source(
        name,
        tuple(places),
        _swept(places),
        _notes(known),
        {why: count for why, count in left_out.items() if count},
        {
            name: float(known[name].iloc[0])
            for name in SHARED
            if name in known and known[name].nunique(dropna=False) == 1
        },
    )


def _decay(runs: pd.DataFrame) -> "pd.Series[float]":
    """λ of every run, an import's column or an option of the optimizer; NaN where it is not said."""
    found = pd.Series(np.nan, index=runs.index)
    for key in (DECAY, keys.OPTION + DECAY):
        with suppress(UserError):  # none of the runs has it
            found = found.fillna(pd.to_numeric(keys.values(runs, key, DECAY)))
    return found


def _places(size: pd.DataFrame, columns: Sequence[str], rng: np.random.Generator) -> list[Place]:
    """The places of one network size, ascending in tokens."""
    found = []
    for _, group in size.groupby([MOMENTUM, DECAY], sort=True, dropna=False):
        beside = {name: _log2(float(group[name].iloc[0])) for name in (MOMENTUM, DECAY)}
        found += [(beside, budget) for budget in budgets_of(group)]
    if not found:
        return []
    _, readings = read_budgets([budget for _, budget in found], DRAWS, rng)
    curves: dict[float, list[Curve]] = {}
    for (beside, budget), of_budget in zip(found, readings, strict=True):
        for cell, reading in zip(budget.cells, of_budget, strict=True):
            at = {BATCH_TOKENS: float(np.log2(cell.batch_tokens)), **beside}
            curves.setdefault(budget.tokens, []).append(Curve(at, cell, reading))
    first = size.iloc[0]
    resources = {column: float(first[column]) for column in columns}
    return [Place(float(first["n_params"]), t, resources, tuple(curves[t])) for t in sorted(curves)]


def _log2(value: float) -> float:
    """−inf for 0: a weight decay that has no place in a law of logarithms, but may be the best."""
    return float(np.log2(value)) if value > 0 else -np.inf if value == 0 else np.nan


def _swept(places: Sequence[Place]) -> tuple[str, ...]:
    found = [LR] if any(len(each.curve.x) > 1 for place in places for each in place.curves) else []
    for quantity in BESIDE:
        if any(len(values[~np.isnan(values)]) > 1 for place in places for values in [place.values(quantity)]):
            found.append(quantity)
    return tuple(found)


def _notes(runs: pd.DataFrame) -> tuple[str, ...]:
    """What else differs between the runs of a law, a sentence each."""
    beside = (*VARIED, "optimizer", keys.OPTION + DECAY)
    different = keys.different(runs, beside, keys.FIXED)
    return tuple(
        f"{name} takes several values ({values}), and the law is of all of them together"
        for name, values in different.items()
    )

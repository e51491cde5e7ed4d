"""The whole batch-scaling fit of a table of runs."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from analysis.fits.cells import Budget, budgets_of, table_of_cells
from analysis.fits.intervals import RESAMPLES, Estimate
from analysis.fits.outcomes import SETTLED
from analysis.fits.profile import TOLERANCE, left_to_gain, read_budgets, ties
from analysis.fits.reading import Reading
from analysis.fits.simultaneous import tied
from analysis.laws.constants import Constants, fit_constants
from analysis.laws.critical_batch import CriticalBatch
from analysis.laws.kappa import KappaBst
from analysis.laws.of_runs import critical_batch_of_runs
from analysis.laws.points import check_goals
from analysis.laws.rules import RULES, Rule
from analysis.studies.batch_scaling.exponents import (
    AT_EDGES,
    BEST,
    LARGEST,
    NO_FLOOR,
    Exponent,
    Path,
    best_path,
    fit_corner,
    fit_path,
    fit_plane,
    largest_path,
)
from analysis.studies.batch_scaling.laws import laws_of_optimizers
from analysis.studies.batch_scaling.momentum import fit_momenta
from analysis.studies.batch_scaling.regret import Contest, contest
from analysis.studies.batch_scaling.result import (
    BatchScaling,
    BudgetOptimum,
    CellOptimum,
    OptimizerScaling,
    OptimizerSizes,
    PlanBase,
    PowerLawFit,
)
from analysis.studies.batch_scaling.sensitivity import sensitivity
from analysis.studies.batch_scaling.sizes import Size, contests_of_sizes
from analysis.studies.batch_scaling.surface import FLOOR, Maximum, Surface, fit_surface
from analysis.studies.batch_scaling.table import Table
from analysis.tables import keys
from scionlab.errors import UserError, listed, option

PLAN_SAMPLES = 200
# What may differ between the trials of one optimizer, by the names of `scionlab.spec.Trial`.
AXES = ["tokens", "batch_size", "seq_len", "lr", "momentum", "seed", "data", "probe"]
# What may not, where the table has it: one text may have several names.
FIXED = ["model", "width", "depth", "schedule", "data_sha256"]
# Maximum and smooth maximum, each with the theory's exponent and with a free one; all else is read off the last.
SURFACES: tuple[tuple[Maximum, bool], ...] = (("max", False), ("smooth", False), ("max", True), ("smooth", True))
Tables = tuple[Table, Table | None]
CELL = ["budget", "batch_size", "seq_len", "momentum", "lr", "seed"]


def fit_batch_scaling(runs: pd.DataFrame, curves: pd.DataFrame | None = None, seed: int = 0) -> BatchScaling:
    """Fit every optimizer of a table with the columns `cells.COLUMNS`; `curves` brings the probes, if there are any.

    Several network sizes (`n_params`; of a foreign table also `width`) of one optimizer are fitted apart. Raises
    UserError for missing columns, for a table with nothing to fit, for one of tokens to a target, and for runs that
    differ in more than budget, batch, rate, momentum and seed.
    """
    for _, rows in runs.groupby("optimizer") if "optimizer" in runs else ():
        check_goals(rows)
    if "lr" in runs and runs["lr"].isna().all():
        law = option("study", "scaling-law")
        raise UserError(f"runs: none has a learning rate; sizes, tokens and losses alone are for {law}")
    cells = table_of_cells(runs)
    curves = pd.DataFrame() if curves is None else curves
    groups = _groups(cells)
    sizes: dict[str, list[Size]] = {}
    found = []
    for name, rows in groups:
        scaling, tables = _fit(name, rows, curves, seed)
        found.append(scaling)
        if tables is not None and "n_params" in rows and rows["n_params"].notna().all():
            of_optimizer = sizes.setdefault(str(rows["optimizer"].iloc[0]), [])
            of_optimizer.append(Size(float(rows["n_params"].iloc[0]), *tables))
    trained = [rows for (_, rows), scaling in zip(groups, found, strict=True) if scaling.cells]
    laws = laws_of_optimizers(pd.concat([cells.iloc[:0], *trained]), seed)
    across = [OptimizerSizes(name, each) for name, of in sizes.items() for each in contests_of_sizes(of)]
    return BatchScaling(tuple(found), tuple(laws), tuple(across))


def _critical(rows: pd.DataFrame, seed: int) -> CriticalBatch | None:
    if rows["budget"].nunique() < 2:
        return None
    size = {} if "n_params" in rows and rows["n_params"].notna().all() else {"n_params": 1.0}
    return critical_batch_of_runs(rows.assign(**size), seed=seed)


def _groups(cells: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Every optimizer, and every network size of it, checked to be one experiment."""
    groups = []
    for optimizer, table in cells.groupby("optimizer", sort=True):
        if _several(table, "n_params"):
            groups += [(f"{optimizer}, {n:,.0f} parameters", rows) for n, rows in table.groupby("n_params", sort=True)]
        elif "spec" not in table and _several(table, "width"):
            groups += [(f"{optimizer}, width {w:,.0f}", rows) for w, rows in table.groupby("width", sort=True)]
        else:
            groups.append((str(optimizer), table))
    for name, table in groups:
        _check_one_experiment(name, table)
    return groups


def _several(table: pd.DataFrame, column: str) -> bool:
    return column in table and is_numeric_dtype(table[column]) and table[column].nunique() > 1


def _check_one_experiment(name: str, table: pd.DataFrame) -> None:
    fixed = [*FIXED, *(() if "spec" in table else (*keys.OF_IMPORTS, "data"))]
    settings = keys.as_meant(table[[column for column in fixed if column in table]]).astype(str)
    if "spec" in table and table["spec"].notna().all():
        spec = pd.DataFrame([json.loads(text) for text in table["spec"]], index=table.index).astype(str)
        settings = pd.concat([settings, spec.drop(columns=[*AXES, *settings], errors="ignore")], axis=1)
    for column in settings:
        if settings[column].nunique() > 1:
            values = listed(sorted(settings[column].unique()))
            raise UserError(f"runs: {column} of {name!r} takes several values ({values}); {keys.how_to_part(table)}")
    doubled = table[table.duplicated(CELL)]
    if len(doubled):
        cell = ", ".join(f"{key} {doubled.iloc[0][key]:g}" for key in CELL)
        raise UserError(f"runs: several runs of {name!r} have {cell}; {keys.how_to_part(table)}")


def fit_optimizer(name: str, rows: pd.DataFrame, curves: pd.DataFrame, seed: int) -> OptimizerScaling:
    """Fit one optimizer's finished runs (`cells.table_of_cells`); without one cell that trained, nothing is found."""
    return _fit(name, rows, curves, seed)[0]


def _fit(name: str, rows: pd.DataFrame, curves: pd.DataFrame, seed: int) -> tuple[OptimizerScaling, Tables | None]:
    """The fit, and the cells it is of, as read and drawn; None where none trained."""
    rng = np.random.default_rng(seed)
    momentum = _usual_momentum(rows)
    usual = rows if momentum is None else rows[rows["momentum"] == momentum]
    budgets = budgets_of(usual)
    if not budgets:
        return _nothing(name, momentum), None
    noise, readings = read_budgets(budgets, RESAMPLES, rng)
    observed = Table.of(budgets, readings)
    drawn = observed.draws()
    surfaces = _surfaces(observed, drawn, seed)
    floor = _floor(surfaces)
    optima, paths = _optima(observed, drawn, floor)
    measured = {o.tokens: o.largest.value for o in optima if not o.largest_at_edge}
    constants = fit_constants(rows, curves, measured, surfaces[-1][0].floor if surfaces else None, seed)
    contests = _contests(observed, drawn, constants)
    scaling = OptimizerScaling(
        optimizer=name,
        momentum=momentum,
        noise=noise.size,
        noise_source=noise.source,
        n_seeds=_n_seeds(budgets),
        cells=_cells(observed, drawn),
        budgets=optima,
        exponents=tuple(_exponents(observed, drawn, paths, surfaces, floor)),
        surfaces=tuple(surface for surface, _ in surfaces),
        sensitivity=tuple(sensitivity(observed, drawn, floor)),
        momenta=fit_momenta(rows, rng),
        forward=contests[-1] if contests else None,
        contests=contests,
        constants=constants,
        critical=_critical(rows, seed),
        plan=_plan(optima, momentum, budgets, paths),
    )
    return scaling, (observed, drawn)


def _n_seeds(budgets: Sequence[Budget]) -> int:
    return max(budget.n_seeds for budget in budgets)


def _nothing(name: str, momentum: float | None) -> OptimizerScaling:
    alone: Any = dict.fromkeys(("momenta", "forward", "constants", "critical", "plan"))
    many: Any = dict.fromkeys(("cells", "budgets", "exponents", "surfaces", "sensitivity", "contests"), ())
    return OptimizerScaling(name, momentum, noise=0.0, noise_source="none", n_seeds=0, **alone, **many)


def _usual_momentum(rows: pd.DataFrame) -> float | None:
    """The momentum that most cells were trained with, the smallest of several such: the main fit's."""
    cells = rows.drop_duplicates(["budget", "batch_size", "seq_len", "momentum"])
    values, counts = np.unique(cells["momentum"].dropna(), return_counts=True)
    return float(values[np.argmax(counts)]) if len(values) else None


def _cells(observed: Table, drawn: Table | None) -> tuple[CellOptimum, ...]:
    found = []
    for i, budget in enumerate(observed.budgets):
        of, sample = observed.profiles[i], drawn.profiles[i] if drawn else None
        tied = ties(of, sample)
        for c, cell in enumerate(budget.cells):
            lr_sample = None if sample is None or not of.resolved[0, c] else 2 ** sample.lr[:, c]
            found.append(
                CellOptimum(
                    tokens=budget.tokens,
                    batch_size=cell.batch_size,
                    seq_len=cell.seq_len,
                    batch_tokens=cell.batch_tokens,
                    lr=Estimate.of(2 ** of.lr[0, c], lr_sample),
                    loss=Estimate.of(of.loss[0, c], None if sample is None else sample.loss[:, c]),
                    at_edge=cell.curve.at_edge,
                    resolved=bool(of.resolved[0, c]),
                    tied=None if tied is None else tied[c],
                    n_seeds=cell.curve.n_seeds,
                    n_diverged=cell.curve.n_diverged,
                )
            )
    return tuple(found)


Paths = dict[str, tuple[Path, Path | None]]
Fitted = tuple[Surface, np.ndarray | None]  # a surface, and the exponents of its resamples


def _floor(surfaces: Sequence[Fitted]) -> float | None:
    """E of the surface that is fitted with most freedom, in nats; None without one, or where E is at its bound 0."""
    floor = surfaces[-1][0].floor if surfaces else 0.0
    return floor if floor >= FLOOR else None


def _optima(observed: Table, drawn: Table | None, floor: float | None) -> tuple[tuple[BudgetOptimum, ...], Paths]:
    """Every budget's best and largest batch, and both as paths over the budgets."""
    paths: Paths = {
        BEST: (best_path(observed.profiles), None if drawn is None else best_path(drawn.profiles)),
        LARGEST: (
            largest_path(observed.profiles, TOLERANCE, floor),
            None if drawn is None else largest_path(drawn.profiles, TOLERANCE, floor),
        ),
    }

    def estimate(path: str, field: str, i: int, resolved: bool) -> Estimate:
        at, sample = paths[path]
        draws = 2 ** getattr(sample, field)[:, i] if sample is not None and resolved else None
        return Estimate.of(2 ** getattr(at, field)[0, i], draws)

    found = []
    for i, budget in enumerate(observed.budgets):
        best, largest = paths[BEST][0], paths[LARGEST][0]
        tied = ties(observed.profiles[i], drawn.profiles[i] if drawn else None)
        inside, without = bool(best.batch_ok[0, i]), bool(largest.batch_ok[0, i])
        found.append(
            BudgetOptimum(
                tokens=budget.tokens,
                batch=estimate(BEST, "batch", i, inside),
                batch_at_edge=not inside,
                lr=estimate(BEST, "lr", i, bool(best.lr_ok[0, i])),
                lr_resolved=bool(best.lr_ok[0, i]),
                largest=estimate(LARGEST, "batch", i, without),
                largest_at_edge=not without,
                tolerance=TOLERANCE * float(left_to_gain(observed.profiles[i], floor)[0]),
                lr_largest=estimate(LARGEST, "lr", i, bool(largest.lr_ok[0, i])),
                lr_largest_resolved=bool(largest.lr_ok[0, i]),
                loss=float(observed.profiles[i].loss.min()),
                tied=None if tied is None else tuple(2 ** observed.profiles[i].x[tied]),
                seq_len=budget.cells[0].seq_len,
                lacks=paths[BEST][0].lacks[i] if not (inside and best.lr_ok[0, i]) else SETTLED,
                tied_lrs=None if drawn is None else _tied_rates(drawn.readings[i][int(observed.profiles[i].lowest[0])]),
            )
        )
    return tuple(found), paths


def _tied_rates(reading: Reading) -> tuple[float, ...]:
    """The measured rates of a cell that draws of its curve cannot tell from the best of them."""
    curve = reading.curve
    kept = tied(reading.mean_at_rates(), reading.drawn_at_rates())
    return tuple((2 ** curve.x[curve.finite][kept]).tolist())


def _exponents(
    observed: Table, drawn: Table | None, paths: Paths, surfaces: Sequence[Fitted], floor: float | None
) -> list[Exponent]:
    """Along both paths, along the corner of the smooth surface with a free exponent, and of the plane."""
    found, n_seeds = [], _n_seeds(observed.budgets)
    for name, (path, sample) in paths.items():
        doubt = NO_FLOOR if name == LARGEST and floor is None else ""
        found += [each.with_seeds(n_seeds) for each in fit_path(name, observed.tokens, path, sample, doubt)]
    plane = fit_plane(observed.tokens, observed.profiles, drawn.profiles if drawn else None)
    for surface, drawn_exponents in surfaces:
        if surface.free_exponent and surface.form == "smooth":
            n_cells = sum(len(budget.cells) for budget in observed.budgets)
            doubt = "" if all(p.inside(p.lowest).all() for p in observed.profiles) else AT_EDGES
            found += fit_corner(surface, drawn_exponents, plane, n_cells, doubt, n_seeds)
    along = [each.with_seeds(n_seeds) for each in (plane.exponents() if plane else [])]
    return found + along


def _surfaces(observed: Table, drawn: Table | None, seed: int) -> list[Fitted]:
    """Those of `SURFACES` that the table has cells enough for."""
    sample = drawn.profiles if drawn else None
    found = [fit_surface(observed.tokens, observed.profiles, sample, form, free, seed) for form, free in SURFACES]
    return [surface for surface in found if surface is not None]


def _contests(observed: Table, drawn: Table | None, constants: Constants | None) -> tuple[Contest, ...]:
    """Every budget held out once, the largest last."""
    rules: list[Rule] = list(RULES.values())
    exponent = constants.kappa_batch_exponent if constants else None
    if exponent is not None and exponent < 3 / 2:
        rules.append(KappaBst(exponent=exponent))
    tables = observed, drawn
    found = [contest(*tables, index, rules) for index in range(len(observed.budgets))]
    return tuple(c for c in found if c is not None)


def _plan(optima: Sequence[BudgetOptimum], momentum: float | None, budgets: Sequence[Budget], paths: Paths) -> PlanBase:
    """The largest budget whose best batch lies inside its grid (else the largest), and the power law there."""
    inside = [i for i, optimum in enumerate(optima) if not optimum.batch_at_edge]
    chosen = inside[-1] if inside else len(optima) - 1
    base, seq_len = optima[chosen], budgets[chosen].cells[0].seq_len
    path, sample = paths[BEST]
    known = [i for i in inside if optima[i].lr_resolved]
    x = np.log2([budgets[i].tokens / base.tokens for i in known])
    law, samples = None, np.empty((0, 4))
    if len(known) > 1:
        law = PowerLawFit(*_power_law(x, path, known)[0])
        samples = np.empty((0, 4)) if sample is None else _power_law(x, sample, known)[:PLAN_SAMPLES]
    return PlanBase(
        base={
            "tokens": base.tokens,
            "batch_size": base.batch.value / seq_len,
            "seq_len": seq_len,
            "lr": base.lr.value,
            "momentum": momentum,
        },
        at_edge=base.batch_at_edge,
        resolved=base.lr_resolved and not base.batch_at_edge,
        tokens_min=optima[0].tokens,
        tokens_max=optima[-1].tokens,
        samples=tuple((float(q), float(b), float(p), float(r)) for q, p, b, r in samples),
        power_law=law,
    )


def _power_law(x: np.ndarray, path: Path, budgets: list[int]) -> np.ndarray:
    """(batch exponent, lr exponent, log₂ batch, log₂ lr) at the base budget, x = 0, for every resample: (R, 4)."""
    batch, lr = np.polyfit(x, path.batch[:, budgets].T, 1), np.polyfit(x, path.lr[:, budgets].T, 1)
    return np.stack([batch[0], lr[0], batch[1], lr[1]], axis=1)

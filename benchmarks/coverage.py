"""How often the 95% intervals of a batch-scaling fit contain the truth, by simulation.

    python -m benchmarks.coverage [--draws 200] [--resamples 300] [--corner-resamples 100] [--noise 0.005] [--only TEXT]

Every draw is a table of runs whose law is planted (tests/laws/planted.py): four budgets, six batch sizes, five learning
rates and two, one or three seeds, with noise on every run and an offset of every seed in every cell, of `--noise` nats
each. The table goes through `analysis.studies.batch_scaling` as runs do. What an interval should contain is one of

    grid    what the same estimator makes of the table without noise: an interval of seed noise promises this one
    law     the exponent of the law itself: q, q − 1, 1, −1, and for the best batch that of the surface's lowest point

and the distance between the two is the estimator's own error on octaves of batch size, which no interval measures. On
the maximum the lowest loss is a flat stretch: which batch is best there is undefined, also without noise.

Only draws whose interval the fit stands by count: those that a grid's edge cuts off, or without a corner in the grid,
are flagged, get no verdict, and are left out. A line says for each exponent which truth, its value, how often the
interval contains it (± twice the binomial error), the number of draws that count, half the mean width, and the mean of
the estimates minus the truth. Fewer resamples than a fit's 2000 (200 for the surface) cost accuracy: 300 and 100 move a
coverage of 95% by about 1%. 200 draws take about 25 minutes on one core, nearly all of it for the surface;
`--corner-resamples 0` leaves the surface out, and takes 5 minutes.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "laws")]

from planted import Law, planted_runs  # type: ignore[import-not-found]  # noqa: E402

from analysis.fits.cells import budgets_of, table_of_cells  # noqa: E402
from analysis.fits.profile import TOLERANCE, read_budgets  # noqa: E402
from analysis.studies.batch_scaling import surface  # noqa: E402
from analysis.studies.batch_scaling.exponents import (  # noqa: E402
    AT_EDGES,
    NO_FLOOR,
    Exponent,
    best_path,
    fit_corner,
    fit_path,
    fit_plane,
    largest_path,
)
from analysis.studies.batch_scaling.table import Table  # noqa: E402


@dataclass(frozen=True)
class Scenario:
    """A law and the number of seeds it is measured with."""

    name: str
    law: Law
    seeds: int

    @property
    def centre(self) -> float:
        """log2 of the batch size that the smallest budget's grid is centred on: its lowest loss lies inside."""
        return 6.0 if self.law.sharpness == 1 else 7.0

    @property
    def best_batch(self) -> float | None:
        """Exponent of the lowest point of the law's surface; None where it is a stretch."""
        return None if self.law.sharpness is None else 6 / 7 * self.law.q


OFF_GRID = -7.3  # log2 of the best rate at the reference: a third of an octave from the nearest measured one
LAWS = {
    "maximum": Law(sharpness=None, log2_lr=OFF_GRID),
    "smooth, p = 2": Law(sharpness=2.0, log2_lr=OFF_GRID),
    "smooth, p = 1": Law(sharpness=1.0, log2_lr=OFF_GRID),
    "smooth, p = 2, q = 0.45": Law(q=0.45, log2_lr=OFF_GRID),
}
SCENARIOS = [
    Scenario(f"{name}, {seeds} seed{'s' * (seeds > 1)}", law, seeds)
    for seeds in (2, 1, 3)
    for name, law in LAWS.items()
]
BATCH, LR, CORNER = "batch size, ", "learning rate, ", "corner of the surface"
ROUNDING = 1e-9  # a truth this far beside an interval is inside
BEST, LARGEST = "best batch", "largest without loss"


def exponents(runs: pd.DataFrame, options: argparse.Namespace, rng: np.random.Generator | None) -> list[Exponent]:
    """All exponents of one table; without `rng` the table has no noise, and there are no intervals."""
    budgets = budgets_of(table_of_cells(runs))
    tokens = np.array([budget.tokens for budget in budgets])
    _, readings = read_budgets(budgets, options.resamples, rng or np.random.default_rng(0))
    table = Table.of(budgets, readings)
    resampled = table.draws() if rng is not None else None
    observed, drawn = table.profiles, resampled.profiles if resampled else None
    found = fit_path(BEST, tokens, best_path(observed), best_path(drawn) if drawn else None)
    exact = surface.fit_surface(tokens, observed, None, "smooth", free_exponent=True)
    floor = None if exact is None or exact[0].at_bound else exact[0].floor
    largest = largest_path(drawn, TOLERANCE, floor) if drawn else None
    doubt = NO_FLOOR if floor is None else ""
    found += fit_path(LARGEST, tokens, largest_path(observed, TOLERANCE, floor), largest, doubt)
    plane = fit_plane(tokens, observed, drawn)
    if options.corner_resamples and drawn is not None:
        fitted = surface.fit_surface(tokens, observed, drawn, "smooth", free_exponent=True)
        if fitted is not None:
            doubt = "" if all(p.inside(p.lowest).all() for p in observed) else AT_EDGES
            found += fit_corner(*fitted, plane, len(runs), doubt)
    return found + (plane.exponents() if plane else [])


def truths(scenario: Scenario, options: argparse.Namespace) -> Iterator[tuple[str, str, float]]:
    """Name of the exponent, which truth, and its value."""
    quiet = planted_runs(scenario.law, seeds=1, noise=0.0, offset=0.0, centre=scenario.centre)
    for exponent in exponents(quiet, options, None):
        if exponent.estimate is not None and (BEST in exponent.name or LARGEST in exponent.name):
            yield exponent.name, "grid", exponent.estimate.value
    q = scenario.law.q
    if scenario.best_batch is not None:
        yield BATCH + BEST, "law", scenario.best_batch
        yield LR + BEST, "law", scenario.best_batch - 1
    if options.corner_resamples:
        yield BATCH + CORNER, "law", q
        yield LR + CORNER, "law", q - 1
    yield "learning rate against batch size", "law", 1.0
    yield "learning rate against budget", "law", -1.0


def line(name: str, kind: str, truth: float, found: Sequence[Exponent]) -> str:
    """Coverage and its neighbours, of the intervals that are not flagged."""
    head = f"{name:38} {kind:4} {truth:+.3f}"
    known = [e.estimate for e in found if e.estimate is not None and not e.note]
    bounds = np.array([(e.value, e.low, e.high) for e in known if e.low is not None and e.high is not None])
    if not len(bounds):
        return f"{head}       –           0"
    value, low, high = bounds.T
    covered = float(np.mean((low - ROUNDING <= truth) & (truth <= high + ROUNDING)))
    error = 2 * np.sqrt(max(covered * (1 - covered), 0.25 / len(value)) / len(value))
    numbers = f"{covered:6.1%} ±{error:5.1%} {len(value):5d}  {np.mean(high - low) / 2:6.3f}"
    return f"{head}  {numbers}  {np.mean(value) - truth:+.3f}"


def main() -> None:
    """Print a table for every scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--corner-resamples", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.005)
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    options = parser.parse_args()
    surface.RESAMPLES, surface.STARTS = options.corner_resamples, 8
    for scenario in SCENARIOS:
        if options.only not in scenario.name:
            continue
        found: dict[str, list[Exponent]] = {}
        for draw in range(options.draws):
            noise = {"noise": options.noise, "offset": options.noise, "seeds": scenario.seeds}
            runs = planted_runs(scenario.law, draw, centre=scenario.centre, **noise)
            for exponent in exponents(runs, options, np.random.default_rng(draw)):
                found.setdefault(exponent.name, []).append(exponent)
        print(f"\n{scenario.name}: {options.draws} draws")
        print(f"{'exponent':38} of   truth   coverage        draws  half    bias")
        for name, kind, truth in truths(scenario, options):
            print(line(name, kind, truth, found.get(name, [])), flush=True)


if __name__ == "__main__":
    main()

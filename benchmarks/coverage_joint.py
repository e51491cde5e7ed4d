"""How often the 95% intervals of a joint law contain its exponents, and how often N is said to matter, by simulation.

    python -m benchmarks.coverage_joint [--draws 1000] [--tables 20] [--only TEXT] [--workers 2]

Optima: a law's optima are drawn at the sizes and budgets of a design, with a scatter of 0.3 octaves that is even, four
times as large at the largest size as at the smallest, or heavy in the tails (Student's t with 3 degrees of freedom),
and the law is fitted (`analysis.laws.joint`). Designs are `steplaw`, the 16 sizes and budgets of arXiv 2503.04715 whose
best rates lie inside their grid, and grids of 3 × 3 and 5 × 8. Behind a line is what two other intervals of the same
optima would cover: Student's of an even scatter, and percentiles of 500 resamples of the optima.

Tables: every draw is a table of runs (tests/laws/planted_joint.py): 16 sizes and budgets, rates and batch sizes an
octave apart, optima anywhere between them that scatter by 0.15 octaves, noise of 0.002 nats at the smallest size and of
0.002 or 0.0005 at the largest. It goes through `analysis.studies.joint_scaling` as runs do, and each line is of a
reading. N matters to the rate (−0.7) and not to the batch size.

A line says how often the 95% interval holds the exponents of N and of T, half the mean width of N's, and in which share
of the draws N is said to be needed, not needed, or neither.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "laws")]

from planted_joint import JointPlan, joint_runs  # type: ignore[import-not-found]  # noqa: E402

from analysis.fits.outcomes import Outcome  # noqa: E402
from analysis.laws.joint import JointLaw, fit_joint  # noqa: E402
from analysis.studies.joint_scaling.fit import fit_joint_scaling, judge  # noqa: E402
from analysis.tables.arrays import Floats  # noqa: E402
from analysis.tables.sweep import SweepTables  # noqa: E402
from benchmarks.simulated_cases import parser, print_lines  # noqa: E402

TOLERANCE = 0.5  # octaves, as the study has it
SCATTER = 0.3
RESAMPLES = 500
STEPLAW = {
    214663680: (4e9, 11.4e9, 20e9, 100e9),
    268304384: (5e9, 14.2e9, 25e9, 80e9),
    429260800: (8e9, 22.7e9, 40e9, 50e9),
    536872960: (10e9, 28.4e9, 50e9),
    1073741824: (20e9,),
}
DESIGNS: dict[str, list[tuple[float, float]]] = {
    "steplaw": [(n, t) for n, budgets in STEPLAW.items() for t in budgets],
    "3 x 3": [(2.0**n, 2.0**t) for n in (26, 28, 30) for t in (31, 33, 35)],
    "5 x 8": [(2.0**n, 2.0**t) for n in (26, 27, 28, 29, 30) for t in range(30, 38)],
}


@dataclass(frozen=True)
class OptimaCase:
    """Optima about a law with an exponent `a` of N, and 0.6 of T."""

    design: str
    scatter: str
    a: float

    @property
    def name(self) -> str:
        """In words."""
        return f"optima, {self.design}, {self.scatter}, a {self.a:+.1f}"

    def octaves(self, n: Floats, rng: np.random.Generator) -> Floats:
        """What optima are off the law, (places,)."""
        if self.scatter == "heavy":
            return np.asarray(SCATTER * rng.standard_t(3, len(n)))
        rising = 4 ** ((n - n.min()) / np.ptp(n)) if self.scatter == "rising" else 1.0
        return np.asarray(SCATTER * rising * rng.standard_normal(len(n)))


@dataclass(frozen=True)
class TableCase:
    """Tables of runs: what the noise of the largest size is to that of the smallest, and seeds."""

    quiet: float
    seeds: int

    @property
    def name(self) -> str:
        """In words."""
        return f"tables, noise x {self.quiet:g}, {self.seeds} seed{'s' * (self.seeds > 1)}"


def cases() -> Iterator[OptimaCase | TableCase]:
    """All of them."""
    for design in DESIGNS:
        for scatter in ("even", "rising", "heavy"):
            for a in (0.0, -0.3):
                yield OptimaCase(design, scatter, a)
    for quiet, seeds in ((1.0, 1), (0.25, 1), (1.0, 3)):
        yield TableCase(quiet, seeds)


def line(case: OptimaCase | TableCase, draws: int, tables: int) -> str:
    """A case's line, or lines."""
    return _of_optima(case, draws) if isinstance(case, OptimaCase) else _of_tables(case, tables)


def _of_optima(case: OptimaCase, draws: int) -> str:
    n, t = np.log2(np.array(DESIGNS[case.design])).T
    design = np.stack([np.ones_like(n), n - n.mean(), t - t.mean()], axis=1)
    laws, rivals = [], []
    for draw in range(draws):
        # No two cases share their luck.
        rng = np.random.default_rng([draw, crc32(case.name.encode())])
        y = 20 + case.a * (n - n.mean()) + 0.6 * (t - t.mean()) + case.octaves(n, rng)
        law = fit_joint("batch_tokens", 2**y, {"n_params": 2**n, "tokens": 2**t})
        assert law is not None
        laws.append(law)
        rivals.append((*_even(design, y), *_percentile(design, y, rng)))
    truth = (case.a, 0.6)
    others = np.mean(
        [[low <= of <= high for (low, high), of in zip(r, truth * 2, strict=True)] for r in rivals], axis=0
    )
    shares = " ".join(f"{share:6.1%}" for share in others)
    return f"{case.name:52} {_summary(laws, truth)}  even: {shares[:13]}  bootstrap: {shares[14:]}"


def _even(design: Floats, y: Floats) -> list[tuple[float, float]]:
    """Student's intervals of an even scatter, of N and T."""
    found, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(y) - 3
    variances = float(squares[0]) / freedom * np.diag(np.linalg.inv(design.T @ design))
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variances)
    return [(found[i] - half[i], found[i] + half[i]) for i in (1, 2)]


def _percentile(design: Floats, y: Floats, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Percentiles over resamples of the optima, of N and T; those that do not tell the two apart are left out."""
    rows = rng.integers(len(y), size=(RESAMPLES, len(y)))
    squares = np.einsum("rij,rik->rjk", design[rows], design[rows])
    usable = np.linalg.matrix_rank(squares) == 3
    sides = np.einsum("rij,ri->rj", design[rows], y[rows])
    found = np.linalg.solve(squares[usable], sides[usable][:, :, None])[:, :, 0]
    ends = np.quantile(found, (0.025, 0.975), axis=0)
    return [(ends[0, i], ends[1, i]) for i in (1, 2)]


def _of_tables(case: TableCase, draws: int) -> str:
    truths = {"lr": JointPlan().lr, "batch_tokens": JointPlan().batch}
    found: dict[tuple[str, str], list[JointLaw]] = {}
    for draw in range(draws):
        seed = [draw, crc32(case.name.encode())]
        off = np.random.default_rng([1, *seed]).uniform(size=2)  # where optima lie between measured values
        plan = JointPlan(at=(-8 - off[0], 17 + off[1]))
        runs = joint_runs(plan, seeds=case.seeds, seed=seed, quiet=case.quiet, scatter=0.15)
        told = SweepTables({"settings": json.dumps({})}, pd.DataFrame(), runs, pd.DataFrame())
        (source,) = fit_joint_scaling(told, draw).sources
        for each in source.laws:
            if each.law is not None and each.law.term("n_params") is not None:
                found.setdefault((each.quantity, each.reading), []).append(each.law)
    return "\n".join(
        f"{f'{case.name}: {quantity}, {reading}':52} {_summary(laws, truths[quantity])}"
        for (quantity, reading), laws in found.items()
    )


def _summary(laws: Sequence[JointLaw], truth: tuple[float, float]) -> str:
    """Coverage of both exponents, half width, and verdicts."""
    ends = np.array([[(t.exponent.low, t.exponent.high) for t in law.terms] for law in laws], dtype=float)
    held = np.mean((ends[:, :, 0] <= truth) & (truth <= ends[:, :, 1]), axis=0)
    half = float(np.mean(ends[:, 0, 1] - ends[:, 0, 0])) / 2
    verdicts = Counter(judge(law, TOLERANCE) for law in laws)
    kinds = (Outcome.NEEDED, Outcome.NOT_NEEDED, Outcome.CANNOT_TELL)
    shares = " ".join(f"{verdicts[kind] / len(laws):6.1%}" for kind in kinds)
    return f"{held[0]:6.1%} {held[1]:6.1%} {half:7.3f}  {len(laws):5d}  {shares}"


def main() -> None:
    """Print a line for every case, and one for every reading of tables."""
    options = parser(__doc__, draws=1000)
    options.add_argument("--tables", type=int, default=20, help="simulated tables of a case of runs (default 20)")
    given = options.parse_args()
    header = f"{'':52}      N      T  half N  draws  needed    not   open"
    print_lines(header, cases(), partial(line, draws=given.draws, tables=given.tables), given)


if __name__ == "__main__":
    main()

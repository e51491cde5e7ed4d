"""What the readings of a batch-scaling fit say of planted laws that obey the rule and that do not, by simulation.

    python -m benchmarks.coverage_verdicts [--draws 200] [--resamples 200] [--corner-resamples 40] [--only TEXT]
                                           [--workers 2]

Every draw is a table of runs (tests/laws/planted.py): four budgets a factor of 2 (×8) or 4 (×64) apart, eight batch
sizes, five learning rates and three seeds, noise of 0.003 nats on every run and 0.002 on every seed of a cell; smooth
surfaces with p = 1 and 2, whose corner moves as T^q with q = 2/3, the rule's, or 1/2. A line says how often a reading's
verdict is inside, outside and cannot tell. Wrong are "outside" at q = 2/3 and "inside" at 1/2: 5% are allowed.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from analysis.fits.outcomes import Outcome
from analysis.studies.batch_scaling import surface
from benchmarks.coverage import OFF_GRID, Law, exponents, planted_runs
from benchmarks.simulated_cases import parser, print_lines

VERDICTS = (Outcome.INSIDE, Outcome.OUTSIDE, Outcome.CANNOT_TELL)
BUDGETS = {"x8": (16, 17, 18, 19), "x64": (16, 18, 20, 22)}
EXPONENTS = {"1/2": 1 / 2, "2/3": 2 / 3}


@dataclass(frozen=True)
class Case:
    """Names of the planted exponent and of the budgets, and p of the surface."""

    exponent: str
    sharpness: float
    budgets: str

    @property
    def name(self) -> str:
        """In words."""
        return f"q = {self.exponent}, p = {self.sharpness:g}, {self.budgets}"

    def verdicts(self, seed: int, options: Any) -> dict[str, Outcome]:
        """Of one table, by reading."""
        law = Law(q=EXPONENTS[self.exponent], sharpness=self.sharpness, log2_lr=OFF_GRID)
        centre = 6.0 if self.sharpness == 1 else 7.0
        noise = {"noise": 0.003, "offset": 0.002, "seeds": 3}
        runs = planted_runs(law, seed, budgets=BUDGETS[self.budgets], batches=8, centre=centre, **noise)
        found = exponents(runs, options, np.random.default_rng(seed))
        return {each.name: each.verdict for each in found if not each.kind.startswith("plane")}


def cases() -> Iterator[Case]:
    """All of them."""
    for exponent in EXPONENTS:
        for sharpness in (1.0, 2.0):
            for budgets in BUDGETS:
                yield Case(exponent, sharpness, budgets)


def lines(case: Case, options: Any) -> str:
    """A line for every reading."""
    surface.RESAMPLES, surface.STARTS = options.corner_resamples, 8
    found = [case.verdicts(seed, options) for seed in range(options.draws)]
    texts = []
    for reading in dict.fromkeys(name for verdicts in found for name in verdicts):
        counts = Counter(verdicts.get(reading, Outcome.CANNOT_TELL) for verdicts in found)
        shares = " ".join(f"{counts[verdict] / len(found):11.1%}" for verdict in VERDICTS)
        texts.append(f"{case.name:22} {reading:38} {shares} {len(found):5d}")
    return "\n".join(texts)


def main() -> None:
    """Print the lines of every case."""
    options = parser(__doc__, draws=200)
    options.add_argument("--resamples", type=int, default=200, help="drawn curves (default 200)")
    options.add_argument("--corner-resamples", type=int, default=40, help="of them for the surface (default 40)")
    given = options.parse_args()
    header = f"{'':61} " + " ".join(f"{verdict:>11}" for verdict in VERDICTS) + " draws"
    print_lines(header, cases(), partial(lines, options=given), given)


if __name__ == "__main__":
    main()

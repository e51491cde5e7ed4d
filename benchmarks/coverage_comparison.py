"""How often a comparison of arms is right about planted ones, by simulation.

    python -m benchmarks.coverage_comparison [--draws 200] [--resamples 400] [--only TEXT] [--workers 2]

Every draw is a table of runs (tests/laws/planted_arms.py) of 2, 5 or 12 arms at one place, seven rates an octave
apart and 2, 3 or 5 seeds, with noise on every run and a level of every seed in its arm, of 0.01 nats each or of 0.03,
0.01 and 0.003 in turn, and optima anywhere between two rates. It goes through `fit_comparison` as runs do.

    equal      how often the ranking calls some arm worse, though none is: 5% are allowed
    found      how often it calls the last arm worse, which is so by 0.05 nats, beside equal ones
    held       how often the interval of a claim between the first two arms holds their difference, 0.02 nats

With 200 draws 5% come out between 2% and 8% in 19 of 20 lines.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "laws")]

from planted_arms import arm_runs, told  # type: ignore[import-not-found]  # noqa: E402

from analysis.fits.outcomes import Outcome  # noqa: E402
from analysis.studies.comparison import fit  # noqa: E402
from analysis.studies.comparison.result import Comparison  # noqa: E402
from benchmarks.simulated_cases import parser, print_lines  # noqa: E402

LEVEL, WORSE, APART = 1.9, 0.05, 0.02  # nats
NOISES = {"0.01": (0.01,), "0.03, 0.01, 0.003": (0.03, 0.01, 0.003)}


@dataclass(frozen=True)
class Case:
    """Number of arms and of seeds, and name of the noise."""

    arms: int
    seeds: int
    noise: str

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.arms} arms, {self.seeds} seeds, noise {self.noise}"

    def table(self, added: dict[int, float], seed: int) -> Comparison:
        """The comparison of arms of one loss, but for what is added to some (nats)."""
        rng = np.random.default_rng([seed, self.arms, self.seeds])
        parts = []
        for i in range(self.arms):
            sd = NOISES[self.noise][i % len(NOISES[self.noise])]
            levels = {f"arm{i}": {8: LEVEL + added.get(i, 0.0)}}
            draw = int(rng.integers(2**31))
            best = rng.uniform(-6, -4)
            parts.append(arm_runs(levels, noise=sd, offset=sd, seeds=self.seeds, best=best, seed=draw))
        runs = pd.concat(parts, ignore_index=True)
        runs["trial_id"] = [f"t{i}" for i in range(len(runs))]
        claim = {"kind": "better", "of": "arm0", "than": "arm1"}
        return fit.fit_comparison(told(runs, claims=[claim]), seed)


@dataclass(frozen=True)
class Draw:
    """What one draw gave, as in the module's text."""

    equal: bool
    found: bool
    held: bool


def draw(case: Case, seed: int) -> Draw:
    """Three tables: of equal arms, with the last one worse, and with the first one better."""

    def worse(comparison: Comparison) -> set[str]:
        return {rank.arm for rank in comparison.rankings[0].ranks if rank.verdict == Outcome.WORSE}

    last = case.arms - 1
    estimate = case.table({0: -APART}, seed).claims[0].estimate
    held = estimate is not None and estimate.low is not None and estimate.high is not None
    return Draw(
        equal=bool(worse(case.table({}, seed))),
        found=f"arm{last}" in worse(case.table({last: WORSE}, seed)),
        held=bool(held and estimate and (estimate.low or 0.0) <= -APART <= (estimate.high or 0.0)),
    )


def line(case: Case, draws: int, resamples: int) -> str:
    """The shares of one case."""
    fit.RESAMPLES = resamples
    found = np.mean([(one.equal, one.found, one.held) for one in (draw(case, seed) for seed in range(draws))], axis=0)
    return f"{case.name:40} " + " ".join(f"{share:7.1%}" for share in found)


def cases() -> Iterator[Case]:
    """All of them."""
    for arms in (2, 5, 12):
        for seeds in (2, 3, 5):
            for noise in NOISES:
                yield Case(arms, seeds, noise)


def main() -> None:
    """Print a line for every case."""
    options = parser(__doc__, draws=200)
    options.add_argument("--resamples", type=int, default=400, help="drawn curves (default 400)")
    given = options.parse_args()
    each = partial(line, draws=given.draws, resamples=given.resamples)
    print_lines(f"{'case':40} {'equal':>7} {'found':>7} {'held':>7}", cases(), each, given)


if __name__ == "__main__":
    main()

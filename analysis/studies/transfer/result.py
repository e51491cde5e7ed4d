"""The result of a transfer experiment, frozen, and its words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.fits.intervals import CONFIDENCE, Estimate
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Missing, Outcome
from analysis.fits.seeds import more_seeds
from analysis.studies.transfer.costs import Cost
from analysis.studies.transfer.noise import Noise
from analysis.studies.transfer.settings import CellSettings

# Nats; stated before any result: a regret whose whole interval is below it counts as none.
MARGIN = 0.02
WORST = (Outcome.DIVERGED, Outcome.LOSES, Outcome.CANNOT_TELL)  # in this order


@dataclass(frozen=True)
class Searched:
    """What the searches of one search seed found and took: `proxy` on the proxy, `direct_search` at the target.

    Losses are means over fresh seeds, and `difference` is zero-shot minus direct; None where a run diverged.
    """

    seed: int
    zero_shot: float | None
    direct: float | None
    difference: float | None
    proxy: Cost
    direct_search: Cost


@dataclass(frozen=True)
class Cell:
    """A method at a target. Losses are means over searches and fresh seeds; `regret` is zero-shot minus direct.

    It is paired by search and seed. None where a run diverged. `run_flops` and `run_seconds` are a zero-shot run's.
    """

    method: str
    optimizer: str
    target: str
    changes: str
    zero_shot: float | None
    direct: float | None
    regret: Estimate | None
    noise: Noise
    n_seeds: int
    same_values: bool
    searches: tuple[Searched, ...]
    run_flops: float
    run_seconds: float

    @property
    def verdict(self) -> Outcome:
        """What the interval of the regret allows to say."""
        return Outcome.DIVERGED if self.zero_shot is None else judge(self.regret)

    @property
    def lacks(self) -> Lacks:
        """What the verdict lacks; the directly tuned values of a target without a regret diverge with other seeds."""
        if not self.verdict.open:
            return SETTLED
        return Lacks.of([Missing.TRIALS]) if self.regret is None else more_seeds(self.n_seeds, self.regret, judge)

    @property
    def holds(self) -> str:
        """What the regret's interval holds."""
        return "noise of seeds and luck of searches" if self.holds_luck else "noise of seeds"

    @property
    def holds_luck(self) -> bool:
        """Whether the regret's interval holds the luck of the searches, besides the noise of seeds."""
        return len(self.searches) > 1

    @property
    def proxy_flops(self) -> float:
        """FLOPs of tuning the proxy once: a mean over the searches, as are the others."""
        return fmean(one.proxy.flops for one in self.searches)

    @property
    def direct_flops(self) -> float:
        """FLOPs of tuning at the target once."""
        return fmean(one.direct_search.flops for one in self.searches)

    @property
    def proxy_seconds(self) -> float:
        """Seconds of one worker for tuning the proxy once."""
        return fmean(one.proxy.seconds for one in self.searches)

    @property
    def direct_seconds(self) -> float:
        """Seconds of one worker for tuning at the target once."""
        return fmean(one.direct_search.seconds for one in self.searches)

    @property
    def flops_ratio(self) -> float:
        """FLOPs of tuning at the target ÷ FLOPs of tuning the proxy, one search against one."""
        return self.direct_flops / self.proxy_flops

    @property
    def seconds_ratio(self) -> float:
        """The same in seconds of one worker."""
        return self.direct_seconds / self.proxy_seconds if self.proxy_seconds else float("nan")


def place(cell: Cell | CellSettings) -> str:
    """What a cell is called in sentences."""
    return f"{cell.method} at {cell.target}"


def judge(regret: Estimate | None) -> Outcome:
    """What the interval of a regret allows to say."""
    if regret is None or regret.low is None or regret.high is None:
        return Outcome.CANNOT_TELL
    if regret.high < MARGIN:
        return Outcome.TRANSFERS
    return Outcome.LOSES if regret.low > MARGIN else Outcome.CANNOT_TELL


@dataclass(frozen=True)
class ProxyTransfer:
    """All cells, by target and method as the experiment lists them.

    `skipped` says what could not be compared, and `unpaired` names those of it that are a method's whole target.
    """

    rule: str
    cells: tuple[Cell, ...]
    skipped: tuple[str, ...]
    unpaired: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def targets(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(cell.target for cell in self.cells))

    def of(self, method: str) -> list[Cell]:
        """A method's cells."""
        return [cell for cell in self.cells if cell.method == method]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        cells = [
            asdict(cell) | {"verdict": cell.verdict, "interval_holds": cell.holds, **_spent(cell)}
            for cell in self.cells
        ]
        return {"confidence": CONFIDENCE, "margin": MARGIN, **asdict(self), "cells": cells}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the names of their CSV: a row per cell, and one per cell and search seed."""
        searches = [_search_numbers(cell, one) for cell in self.cells for one in cell.searches]
        return {
            "transfer_regret": pd.DataFrame(_numbers(cell) for cell in self.cells),
            "transfer_searches": pd.DataFrame(searches),
        }

    def judgements(self) -> tuple[Judgement, ...]:
        """One per method and target, also of those that could not be compared."""
        lost = Lacks.of([Missing.RUNS])
        return (
            *(Judgement(place(cell), cell.verdict, cell.lacks) for cell in self.cells),
            *(Judgement(name, Outcome.CANNOT_TELL, lost) for name in self.unpaired),
        )

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """The table as text; what the searches took, each by itself, has room on the page only."""
        title = f"Transfer regret (nats), rule {self.rule}; transfers: interval below {MARGIN:g}"
        rows = pd.DataFrame(texts(cell) for cell in self.cells)
        return [(title, rows.drop(columns=["proxy search", "direct search"]))]


def _numbers(cell: Cell) -> dict[str, Any]:
    regret = cell.regret
    return {
        "method": cell.method,
        "target": cell.target,
        "zero_shot_loss": cell.zero_shot,
        "direct_loss": cell.direct,
        "regret": regret and regret.value,
        "regret_low": regret and regret.low,
        "regret_high": regret and regret.high,
        "standard_error": cell.noise.error,
        "degrees": cell.noise.degrees,
        "search_sd": cell.noise.searches,
        "seed_sd": cell.noise.seeds,
        "n_searches": len(cell.searches),
        "n_seeds": cell.n_seeds,
        "interval_holds": cell.holds,
        "verdict": cell.verdict,
        **_spent(cell),
    }


def _spent(cell: Cell) -> dict[str, float]:
    """Means over the searches, and their ratios."""
    names = ("proxy_flops", "direct_flops", "flops_ratio", "proxy_seconds", "direct_seconds", "seconds_ratio")
    return {name: getattr(cell, name) for name in names}


def _search_numbers(cell: Cell, one: Searched) -> dict[str, Any]:
    return {
        "method": cell.method,
        "target": cell.target,
        "search_seed": one.seed,
        "zero_shot_loss": one.zero_shot,
        "direct_loss": one.direct,
        "difference": one.difference,
        **{f"proxy_{key}": value for key, value in _cost(one.proxy).items()},
        **{f"direct_{key}": value for key, value in _cost(one.direct_search).items()},
    }


def _cost(cost: Cost) -> dict[str, Any]:
    names = ("study", "complete", "pruned", "diverged", "failed", "flops", "seconds", "best_loss")
    return {name: getattr(cost, name) for name in names} | {"values": values_text(cost.best_params)}


def texts(cell: Cell) -> dict[str, str]:
    """A cell as a row of texts."""
    return {
        "target": cell.target,
        "method": cell.method,
        "zero-shot": _loss(cell.zero_shot),
        "direct": _loss(cell.direct),
        "regret": regret_text(cell),
        "verdict": cell.verdict,
        "searches": str(len(cell.searches)),
        "proxy search": f"{cell.proxy_flops:.2g} FLOPs, {cell.proxy_seconds:,.0f} s",
        "direct search": f"{cell.direct_flops:.2g} FLOPs, {cell.direct_seconds:,.0f} s",
        "saved": f"{cell.flops_ratio:.1f}× FLOPs, {cell.seconds_ratio:.1f}× time",
    }


def regret_text(cell: Cell) -> str:
    """The regret with its interval, or why there is none."""
    if cell.same_values:
        return "0 (the same values)"
    return cell.regret.text("+.3f") if cell.regret else "–"


def _loss(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3f}"


def values_text(values: Mapping[str, float]) -> str:
    """Sampled values in short."""
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def finding(method: str, cells: Sequence[Cell]) -> dict[str, str]:
    """What the method's cells allow to say: the worst verdict and where, all regrets, and the compute."""
    verdicts = {cell.verdict for cell in cells}
    worst = next((word for word in WORST if word in verdicts), Outcome.TRANSFERS)
    where = "" if len(verdicts) == 1 else ": " + ", ".join(cell.target for cell in cells if cell.verdict == worst)
    parts = [
        f"{cell.target} {regret_text(cell)}" if cell.regret else f"{cell.target}: a run diverged" for cell in cells
    ]
    ratios = ", ".join(f"{cell.flops_ratio:.1f} ({cell.target})" for cell in cells)
    total = sum(cell.direct_flops for cell in cells) / cells[0].proxy_flops
    searches = max(len(cell.searches) for cell in cells)
    means = f" (means of {searches} searches)" if searches > 1 else ""
    each = "" if len(verdicts) == 1 else " " + "; ".join(f"{cell.target}: {cell.verdict}" for cell in cells) + "."
    return {
        "of": method,
        "verdict": worst + where,
        "text": f"The proxy's values lose, in nats: {'; '.join(parts)}.{each} Tuning at the target took {ratios} times "
        f"the FLOPs of tuning the proxy, all targets together {total:.1f} times{means}.",
    }

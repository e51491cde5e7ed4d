"""The result of a transfer experiment, frozen, and its words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.fits.intervals import CANNOT_TELL, CONFIDENCE, Estimate
from analysis.studies.transfer.costs import Cost

# Nats; stated before any result: a regret whose whole interval is below it counts as none.
MARGIN = 0.02
TRANSFERS, LOSES, DIVERGES = "transfers", "loses", "diverges"


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a paired difference, nats, and the degrees of freedom it is known with; None if unknown."""

    sd: float | None
    degrees: float


@dataclass(frozen=True)
class Cell:
    """A method at a target. Losses are means over fresh seeds; `regret` is zero-shot minus direct, paired by seed.

    None where a run diverged. `run_flops` and `run_seconds` are a zero-shot run's.
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
    proxy: Cost
    search: Cost
    run_flops: float
    run_seconds: float

    @property
    def verdict(self) -> str:
        """What the interval of the regret allows to say."""
        if self.zero_shot is None:
            return DIVERGES
        if self.regret is None or self.regret.low is None or self.regret.high is None:
            return CANNOT_TELL
        if self.regret.high < MARGIN:
            return TRANSFERS
        return LOSES if self.regret.low > MARGIN else CANNOT_TELL

    @property
    def flops_ratio(self) -> float:
        """FLOPs of tuning at the target ÷ FLOPs of tuning the proxy."""
        return self.search.flops / self.proxy.flops

    @property
    def seconds_ratio(self) -> float:
        """The same in seconds of one worker."""
        return self.search.seconds / self.proxy.seconds if self.proxy.seconds else float("nan")


@dataclass(frozen=True)
class ProxyTransfer:
    """All cells, by target and method as the experiment lists them.

    `skipped` says what could not be compared.
    """

    rule: str
    cells: tuple[Cell, ...]
    skipped: tuple[str, ...]

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
        extra = [
            {"verdict": c.verdict, "flops_ratio": c.flops_ratio, "seconds_ratio": c.seconds_ratio} for c in self.cells
        ]
        cells = [asdict(cell) | more for cell, more in zip(self.cells, extra, strict=True)]
        return {"confidence": CONFIDENCE, "margin": MARGIN, **asdict(self), "cells": cells}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its table, by the name of its CSV."""
        return {"transfer_regret": pd.DataFrame(_numbers(cell) for cell in self.cells)}

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
        "noise": cell.noise.sd,
        "degrees": cell.noise.degrees,
        "n_seeds": cell.n_seeds,
        "verdict": cell.verdict,
        **{f"proxy_{key}": value for key, value in _cost(cell.proxy).items()},
        **{f"direct_{key}": value for key, value in _cost(cell.search).items()},
        "flops_ratio": cell.flops_ratio,
        "seconds_ratio": cell.seconds_ratio,
        "proxy_values": values_text(cell.proxy.best_params),
        "direct_values": values_text(cell.search.best_params),
    }


def _cost(cost: Cost) -> dict[str, Any]:
    names = ("complete", "pruned", "diverged", "failed", "flops", "seconds", "best_loss")
    return {name: getattr(cost, name) for name in names}


def texts(cell: Cell) -> dict[str, str]:
    """A cell as a row of texts."""
    return {
        "target": cell.target,
        "method": cell.method,
        "zero-shot": _loss(cell.zero_shot),
        "direct": _loss(cell.direct),
        "regret": regret_text(cell),
        "verdict": cell.verdict,
        "proxy search": _spent(cell.proxy),
        "direct search": _spent(cell.search),
        "saved": f"{cell.flops_ratio:.1f}× FLOPs, {cell.seconds_ratio:.1f}× time",
    }


def regret_text(cell: Cell) -> str:
    """The regret with its interval, or why there is none."""
    if cell.same_values:
        return "0 (the same values)"
    return cell.regret.text("+.3f") if cell.regret else "–"


def _loss(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3f}"


def _spent(cost: Cost) -> str:
    return f"{cost.flops:.2g} FLOPs, {cost.seconds:,.0f} s"


def values_text(values: Mapping[str, float]) -> str:
    """Sampled values in short."""
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def finding(method: str, cells: Sequence[Cell]) -> dict[str, str]:
    """What the method's cells allow to say: the worst verdict and where, all regrets, and the compute."""
    verdicts = {cell.verdict for cell in cells}
    worst = next((word for word in (DIVERGES, LOSES, CANNOT_TELL) if word in verdicts), TRANSFERS)
    where = "" if len(verdicts) == 1 else ": " + ", ".join(cell.target for cell in cells if cell.verdict == worst)
    parts = [
        f"{cell.target} {regret_text(cell)}" if cell.regret else f"{cell.target}: a run diverged" for cell in cells
    ]
    ratios = ", ".join(f"{cell.flops_ratio:.1f} ({cell.target})" for cell in cells)
    total = sum(cell.search.flops for cell in cells) / cells[0].proxy.flops
    each = "" if len(verdicts) == 1 else " " + "; ".join(f"{cell.target}: {cell.verdict}" for cell in cells) + "."
    return {
        "of": method,
        "verdict": worst + where,
        "text": f"The proxy's values lose, in nats: {'; '.join(parts)}.{each} Tuning at the target took {ratios} times "
        f"the FLOPs of tuning the proxy, all targets together {total:.1f} times.",
    }

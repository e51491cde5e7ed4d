"""The page on tuning a proxy and using its values at larger targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.report.texts import counts, power, thousands
from analysis.studies.transfer.costs import Cost
from analysis.studies.transfer.result import MARGIN, ProxyTransfer, finding, texts, values_text
from analysis.tables.sweep import SweepTables

VARYING = ("width", "depth", "tokens", "batch_size", "seq_len", "lr", "momentum")
UNKNOWN = "unknown"
DIVERGED = "A way with a diverged run has no loss and no regret; it is called diverging."


@dataclass(frozen=True)
class Search:
    """One search: where it was made, for which method and with which seed, and what it took."""

    place: str
    method: str
    seed: int
    cost: Cost


def context(tables: SweepTables, fit: ProxyTransfer) -> dict[str, Any]:
    """The template's own names."""
    searches = _searches(fit)
    return {
        "verdicts": [finding(method, fit.of(method)) for method in fit.methods],
        "cells": [texts(cell) for cell in fit.cells],
        "values": _values(searches),
        "targets": {cell.target: cell.changes for cell in fit.cells},
        "skipped": fit.skipped,
        "rule": fit.rule,
        "margin": f"{MARGIN:g}",
        "noise": _noise(fit),
        "one_search": [f"{cell.method} at {cell.target}" for cell in fit.cells if not cell.holds_luck],
        "several": any(cell.holds_luck for cell in fit.cells),
        "pruned": sum(search.cost.pruned for search in searches),
        "search_lengths": sorted({search.cost.trials for search in searches}),
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run after the searches: one row per method and setting."""
    keys = ["optimizer", "width", "depth", "tokens", "batch_size", "lr"]
    return [
        {
            "optimizer": str(rows["optimizer"].iloc[0]),
            "width": str(rows["width"].iloc[0]),
            "depth": str(rows["depth"].iloc[0]),
            "tokens": thousands(rows["tokens"].iloc[0]),
            "batch size": str(rows["batch_size"].iloc[0]),
            "learning rate": power(rows["lr"].iloc[0]),
            "seeds": str(rows["seed"].nunique()),
            **counts(rows),
        }
        for _, rows in runs.groupby(keys, sort=True)
    ]


def _searches(fit: ProxyTransfer) -> list[Search]:
    """First the proxy's, each once though it serves all targets."""
    every = [(cell, one) for cell in fit.cells for one in cell.searches]
    proxies = {one.proxy.study: Search("proxy", cell.method, one.seed, one.proxy) for cell, one in every}
    return [*proxies.values(), *(Search(cell.target, cell.method, one.seed, one.direct_search) for cell, one in every)]


def _values(searches: Sequence[Search]) -> list[dict[str, str]]:
    """What every search found, and how its trials ended."""
    return [
        {
            "tuned at": search.place,
            "method": search.method,
            "search seed": str(search.seed),
            "best values": values_text(search.cost.best_params),
            "loss at the search's seed": f"{search.cost.best_loss:.3f}",
            "whole trials": str(search.cost.complete),
            "pruned": str(search.cost.pruned),
            "diverged": str(search.cost.diverged),
            "failed": str(search.cost.failed),
        }
        for search in searches
    ]


def _noise(fit: ProxyTransfer) -> str:
    """The ranges over the cells of the standard deviations that a regret's interval is made of."""
    searches = _range([cell.noise.searches for cell in fit.cells])
    return f"{_range([cell.noise.seeds for cell in fit.cells])} of a seed" + (
        f", {searches} of a search" if searches != UNKNOWN else ""
    )


def _range(deviations: Sequence[float | None]) -> str:
    known = [deviation for deviation in deviations if deviation is not None]
    if not known:
        return UNKNOWN
    low, high = f"{min(known):.3f}", f"{max(known):.3f}"
    return f"{low} nats" if low == high else f"{low} to {high} nats"
